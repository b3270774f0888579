"""The examples of the README and of the pages of docs do what is said there: specs load, code runs, excerpts are excerpts."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symbolic import EquationError, load
from symbolic.check import check
from symbolic.spec import read_text
from tests.conftest import ROOT
from tests.rewriting import assert_same, differentiated, program

README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
SPEC = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
EQUATIONS = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
C = (ROOT / "docs" / "c.md").read_text(encoding="utf-8")
DERIVATIONS = (ROOT / "docs" / "derivations.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[Any]:
    """The fenced blocks of a language, each called by its line."""
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [pytest.param(m[1], id=f"line {text.count(chr(10), 0, m.start()) + 1}") for m in found]


@pytest.mark.parametrize("text", blocks(README, "yaml"))
def test_specs_of_the_readme_load(text: str) -> None:
    assert load(text).program().loss == "loss"


@pytest.mark.parametrize("text", blocks(SPEC, "yaml"))
def test_specs_load(text: str) -> None:
    """A block without a name shows some keys, which replace those of the first block."""
    data = dict(read_text(text).data)
    whole = data if "name" in data else {**read_text(blocks(SPEC, "yaml")[0].values[0]).data, **data}
    model = load(whole)
    assert model.program().loss == "loss"
    assert model.predict_program().outputs


def equations() -> list[Any]:
    """The indented blocks that are equations, a comparison of readings line by line, each with what is said beside it."""
    found = []
    for block in re.finditer(r"(?:^ {4}.*\n)+", EQUATIONS, re.MULTILINE):
        lines = [re.split(r" {3,}", line.strip()) for line in block[0].splitlines()]
        if lines[0][0] == "text":  # the grammar
            continue
        number = EQUATIONS.count("\n", 0, block.start()) + 1
        whole = all(len(line) == 1 for line in lines)
        parts = [("\n".join(line[0] for line in lines), "")] if whole else [(line[0], line[-1]) for line in lines]
        found += [pytest.param(*part, id=f"line {number + k}") for k, part in enumerate(parts)]
    assert len(found) >= 4
    return found


@pytest.mark.parametrize(("text", "says"), equations())
def test_equations_load(text: str, says: str) -> None:
    """As they stand, with shapes for what they read and nothing else."""
    sizes = dict.fromkeys("TNIJK", 2)
    recurrent = "[t" in text

    def build() -> Any:
        loss = "sum(h[t,n,i], over=(t,n,i))" if recurrent else "sum(y[i], over=i)"
        return program(
            f"{text}\nloss = {loss}",
            {"W": "I,K", "U": "I,I", "b": "I"} if recurrent else {"W": "I,J"},
            {"x": "T,N,K"} if recurrent else {"x": "J"},
            sizes=dict.fromkeys(sizes),
        )

    if says.startswith("error"):
        with pytest.raises(EquationError, match="ambiguous"):
            build()
        return
    assert_same(*differentiated(check(build())), sizes)


def test_the_first_spec_of_the_readme_is_the_committed_one() -> None:
    assert blocks(README, "yaml")[0].values[0] == (ROOT / "specs" / "char_rnn.yaml").read_text(encoding="utf-8")


def test_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block is an excerpt of a committed module, the other one runs beside a copy of the specs."""
    excerpt, script = (block.values[0] for block in blocks(README, "python"))
    assert excerpt in (ROOT / "generated" / "char_rnn.py").read_text(encoding="utf-8")
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    tokens = np.random.default_rng(0).integers(0, 65, size=(2, 4, 3))
    scope: dict[str, Any] = {"batch": {"x": tokens[0], "y": tokens[1]}}
    exec(script, scope)
    assert np.isfinite(scope["loss"])
    assert (tmp_path / "generated" / "lstm_lm.py").exists()


def test_python_of_the_spec() -> None:
    """The blocks run one after the other, as a reader would type them; they hold assertions of their own."""
    scope: dict[str, Any] = {}
    for block in blocks(SPEC, "python"):
        exec(block.values[0], scope)
    assert scope["loss"] == -12


def test_python_of_the_intermediate_language() -> None:
    """Second derivatives, as docs/ir.md shows them."""
    (block,) = blocks((ROOT / "docs" / "ir.md").read_text(encoding="utf-8"), "python")
    exec(block.values[0], {})


def test_python_of_the_modules() -> None:
    (block,) = blocks(MODULES, "python")
    exec(block.values[0], {})


def test_the_options_of_the_table_are_those_of_the_calls() -> None:
    import inspect

    import codegen
    from codegen.pipeline import Options

    listed = {name for line in re.findall(r"^\| (`\w+=.*?) \|", MODULES, re.MULTILINE) for name in re.findall(r"`(\w+)=", line)}
    keywords = {name for name, p in inspect.signature(codegen.generate).parameters.items() if p.kind is p.KEYWORD_ONLY}
    assert listed == keywords
    assert set(inspect.signature(codegen.compile).parameters) - {"model", "target"} == keywords - {"force"}
    assert set(Options.__dataclass_fields__) == keywords - {"force"}


def test_the_list_of_functions_is_the_table() -> None:
    from symbolic.functions import FUNCTIONS

    text = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8").partition("## Functions")[2].partition("## Rec")[0]
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", text))))
    assert sorted(set(FUNCTIONS) - words) == []


