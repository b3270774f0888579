"""The text of generated modules: a function of the model alone, the same at every size, NumPy alone, nothing dead in it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

import symbolic
from tests.emitting import module_text

SPECS = sorted(path.stem for path in Path("specs").glob("*.yaml"))


@cache
def text_of(name: str) -> str:
    return module_text(symbolic.load(f"specs/{name}.yaml"), tangent=True, hvp=True)


def spec_of(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load(Path("specs", f"{name}.yaml").read_text()))


def plain(text: str, numbers: dict[int, str]) -> str:
    """The code below the header with each number that stands for a size under the size's name."""
    body = text.split('"""', 2)[2]
    return re.sub(r"(?<![.(\d])\d+(?![.\d])", lambda m: numbers.get(int(m[0]), m[0]), body)


@pytest.mark.parametrize("name", SPECS)
def test_modules_import_numpy_alone(name: str) -> None:
    tree = ast.parse(text_of(name))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]
    assert not re.search(r"\b(eval|exec|open|__import__|compile)\(", text_of(name))


@pytest.mark.parametrize("name", SPECS)
def test_modules_compile_without_a_warning(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text(text_of(name))
    run = subprocess.run([sys.executable, "-W", "error", "-m", "py_compile", str(path)], capture_output=True, text=True,
                         check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", SPECS)
def test_nothing_in_a_module_is_dead(name: str) -> None:
    """Each name that a function binds is read in it; each helper is called; each line fits on a screen."""
    tree = ast.parse(text_of(name))
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        if function.name.startswith("_"):
            assert function.name in called, f"{function.name} is never called"
        nodes = list(ast.walk(function))
        read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        read |= {n.target.id for n in nodes if isinstance(n, ast.AugAssign) and isinstance(n.target, ast.Name)}  # through a view
        # Sizes come together from the door, whether a function needs all of them or not.
        sizes = {n.id for s in nodes if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call)
                 and ast.unparse(s.value.func).startswith("_check") for n in ast.walk(s.targets[0]) if isinstance(n, ast.Name)}
        made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        assert made - read - sizes - {"_"} == set(), f"{function.name} never reads these"


@pytest.mark.parametrize("name", SPECS)
def test_nothing_is_computed_twice(name: str) -> None:
    """No function of a module has the same right-hand side twice between writes (transcendental functions and products)."""
    for function in ast.parse(text_of(name)).body:
        if not isinstance(function, ast.FunctionDef) or function.name not in ("value_and_grad", "loss", "predict"):
            continue
        seen: dict[str, int] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and re.match(r"np\.(exp|tanh|log|sqrt)$|_sigmoid$", ast.unparse(node.func)):
                key = ast.unparse(node)
                if "out=" not in key:
                    seen[key] = seen.get(key, 0) + 1
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) or (
                isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".dot") and len(node.args) == 1
            ):
                key = ast.unparse(node)
                seen[key] = seen.get(key, 0) + 1
        assert [key for key, count in seen.items() if count > 1] == [], function.name


