"""What a notebook shows: models, programs, equations and derivations, with their formulas set; and the example runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import codegen
from codegen.cli import _run
from codegen.derivation.derived import SUFFIXES, Derived
from symbolic import ChainruleError, Equation, Model, Program, gradient, load
from symbolic.display import show_with
from tests.conftest import ROOT
from tests.notebook import cells, run
from tests.test_derive import SPECS, _Page

EXAMPLE = ROOT / "examples" / "derivation.ipynb"


@pytest.fixture(scope="module")
def model() -> Model:
    return load(ROOT / "specs" / "char_rnn.yaml")


@pytest.fixture
def plainly() -> Iterator[None]:
    """As it is where nobody imported the code generator."""
    before = show_with(None)
    yield
    show_with(before)


# ---- with formulas -----------------------------------------------------------------------------------------------------


def test_a_model_shows_its_tensors_and_its_equations(model: Model) -> None:
    shown = model._repr_html_()
    assert "<h1>The model <code>char_rnn</code>, float32</h1>" in shown
    assert shown.count("<tr>") == 1 + len(model.program().tensors)
    for tensor in model.program().tensors:
        assert f"<td><code>{tensor.name}</code></td>" in shown
    assert r'alttext="= \tanh(a_{t,n,i})"' in shown
    assert "Layer <code>rnn</code>" in shown
    assert r"h_{t,n,i} &= \tanh(a_{t,n,i}) && (4)" in model._repr_latex_()


def test_a_program_shows_its_statements_under_their_numbers(model: Model) -> None:
    adjoint = gradient(model.program())
    shown = adjoint._repr_html_()
    assert {int(n) for found in re.findall(r'data-equations="([\d ]+)"', shown) for n in found.split()} == {
        e.number for e in adjoint.equations}
    line = (r"\frac{\partial L}{\partial h_{t,n,k}} &= "
            r"\sum_{i} W_{i,k}^{(\mathrm{out})}\,\frac{\partial L}{\partial y_{t,n,i}^{(\mathrm{out})}} {}+ "
            r"\sum_{i} U_{i,k}\,\frac{\partial L}{\partial a_{t + 1, n, i}}")
    assert line in adjoint._repr_latex_()
    assert ">Derivatives</h2>" in shown
    assert ">Derivatives</h2>" not in model.program()._repr_html_()


def test_an_equation_shows_what_it_adds(model: Model) -> None:
    program = gradient(model.program())
    recurrence = next(e for e in program.equations if str(e.target) == "d_rnn.h[t - 1, n, j]")
    assert recurrence._repr_latex_() == (
        r"$\displaystyle \frac{\partial L}{\partial h_{t - 1, n, j}} \mathrel{+}= "
        r"\sum_{i} U_{i,j}\,\frac{\partial L}{\partial a_{t,n,i}}$")
    assert "<math" in recurrence._repr_html_()
    assert "+=" in recurrence._repr_html_()


@pytest.mark.parametrize("name", SPECS)
def test_everything_shows_itself(name: str) -> None:
    """Every stage of every spec, each equation alone too; no id is there twice, and nothing is left open."""
    from codegen.pipeline import Options, stages

    model = load(ROOT / "specs" / f"{name}.yaml")
    done = stages(model, Options(tangent=True))
    values: list[Any] = [model, done.program, done.stabilised, done.adjoint, done.optimised, done.predict, done.jvp]
    values += done.adjoint.equations
    for value in values:
        latex, page = value._repr_latex_(), _Page(value._repr_html_())
        assert page.open == []
        assert len(set(page.ids)) == len(page.ids)
        assert latex.startswith("$")
        assert latex.endswith("$")
        bare = latex.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")


# ---- without -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plainly")
def test_plainly_there_is_text_and_latex_with_the_names_of_the_spec(model: Model) -> None:
    product = model.program().equations[2]
    assert product._repr_latex_() == (r"$\displaystyle \mathrm{rnn.a}_{t, n, i} \mathrel{+}= "
                                      r"\sum_{k} \mathrm{embed.y}_{t, n, k} \mathrm{rnn.W}_{i, k}$")
    assert product._repr_html_().startswith("<code>(3) rnn.a[t, n, i] += ")
    assert model.program()._repr_html_().startswith("<pre>program char_rnn (V=65, H=100, T, N)\n")
    assert model._repr_latex_() == model.program()._repr_latex_()
    assert model._repr_latex_().count(r" &\mathrel{+}= ") == len(model.program().equations)
    guarded = load(ROOT / "specs" / "gru_classifier.yaml").program()
    assert r"\left[t < \mathrm{len}_{n}\right]" in guarded._repr_latex_()
    assert "t &lt; len[n]" in guarded._repr_html_()


def test_the_mathematics_asks_nobody_by_itself() -> None:
    """Alone it shows itself plainly and loads no code generator; one import later its formulas are set."""
    script = """import sys, symbolic
