"""The examples of the README and of two pages of docs do what is said there: specs load, Python runs, excerpts are excerpts."""

from __future__ import annotations

import re
import shutil
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


@pytest.mark.parametrize("text", [README, SPEC, MODULES], ids=["README.md", "docs/spec.md", "docs/modules.md"])
def test_links_lead_somewhere(text: str) -> None:
    base = ROOT if text is README else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (base / target).exists(), target
