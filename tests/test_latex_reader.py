"""The reader of LaTeX: it knows the usual notation, refuses what has no meaning, and stands on its own feet."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.latex_models import printed
from tests.latex_reader.document import balanced
from tests.latex_reader.evaluation import Evaluator, Grid, Scope, World
from tests.latex_reader.grammar import formula
from tests.latex_reader.symbols import Symbols, symbol
from tests.latex_reader.tokens import LatexError


@pytest.mark.parametrize("wrong", ["}", "{", r"\end{itemize}", r"\begin{dline}{3}", r"\left(", "$"])
def test_what_does_not_balance_is_refused(wrong: str) -> None:
    text = printed("scalar")
    balanced(text)
    with pytest.raises(LatexError):
        balanced(text.replace(r"\section*{\texorpdfstring{Forward}", wrong + r"\section*{\texorpdfstring{Forward}", 1))


# ---- the notation itself -----------------------------------------------------------------------------------------------


def _world() -> Evaluator:
    rows = [symbol(letter, name, shape, about) for letter, name, shape, about in (
        ("a", "a", "3", ""), ("x", "x", r"2 \times 3", ""), (r"W^{(\mathrm{out})}", "out.W", r"3 \times 2", ""),
        ("W_{h}", "W_h", r"3 \times 2", ""),
        ("y", "y", "2", "integers"), ("L", "loss", "1", "the loss"), ("c", "c", "1", ""))]
    grids = {"a": [1.0, -2.0, 3.0], "x": [[1.0, 2, 3], [4, 5, 6]], "out.W": [[1.0, 2], [3, 4], [5, 6]],
             "W_h": [[7.0, 8], [9, 1], [2, 3]], "y": [2, 0], "loss": 5.0, "c": 0.5}
    made = {name: Grid(np.asarray(v), (0,) * np.ndim(v)) for name, v in grids.items()}
    return Evaluator(World(Symbols(rows), {"N": 2, "K": 3}, made, {"a": Grid(np.asarray([10.0, 20, 30]), (0,))}))


@pytest.mark.parametrize(("text", "value"), [
    (r"2 + 3 \cdot 4", 14), (r"-\frac{1}{2} c", -0.25), (r"1.5 \times 10^{-3}", 0.0015), (r"\sum_{k} a_{k}", 2),
    (r"\sum_{k} a_{k} + 1", 3), (r"2 \sum_{k} a_{k} a_{k}", 28), (r"\sum_{k=0}^{1} a_{k}", -1),
    (r"\sum_{0 \le k < 2} a_{k}", -1), (r"\max_{k} a_{k}", 3),
    (r"\sum_{k} \left[a_{k} > 0\right]\,\frac{1}{a_{k}}", 4 / 3), (r"\sum_{k} [k \ne 1] \log(a_k)", float(np.log(3))),
    (r"\left(\operatorname*{arg\,max}_{k} a_{k}\right)_{k}", 2), (r"\max_{k} \left[a_{k} > 7\right]\,a_{k}", 0),
    (r"a_{-1} + a_{3}", 0), (r"\sum_{n} x_{n,y_{n}}", 7), (r"\sum_{n,k} x_{n, k} W^{(\mathrm{out})}_{k,n}", 86),
    (r"\sum_{n,k} x_{n,k} W_{k,n}^{(\mathrm{out})}", 86), (r"\left(W_{h}\right)_{0,1}", 8), (r"a_{2}^{2}", 9),
    (r"\left(a_{0} + a_{2}\right)^{2}", 16), (r"\tanh^{2}\left(c\right)", float(np.tanh(0.5)) ** 2),
    (r"\frac{\partial L}{\partial a_{1}}", 20), (r"\bar{a}_{1}", 20), (r"\delta_{1}^{(a)}", 20),
    (r"\partial L/\partial a_{1}", 20), (r"\sqrt{4} \left|a_{1}\right|", 4),
    (r"\left\lfloor \frac{7}{2} \right\rfloor", 3),
    (r"\begin{cases} 1 & c > 1 \\ c & \text{otherwise} \end{cases}", 0.5),
    (r"\log \sigma\left(0\right)", float(np.log(0.5))), (r"\max\left(c, 2\right)", 2), (r"N - K", -1),
    (r"c \brk {}- c \brkp 2", -0.5),
])
def test_formulas_have_their_usual_values(text: str, value: float) -> None:
    with np.errstate(all="ignore"):
        assert _world().value(formula(text), Scope()) == pytest.approx(value)


@pytest.mark.parametrize(("text", "why"), [
    ("x_{0}", "2 axes"), ("q", "nothing says"), (r"\sum_{k} 1", "no axis"), (r"\sum_{k} a_{k} y_{k}", "lengths"),
    ("a", "expected|axes|nothing"), (r"\tanh^{-1}\left(c\right)", "inverse"), (r"\foo", "no mathematics"),
    (r"\frac{\partial c}{\partial a_{0}}", "meaning"), ("a_{c}", "integer"),
])
def test_what_has_no_meaning_is_refused(text: str, why: str) -> None:
    with pytest.raises(LatexError, match=why):
        _world().value(formula(text), Scope())


# ---- independence ------------------------------------------------------------------------------------------------------

READER = ROOT / "tests" / "latex_reader"


def test_the_reader_imports_nothing_of_the_project() -> None:
    for file in READER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert all(n.startswith("tests.latex_reader.") or n.partition(".")[0] in {"numpy", *sys.stdlib_module_names}
                           for n in names), f"{file.name}: {names}"


def test_the_reader_works_where_the_printer_cannot_be_imported() -> None:
    program = (
        "import sys\n"
        "for name in ('codegen', 'symbolic', 'sympy'): sys.modules[name] = None\n"
        "from tests.latex_reader import document, proof\n"
        "read = document.read(sys.stdin.read())\n"
        "print(len(read.lines), len(read.symbols.rows))\n"
    )
    text = printed("scalar")
    ran = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.split() == ["16", "6"]