model = symbolic.load("specs/scalar.yaml")
print(model._repr_html_()[:3], [m for m in sys.modules if m.split(".")[0] == "codegen"])
import codegen
print("sympy" in sys.modules, model._repr_html_()[:11])"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "<b> []\nTrue <div class=\n"
    for path in (ROOT / "symbolic").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) codegen\b|import_module\([\"']codegen", text, re.MULTILINE), path.name


def test_importing_the_code_generator_stays_light() -> None:
    heavy = ("sympy", "numpy", "jinja2", "typing", "codegen.notebook", "symbolic.program")
    script = ("import sys; before = set(sys.modules); import codegen; "
              f"print([m for m in {heavy} if m in set(sys.modules) - before])")
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- derivations -------------------------------------------------------------------------------------------------------


def test_a_derivation_prints_and_shows_itself(model: Model) -> None:
    found = codegen.derive(model, wrt="rnn.U", notation="matrix", adjoint="bar")
    assert isinstance(found, Derived)
    assert repr(found) == "<derivation of char_rnn by rnn.U>"
    assert str(found).startswith("The gradient of char_rnn\n")
    assert str(found) == found.to_text()
    assert r"\bar{\mathbf{U}}" in found.to_markdown() == found._repr_markdown_()
    assert found.to_latex().startswith(r"\documentclass")
    assert r"\documentclass" not in found._repr_latex_() == found.to_latex(fragment=True)
    page = found._repr_html_()
    assert "<html" not in page
    assert "<script" not in page
    assert '<a href="#char_rnn-eq-3">' in page
    assert found.to_html().startswith("<!DOCTYPE html>")


def test_what_a_derivation_is_of(model: Model) -> None:
    assert "cell.h[2,n,i]" in str(codegen.derive(ROOT / "specs" / "second_order.yaml", unroll=3))
    assert set(codegen.derive(model).derivation.wrt) == {t.name for t in model.program().parameters}
    with pytest.raises(ChainruleError, match="notation: expected index or matrix, found 'matrx'; did you mean 'matrix'"):
        codegen.derive(model, notation="matrx")
    with pytest.raises(ChainruleError, match=r"found 'rnn\.Q'"):
        codegen.derive(model, wrt="rnn.Q")
    with pytest.raises(ChainruleError, match="derive: expected a Model or the path of a spec"):
        codegen.derive(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [s for s in SUFFIXES if s != ".pdf"])
def test_a_derivation_is_saved_in_the_format_of_the_name(model: Model, tmp_path: Path, suffix: str) -> None:
    found = codegen.derive(model, wrt="out.b")
    path = found.save(tmp_path / f"out{suffix}")
    assert _run(["derive", str(ROOT / "specs" / "char_rnn.yaml"), "--wrt", "out.b", "-o", str(tmp_path / f"same{suffix}")]) == 0
    assert path.read_bytes() == (tmp_path / f"same{suffix}").read_bytes()
    made = {".txt": found.to_text, ".tex": found.to_latex, ".md": found.to_markdown, ".html": found.to_html,
            ".svg": found.to_svg}[suffix]()
    assert path.read_text(encoding="utf-8").endswith(made)


@pytest.mark.latex
def test_a_derivation_is_saved_as_a_pdf(tmp_path: Path) -> None:
    path = codegen.derive(ROOT / "specs" / "scalar.yaml").save(tmp_path / "scalar.pdf")
    assert path.read_bytes().startswith(b"%PDF")


def test_another_ending_is_refused(model: Model, tmp_path: Path) -> None:
    with pytest.raises(ChainruleError, match=r"save: expected a name that ends in .*, found 'a\.htm'; did you mean '\.html'"):
        codegen.derive(model, wrt="out.b").save(tmp_path / "a.htm")
    assert list(tmp_path.iterdir()) == []


# ---- the example -------------------------------------------------------------------------------------------------------


def test_the_example_is_a_notebook_without_outputs() -> None:
    """Format 4.5, as Jupyter itself writes it, so that saving it again changes nothing but what was changed."""
    text = EXAMPLE.read_text(encoding="utf-8")
    found = json.loads(text)
    assert text == json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])
    for cell in found["cells"]:
        assert list(cell) == sorted(cell)
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert max(map(len, cell["source"])) <= 133


def test_the_example_runs() -> None:
    found = run(EXAMPLE)
    values = [type(output.value) for output in found]
    assert [kind for kind in (Model, Equation, Program, Derived) if kind not in values] == []
    for output in found:
        if isinstance(output.value, Model | Equation | Program | Derived):
            assert "<math" in output.shown["text/html"]
            assert output.shown["text/latex"]
    losses = [float(n) for output in found for n in re.findall(r"loss (\d\.\d+)", output.printed)]
    assert losses[0] > 10 * losses[-1]
    assert len(found) == len(cells(EXAMPLE))
    assert [output.printed for output in found if "rnn.U: slope" in output.printed]