@pytest.mark.parametrize("name", SPECS)
def test_lines_are_readable(name: str) -> None:
    text = module_text(symbolic.load(f"specs/{name}.yaml"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 220
    assert not any(line != line.rstrip() for line in lines)
    assert "\n\n\n\n" not in text
    assert "np.where(np.where" not in text
    for number, line in enumerate(lines):
        if line.lstrip().startswith("# (") and number + 1 < len(lines):
            assert lines[number + 1].strip(), "an equation without its line"


@pytest.mark.parametrize("name", ["lstm_lm", "char_rnn", "gru_classifier", "second_order"])
def test_sizes_as_symbols_leave_no_number(name: str) -> None:
    """With every size free, the text has no size in it at all."""
    data = {key: value for key, value in spec_of(name).items() if key != "sizes"}
    text = module_text(symbolic.load(data))
    assert "dims" not in text
    assert not re.findall(r"(?<![\w.\-(])\d{2,}(?![\w.)])", "\n".join(
        line for line in text.split("def value_and_grad", 1)[1].split("def init", 1)[0].splitlines()
        if not line.lstrip().startswith("#")))


@pytest.mark.parametrize(("key", "values"), [("T", (10, 1_000_000)), ("H", (5, 4096)), ("E", (7, 777))])
def test_the_text_is_the_same_at_every_size(key: str, values: tuple[int, int]) -> None:
    data = spec_of("lstm_lm")
    texts = []
    for value in values:
        sizes = {**data["sizes"], "V": 61, "E": 128, "H": 256, key: value}
        texts.append(module_text(symbolic.load({**data, "sizes": sizes})))
    first, second = (re.sub(rf"^{key} = \d+$", f"{key} = ...", text.split('"""', 2)[2], flags=re.MULTILINE) for text in texts)
    assert first.splitlines() == second.splitlines()


@pytest.mark.parametrize("rows", [(99, 900), (97, 2000)])
def test_the_text_of_numbers_written_as_shapes(rows: tuple[int, int]) -> None:
    texts = []
    for count in rows:
        model = symbolic.load({
            "name": "plain", "inputs": {"x": ["N", count], "y": {"shape": ["N"], "kind": "index", "below": 6}},
            "layers": [{"name": "a", "type": "dense", "units": 7, "activation": "tanh"},
                       {"name": "b", "type": "dense", "units": 6}],
            "loss": {"type": "softmax_cross_entropy", "target": "y"},
        })
        texts.append(plain(module_text(model), {count: "D"}))
    assert texts[0] == texts[1]


def deep(layers: int) -> symbolic.Model:
    dense = [{"name": f"l{k}", "type": "dense", "units": 8, "activation": "tanh"} for k in range(layers)]
    return symbolic.load({"name": "deep", "inputs": {"x": ["N", 8], "y": ["N", 8]}, "layers": dense,
                          "loss": {"type": "mse", "target": "y"}})


def test_text_and_work_grow_linearly_with_layers() -> None:
    from codegen.pipeline import stages

    lines = {n: len(module_text(deep(n)).splitlines()) for n in (4, 8, 16, 32, 64)}
    equations = {n: len(stages(deep(n)).optimised.equations) for n in (4, 8, 16, 32, 64)}
    for counted in (lines, equations):
        step = (counted[16] - counted[8]) // 8
        for few, many in ((8, 16), (16, 32), (32, 64)):
            assert counted[many] - counted[few] == step * (many - few)


def test_the_same_bytes_under_another_hash_seed(tmp_path: Path) -> None:
    script = ("import symbolic, sys\nfrom tests.emitting import module_text\n"
              "for name in sys.argv[1:]: print(module_text(symbolic.load(f'specs/{name}.yaml'), wrt='all', "
              "tangent=True, hvp=True))\n")
    names = ["gru_classifier", "lenet_digits", "lstm_lm", "leaky_integrator"]
    outputs = [
        subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."}).stdout
        for seed in ("1", "4242")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 10_000


def test_a_second_rendering_is_the_same() -> None:
    assert module_text(symbolic.load("specs/lstm_lm.yaml")) == module_text(symbolic.load("specs/lstm_lm.yaml"))


def body_of(text: str, names: dict[str, str]) -> str:
    """The functions that compute, under other names; the header names the spec's digest, ``init`` the initialisers."""
    body = text.split("\ndef value_and_grad", 1)[1].split("\n\n\ndef init", 1)[0]

    def renamed(match: re.Match[str]) -> str:
        return match[1] + "_".join(names.get(part, part) for part in match[2].split("_"))

    return re.sub(r"\b((?:d_|t_)?cell[._](?:tanh_)?)((?:[A-Za-z]_)*[A-Za-z])(?![A-Za-z])", renamed, body)


@pytest.mark.parametrize("letters", ["KJeqmoslpg", "ZYwvuqsrpX", "abcdefghij", "jihgfedcba"])
def test_an_lstm_written_out_generates_the_same_bytes(letters: str) -> None:
    """Names aside, whatever they are: the order of factors and equations is that of the declarations."""
    data = {"name": "net", "sizes": {"H": 5}, "inputs": {"x": ["T", "N", 3], "y": ["T", "N", "H"]},
            "loss": {"type": "mse", "target": "y"}}
    built = symbolic.load({**data, "layers": [{"name": "cell", "type": "lstm", "units": "H"}]})
    own = dict(zip("WUaifgochb", letters, strict=True))
    equations = """
        {a}[t,n,r] = {W}[r,d]*x[t,n,d] + {U}[r,j]*{h}[t-1,n,j] + {b}[r]
        {i}[t,n,k] = sigmoid({a}[t,n,k+0])
        {f}[t,n,k] = sigmoid({a}[t,n,H+k])
        {g}[t,n,k] = tanh({a}[t,n,2*H+k])
        {o}[t,n,k] = sigmoid({a}[t,n,3*H+k])
        {c}[t,n,k] = {f}[t,n,k]*{c}[t-1,n,k] + {i}[t,n,k]*{g}[t,n,k]
        {h}[t,n,k] = {o}[t,n,k]*tanh({c}[t,n,k])
    """
    written = symbolic.load({**data, "layers": [{
        "name": "cell", "type": "equations", "output": own["h"],
        "parameters": {own["W"]: ["4*H", 3], own["U"]: ["4*H", "H"], own["b"]: ["4*H"]},
        "states": {own["h"]: ["T", "N", "H"], own["c"]: ["T", "N", "H"]}, "ranges": {"k": "H"},
        "equations": dedent(equations.format(**own)),
    }]})
    assert body_of(module_text(written), {v: k for k, v in own.items()}) == body_of(module_text(built), {})


def test_a_convolution_written_out_generates_the_same_bytes() -> None:
    data = {"name": "net", "inputs": {"x": ["N", 2, 7, 6], "goal": ["N", 4, 4, 3]}, "loss": {"type": "mse", "target": "goal"}}
    built = symbolic.load({**data, "layers": [
        {"name": "cell", "type": "conv2d", "channels": 4, "kernel": 3, "stride": 2, "padding": 1}]})
    own = symbolic.load({**data, "layers": [{
        "name": "cell", "type": "equations", "output": "y", "parameters": {"K": [4, 2, 3, 3], "b": [4]},
        "states": {"y": ["N", 4, 4, 3]},
        "equations": "y[n,o,u,v] = K[o,c,p,q]*x[n,c,2*u+p-1,2*v+q-1] + b[o]",
    }]})
    assert body_of(module_text(own), {"K": "W"}) == body_of(module_text(built), {})
