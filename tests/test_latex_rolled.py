"""What a derivation says where it is rolled out is proved: compositions, the Jacobians of one step, what weights give at once."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from symbolic.recurrence import recurrences
from tests.latex_models import RECURRENT, printed, trial
from tests.latex_proof import Proof, told
from tests.latex_reader.document import Line, read
from tests.latex_reader.evaluation import Evaluator, Grid, World, at_places
from tests.latex_reader.grammar import statement
from tests.latex_reader.matrices import Matrices
from tests.latex_reader.proof import SLOPE, check_line, compared, scope_for
from tests.latex_reader.symbols import Entry, MatrixEntry
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import Fraction, Node, Partial, Statement
from tests.latex_rolled import Steps
from tests.latex_worlds import Trial

STEPS = 3
SKIPPED = {
    "and so on": r"\\cdots",
    "a function of a step": r"= F(?:\\!\\left)?\(", "the general argument": r"\\mathrm\{d\}|\\partial L_",
    "a product of Jacobians": r"\\prod",
}
"""What is said of any recurrence, or of no step in particular: not proved here."""


@cache
def _steps(name: str) -> Steps:
    """The steps of a spec, as many as are rolled out."""
    rolled = trial(name)
    sized = Trial(rolled.model, given_sizes=tuple({**dict(rolled.given_sizes), "T": STEPS}.items()))
    (found,) = recurrences(sized.stages.program)
    return Steps(sized, found.states)


def _entries(node: Node, proof: Evaluator) -> tuple[Entry | MatrixEntry, Entry | MatrixEntry] | None:
    """The two entries, or vectors, of a derivative of the one by the other."""
    match node:
        case Fraction(Partial(of), Partial(by)):
            symbols = proof.world.symbols
            found = [symbols.matrix(part) or symbols.entry(part) for part in (of, by)]
            if found[0] is not None and found[1] is not None and found[0].name != symbols.loss.name:
                return found[0], found[1]
    return None


def _prove(name: str, line: Line, proof: Proof) -> str:
    """Proves a line; returns the kind of proof, or why there is none."""
    for kind, pattern in SKIPPED.items():
        if re.search(pattern, line.text):
            return kind
    said = statement(line.text)
    assert said.left is not None
    plain = proof.evaluator()
    world = plain.world
    evaluator = Evaluator(World(world.symbols.loose, world.sizes, world.grids, world.adjoints))
    pair = _entries(said.left, evaluator)
    if pair is None:
        check_line(said.left, said, evaluator)
        return "a composition"
    _slope(name, *pair, said, evaluator)
    return "at once" if r"\partial^{+}" in line.text else "the Jacobian"


def _slope(name: str, of: Any, by: Any, said: Statement, evaluator: Evaluator) -> None:
    """Proves a derivative by differences."""
    slopes = _jacobian(name, of.name, by.name)
    there = Grid(np.full(slopes.values.shape, True), slopes.lower)  # before the first step there may be no state
    assert said.left is not None
    if isinstance(of, Entry) and isinstance(by, Entry):
        scope = scope_for((*of.subscripts, *by.subscripts), said.where, (said.left, said.right), evaluator)
        place = tuple(evaluator.value(part, scope) for part in (*of.subscripts, *by.subscripts))
        compared(evaluator.value(said.right, scope), at_places(slopes, place), at_places(there, place) != 0, SLOPE, SLOPE)
        return
    if not (isinstance(of, MatrixEntry) and isinstance(by, MatrixEntry)):
        raise LatexError("an entry by a vector")
    scope = scope_for((*of.scripts, *by.scripts), said.where, (said.left, said.right), evaluator)
    first, second = ([evaluator.value(part, scope)[..., None, None] for part in e.scripts] for e in (of, by))
    count = [evaluator.size(evaluator.world.symbols.shape(e.name)[-1]) for e in (of, by)]
    place = (*first, np.arange(count[0])[:, None], *second, np.arange(count[1]))
    value = Matrices(evaluator).value(said.right, scope)
    if value.kind != "matrix":
        raise LatexError(f"a Jacobian that is a {value.kind}")
    compared(value.values, at_places(slopes, place), at_places(there, place) != 0, SLOPE, SLOPE)


@cache
def _jacobian(name: str, of: str, by: str) -> Any:
    return _steps(name).jacobian(of, by)


def _rolled(name: str, text: str) -> Counter[str]:
    proof, found = Proof(trial(name, STEPS), read(text)), Counter[str]()
    with np.errstate(all="ignore"):
        for line in proof.document.lines:
            if line.section.startswith("Rolled out"):
                with told(line.section, line.text):
                    found[_prove(name, line, proof)] += 1
    return found


PROVED = {
    "char_rnn": (5, 1, 1), "gru_classifier": (6, 1, 1), "leaky_integrator": (3, 4, 2), "lstm_lm": (7, 4, 2),
    "minimal_gated_unit": (6, 1, 2), "rnn_regression": (5, 1, 1), "second_order": (4, 2, 2),
}
"""Compositions and equations of one step, Jacobians, and what weights give at once."""

LEFT = {
    **{name: {"a function of a step": 1} for name in ("gru_classifier", "leaky_integrator", "lstm_lm", "minimal_gated_unit")},
    **{name: {"a product of Jacobians": 1} for name in ("char_rnn", "rnn_regression")},
}
"""What is skipped besides a composition that goes on and the six formulas of the general argument."""


@pytest.mark.parametrize("name", RECURRENT)
def test_what_is_rolled_out_is_true(name: str) -> None:
    found = _rolled(name, printed(name, STEPS))
    compositions, jacobians, direct = PROVED[name]
    assert dict(found) == {
        "a composition": compositions, "the Jacobian": jacobians, "at once": direct,
        "and so on": 1, "the general argument": 6, **LEFT.get(name, {}),
    }


@pytest.mark.parametrize("name", ["char_rnn", "rnn_regression", "second_order", "lstm_lm"])
def test_what_is_rolled_out_is_true_beside_matrices(name: str) -> None:
    assert _rolled(name, printed(name, STEPS, "frac", "matrix"))["the Jacobian"] == PROVED[name][1]


@pytest.mark.parametrize(("name", "right", "wrong"), [
    ("char_rnn", r"\mathbf{H}^{(0)} \brkp \mathbf{U}^{\top}", r"\mathbf{H}^{(0)} \brkp \mathbf{U}"),
    ("char_rnn", r"\mathbf{h}_{t,n})\,\mathbf{U}", r"\mathbf{h}_{t,n})\,\mathbf{U}^{\top}"),
    ("char_rnn", r"1 - \mathbf{h}_{t,n} \odot \mathbf{h}_{t,n}", r"1 - \mathbf{h}_{t - 1, n} \odot \mathbf{h}_{t - 1, n}"),
    ("char_rnn", r"\brkh = h_{t - 1, n, j}", r"\brkh = h_{t,n,j}"),
    ("gru_classifier", r"[t < \mathrm{len}_{n}]\,[k = j]\,z_{t,n,k}", r"[k = j]\,z_{t,n,k}"),
    ("lstm_lm", r"\mathbf{U}_{3 H {:} 4 H, {:}}", r"\mathbf{U}_{2 H {:} 3 H, {:}}"),
    ("second_order", r"\mathbf{h}_{t,n})\,\mathbf{V}", r"\mathbf{h}_{t,n})\,\mathbf{U}"),
    ("minimal_gated_unit", r"(U_{h})_{i,j} \brkp f_{t,n,i} \brkp f_{t,n,j}", r"(U_{h})_{i,j} \brkp f_{t,n,i} \brkp f_{t,n,i}"),
])
def test_what_is_rolled_out_wrong_is_refused(name: str, right: str, wrong: str) -> None:
    text = printed(name, STEPS)
    assert right in text
    with pytest.raises(AssertionError, match="Rolled out"):
        _rolled(name, text.replace(right, wrong))


@pytest.mark.parametrize("name", ["char_rnn", "rnn_regression"])
def test_a_product_of_jacobians_is_one_of_the_jacobians_of_a_step(name: str) -> None:
    """Its factor is the Jacobian of a step with another letter for the step."""
    lines = [re.sub(r"\\brk[ph]?\b|\\,|\s", "", line.text) for line in read(printed(name, STEPS)).lines]
    (product,) = (text for text in lines if text.startswith(r"\prod"))
    (step,) = (text for text in lines if text.startswith(r"\frac{\partial\mathbf{h}_{t,n}}{\partial\mathbf{h}_{t-1,n}}"))
    assert product.rpartition("^{t}")[2] == step.partition("=")[2].replace("_{t,", "_{j,").replace("_{t-1,", "_{j-1,")