def test_keys_of_the_table() -> None:
    """The table of keys has those of the schema, no fewer and no more."""
    from symbolic.spec import schema

    rows = re.findall(r"^\| (`.*?) \|", SPEC.partition("| start |")[0], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(schema()["properties"])


# ---- C -----------------------------------------------------------------------------------------------------------------


def test_c_of_the_readme_is_generated() -> None:
    from codegen.pipeline import render

    (excerpt,) = blocks(README, "c")
    found = render(load(ROOT / "specs" / "char_rnn.yaml"), "c")["char_rnn.c"]
    function = found.partition("\nint char_rnn_value_and_grad(")[2].partition("\n}\n")[0]
    assert excerpt.values[0] in function


def test_the_example_in_c_compiles_and_runs(tmp_path: Path) -> None:
    """The commands as they stand; only the compiler is the one that is found."""
    from codegen.build import compilers

    ((spec,), (program,)) = (blocks(C, language) for language in ("yaml", "c"))
    (tmp_path / "line.yaml").write_text(spec.values[0], encoding="utf-8")
    (tmp_path / "main.c").write_text(program.values[0], encoding="utf-8")
    (lines,) = re.findall(r"^Compile and run, by hand:\n\n((?: {4}.*\n)+)", C, re.MULTILINE)
    ours = {"chainrule": [sys.executable, "-m", "codegen"], "cc": list(compilers()[0].command)}
    for line in lines.splitlines():
        first, *rest = shlex.split(line)
        command = [*ours.get(first, [str(tmp_path / first)]), *rest]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert done.stderr == ""
    assert f"It prints `{done.stdout.strip()}`." in C


def test_python_of_the_c_target() -> None:
    (block,) = blocks(C, "python")
    exec(block.values[0], {})


def test_the_interface_in_c_is_the_table() -> None:
    """Every name stands in a header, and every exported function and struct stands in the table."""
    from codegen.pipeline import Options, render

    both = Options(tangent=True, hvp=True)
    header = "".join(render(load(ROOT / "specs" / f"{name}.yaml"), "c", both)[f"{name}.h"].replace(name.upper(), "UPPER")
                     .replace(name, "NAME") for name in ("char_rnn", "scalar"))
    table = C.partition("## The interface")[2].partition("Arrays are whole")[0]
    listed = set(re.findall(r"\b(?:NAME|UPPER)_\w+", table))
    assert sorted(name for name in listed if not re.search(rf"\b{name}\b", header)) == []
    exported = set(re.findall(r"^(?:(?:int|size_t) (?=\w+\()|\} )(NAME_\w+)", header, re.MULTILINE))
    assert sorted(exported - listed) == []
    codes = dict(re.findall(r"^    (UPPER_\w+) = (\d)", header, re.MULTILINE))
    assert {name: code for code, name in re.findall(r"^\| (\d) `(UPPER_\w+)` \|", C, re.MULTILINE)} == codes
    assert len(codes) == 5


def test_building_is_as_the_page_says() -> None:
    from codegen.c.templates import building

    text = (ROOT / "codegen" / "c" / "templates" / "building.py").read_text(encoding="utf-8")
    (line,) = re.findall(r"^    cc (.*) NAME\.c -o LIBRARY -lm$", C, re.MULTILINE)
    assert tuple(line.split()) == building.FLAGS
    named = re.findall(r"^\| `([A-Z_]+)` \|", C.partition("| variable |")[2], re.MULTILINE)
    assert named == ["CC", "CHAINRULE_C_FLAGS", "CHAINRULE_CACHE"]
    assert set(re.findall(r"\"(C[A-Z_]+)\"", text)) == set(named)


def test_accuracy_is_that_of_the_measurement() -> None:
    """The figures at the top of functions.c, which tests/sweep_functions.py finds."""
    text = (ROOT / "codegen" / "c" / "templates" / "functions.c").read_text(encoding="utf-8").partition("=== section")[0]
    measured = re.findall(r"^ \* +(\w+) +(\d\.\d+) +(\d\.\d+)$", text, re.MULTILINE)
    assert re.findall(r"^\| (\w+) \| (\d\.\d+) \| (\d\.\d+) \|$", C, re.MULTILINE) == measured
    assert len(measured) == 8


def test_python_of_the_derivations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(DERIVATIONS, "python")
    exec(block.values[0], {})
    assert (tmp_path / "char_rnn.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_derivation_that_is_read_is_derived() -> None:
    import codegen

    (shown,) = re.findall(r"^## Reading one\n\n((?: {4}.*\n)+)", DERIVATIONS, re.MULTILINE)
    assert "\n" + re.sub(r"^ {4}", "", shown, flags=re.MULTILINE) in str(codegen.derive(ROOT / "specs" / "char_rnn.yaml"))


def test_formats_and_options_of_the_tables_are_those_of_the_command() -> None:
    import inspect

    import codegen
    from codegen.choices import FORMATS

    table = DERIVATIONS.partition("| format |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| `(\.\w+)` \|", table, re.MULTILINE)) == {"text": ".txt", **FORMATS}
    options = DERIVATIONS.partition("| flag |")[2].partition("\n\n")[0]
    keywords = re.findall(r"^\| `--(\w+) .*?` \| `(\w+)=", options, re.MULTILINE)
    assert {flag for flag, _ in keywords} == {keyword for _, keyword in keywords}
    assert {keyword for _, keyword in keywords} == set(inspect.signature(codegen.derive).parameters) - {"model"}


@pytest.mark.parametrize("folder", ["loops", "c", "derivation"])
def test_every_module_is_on_the_way(folder: str) -> None:
    table = ARCHITECTURE.partition(f"| `codegen/{folder}/` | |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`\w+\.py`(?:, `\w+\.py`)*) \| \S", table, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+\.py)`", row)]
    assert sorted(listed) == sorted(p.name for p in (ROOT / "codegen" / folder).glob("*.py") if p.name != "__init__.py")


@pytest.mark.parametrize("text", [README, SPEC, MODULES, DERIVATIONS],
                         ids=["README.md", "docs/spec.md", "docs/modules.md", "docs/derivations.md"])
def test_links_lead_somewhere(text: str) -> None:
    base = ROOT if text is README else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (base / target).exists(), target
