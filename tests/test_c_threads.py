"""What the C target computes in shares: which range is cut, that their order does not matter, that threads run them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from codegen.loops.ir import For, Product, Shares, walk
from codegen.pipeline import Options, render
from tests.c_driver import Driven, compile_c, compiler
from tests.c_models import MODELS
from tests.conftest import ROOT
from tests.test_loops import routine_of

SPECS = sorted(path.stem for path in (ROOT / "specs").glob("*.yaml"))


def ranges(equations: str, inputs: dict[str, Any], parameters: dict[str, Any] | None = None) -> list[str]:
    """For each node that is computed in shares what it writes, and the index whose range is cut."""
    model = symbolic.load(f"{equations}\nloss = sum(y[i,j], over=(i,j))", loss="loss", name="m",
                          inputs=inputs, parameters=parameters or {})
    found = []
    for node in routine_of(model)[0].body:
        if isinstance(node, Shares):
            cut: set[str] = set()
            for leaf, loops in walk(node.body):
                cut |= {str(loop.index.symbol) for loop in loops if isinstance(loop, For) and loop.shared}
                cut |= {leaf.shared} if isinstance(leaf, Product) and leaf.shared else set()
            names = dict.fromkeys(equation.name for nest in node.body for equation in getattr(nest, "equations", ()))
            found.append(f"{', '.join(names)}: {', '.join(sorted(cut))}")
    return found


@pytest.mark.parametrize(
    ("equations", "inputs", "parameters", "expected"),
    [
        ("y[i,j] = exp(x[j,i])", {"x": ["N", "M"]}, None, "y: i"),
        # the rows of a product where there are more of them, and else its columns
        ("y[i,j] = x[i,k]*W[k,j]", {"x": ["N", 64]}, {"W": [64, 8]}, "y: rows"),
        ("y[i,j] = x[i,k]*W[k,j]", {"x": [8, 64]}, {"W": [64, "N"]}, "y: columns"),
        # the same row may be added to again and again, the same column is not
        ("y[i,j] = exp(E[s[i],j])", {"s": {"shape": ["N"], "kind": "index", "below": 9}}, {"E": [9, "M"]}, "d_E: j"),
    ],
    ids=["outermost", "rows", "columns", "scatter"],
)
def test_the_range_that_is_cut(equations: str, inputs: dict[str, Any], parameters: dict[str, Any] | None, expected: str) -> None:
    assert expected in ranges(equations, inputs, parameters)


def test_a_loop_over_time_is_cut_along_its_batch() -> None:
    made, _ = routine_of(symbolic.load(ROOT / "specs" / "lstm_lm.yaml"))
    steps = [node for node in made.body if isinstance(node, Shares)
             and any(leaf.packed for leaf, _ in walk(node.body) if isinstance(leaf, Product))]
    assert [str(node.over.extent) for node in steps] == ["N", "N"]  # forwards and backwards
    for node in steps:
        (loop,) = node.body
        assert isinstance(loop, For)
        assert str(loop.index.symbol) == "t"
        assert not loop.shared


def test_what_waits_for_itself_is_not_cut() -> None:
    """A recurrence without a batch, a sum into one number."""
    text = "a[t,i] = U[i,j]*h[t-1,j] + x[t,i]\nh[t,i] = tanh(a[t,i])\nloss = sum(h[t,i], over=(t,i))"
    model = symbolic.load(text, loss="loss", name="m", inputs={"x": ["T", "H"]}, parameters={"U": ["H", "H"]})
    made, _ = routine_of(model)
    for node in made.body:
        if isinstance(node, Shares):
            assert not any(leaf.packed for leaf, _ in walk(node.body) if isinstance(leaf, Product))
            assert all("loss" not in equation.name for nest in node.body for equation in getattr(nest, "equations", ()))


SHARED = re.compile(r"^ +IN_SHARES", re.MULTILINE)
LOOP = "for (ptrdiff_t share = 0; share < THREADS; ++share) {"


def backwards(driven: Driven, folder: Path) -> tuple[Path, Path]:
    """The files with their shares in the other order: what one share needed of an earlier one it would not find."""
    path, main = driven.write(folder)
    assert LOOP in path.read_text() or not SHARED.search(path.read_text())
    path.write_text(path.read_text().replace(LOOP, "for (ptrdiff_t share = THREADS; share-- > 0;) {"))
    return path, main


@pytest.mark.gcc
@pytest.mark.parametrize("name", [*SPECS, "lengths", "directions", "overlapping maxima"])
def test_shares_in_any_order(name: str, tmp_path: Path) -> None:
    """Three shares, the last one first, under the sanitizers; sizes of which some shares get nothing."""
    if name in MODELS:
        driven, runs, given = Driven(MODELS[name].make(), MODELS[name].options), MODELS[name].sizes, MODELS[name].given
    else:
        driven, given = Driven(symbolic.load(ROOT / "specs" / f"{name}.yaml"), Options(wrt="all", dtype="float64")), {}
        runs = ({"T": 7, "N": 13}, {"T": 2, "N": 1})
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover", f"-D{driven.made.name.upper()}_THREADS=3")
    program = compile_c(compiler("gcc") or [], flags, backwards(driven, tmp_path), tmp_path / "program")
    for sizes in runs:
        driven.check([[program]], sizes, driven.values(sizes, driven.made.dtype, **given), driven.made.dtype)


@pytest.mark.gcc
@pytest.mark.parametrize("name", SPECS)
def test_threads_even_where_they_are_not_worth_it(name: str, tmp_path: Path) -> None:
    driven = Driven(symbolic.load(ROOT / "specs" / f"{name}.yaml"), Options(wrt="all", dtype="float64"))
    path, main = driven.write(tmp_path)
    text = path.read_text()
    path.write_text(text.replace(" if(worth)", ""))
    assert " if(worth)" in text or not SHARED.search(text)
    flags = ("-O1", "-fopenmp", f"-D{driven.made.name.upper()}_THREADS=3")
    program = compile_c(compiler("gcc") or [], flags, (path, main), tmp_path / "program")
    for sizes in ({"T": 7, "N": 13}, {"T": 2, "N": 1}):
        driven.check([[program]], sizes, driven.values(sizes, "float64"), "float64")


@pytest.mark.gcc
def test_no_thread_is_an_error(tmp_path: Path) -> None:
    driven = Driven(symbolic.load(ROOT / "specs" / "mlp.yaml"), Options())
    path, _ = driven.write(tmp_path)
    for count in (0, -1):
        line = [*(compiler("gcc") or []), f"-DMLP_THREADS={count}", "-c", str(path), "-o", str(tmp_path / "made.o")]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "MLP_THREADS: expected at least 1" in done.stderr


@pytest.mark.gcc
def test_threads_give_the_bits_of_shares_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    driven = Driven(symbolic.load(ROOT / "specs" / "gru_classifier.yaml"), Options(dtype="float32"))
    values = driven.values({"T": 9, "N": 21}, "float32")
    params, batch = ({name: values[name] for name in names} for names in (driven.members.params, driven.members.inputs))
    results = []
    for flags in ("-DGRU_CLASSIFIER_THREADS=4", "-DGRU_CLASSIFIER_THREADS=4 -fopenmp"):
        monkeypatch.setenv("CHAINRULE_C_FLAGS", flags)
        results.append(codegen.compile(driven.model, target="c").value_and_grad(params, batch))
    (loss, grads), (other, others) = results
    assert len(list(tmp_path.glob("*.so"))) == 2
    assert loss == other
    assert grads
    for name, array in grads.items():
        np.testing.assert_array_equal(array, others[name])


def test_without_the_macro_there_is_one_share() -> None:
    files = render(symbolic.load(ROOT / "specs" / "mlp.yaml"), "c", Options())
    header = next(text for name, text in files.items() if name.endswith(".h"))
    assert re.search(r"#if !defined\(MLP_THREADS\)\n#define MLP_THREADS 1\n#elif", header)
