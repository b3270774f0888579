"""The printed formulas are proved: each is read back from the LaTeX alone, and has the values that the interpreter gives.

Forward lines, stable forms, every step backwards, the results, what is computed, and the partial derivatives in the text. Mutated
formulas are caught.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from codegen.derivation.formats import Style, show
from codegen.derivation.provenance import derivation_of
from symbolic.program import Program
from tests.latex_models import EQUATIONS, ODD, RECURRENT, SPECS, printed, trial
from tests.latex_proof import Proof, caught_in, prove, told
from tests.latex_reader.document import Document, Like, equations, read
from tests.latex_reader.evaluation import Evaluator, World
from tests.latex_reader.grammar import formula, statement
from tests.latex_reader.mutations import MUTATIONS
from tests.latex_reader.proof import check_line, indices_of
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import Name, Number
from tests.latex_worlds import Trial
from tests.programs import drawn

# ---- the formulas are true ---------------------------------------------------------------------------------------------

LEAST = {
    "char_rnn": 56, "gru_classifier": 94, "leaky_integrator": 39, "lstm_lm": 91, "minimal_gated_unit": 55, "rnn_regression": 39,
    "second_order": 30, "scalar": 20, "mlp": 59, "lenet": 106, "lenet_digits": 93,
}
"""Lines, parts and partial derivatives that were proved when this was written: fewer are a reader that looks away."""


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", SPECS)
def test_every_formula_of_every_spec_is_true(name: str, adjoint: str) -> None:
    found = prove(name, None, adjoint)
    assert found["line"] + found["part"] + found["partial"] >= LEAST[name], found
    assert found["the chain rule itself"] == 2, "the only formulas that are not proved: the rule that proves them"
    document = read(printed(name, None, adjoint))
    said = len(document.lines) + sum(inline.says for inline in document.inlines)
    assert sum(found.values()) == said


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", RECURRENT)
def test_every_formula_of_an_unrolled_recurrence_is_true(name: str, adjoint: str) -> None:
    assert prove(name, 3, adjoint)["line"] > 30


@pytest.mark.parametrize("name", [*ODD, *EQUATIONS])
@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
def test_every_formula_of_an_odd_model_is_true(name: str, adjoint: str) -> None:
    assert prove(name, None, adjoint)["partial"] > 2


@pytest.mark.parametrize("seed", [*range(14), 23, 34, 35, 41, 48])
def test_every_line_of_a_random_program_is_true(seed: int) -> None:
    """Gathers, scatters, slices, diagonals, maxima, guards and recurrences in one program, as a user may write them."""
    case = drawn(seed)
    point = Trial(case.model(), given_sizes=tuple(case.sizes.items()))
    derivation, found = derivation_of(point.stages), Counter[str]()
    adjoint = ("frac", "bar", "delta")[seed % 3]
    both = [read(show(derivation, "latex", Style(notation, adjoint))) for notation in ("index", "matrix")]
    with np.errstate(all="ignore"):
        for proof, (line, head) in ((Proof(point, document), pair) for document in both for pair in equations(document.lines)):
            with told(line.section, line.text):
                try:
                    found[proof.line(line, head)] += 1
                except LatexError as error:
                    if "says nothing about any entry" not in str(error):  # a range that is empty at sizes of 1 and 2
                        raise
                    found["vacuous"] += 1
    assert found["line"] > 2 * found["vacuous"]


# ---- wrong formulas are caught -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["char_rnn", "gru_classifier", "lstm_lm", "second_order", "minimal_gated_unit", "strided", "branches"])
def test_wrong_formulas_are_caught(name: str) -> None:
    """Every wrong that changes what a line means, in every line."""
    caught = caught_in(name, "index", MUTATIONS)
    assert sum(caught.values()) > 40
    assert {"dropped index", "swapped indices", "dropped factor", "other number"} <= set(caught)


@pytest.mark.parametrize(("right", "wrong"), [
    (r"U_{i,j} h_{t - 1, n, j}", r"U_{j,i} h_{t - 1, n, j}"), (r"h_{t - 1, n, j}", r"h_{t + 1, n, j}"), ("U_{i,j}", "U_{i,i}"),
    (r"{}+ \sum_{j}", r"{}- \sum_{j}"), (r"\sum_{t,n} h_{t - 1", r"\sum_{t} h_{t - 1"), ("U_{i,j} h", "h"),
    (r"p_{t,n,k} = \frac{e_{t,n,k}}{s_{t,n}}", r"p_{t,n,k} = e_{t,n,k}"),
])
def test_a_wrong_document_is_refused(right: str, wrong: str) -> None:
    text = printed("char_rnn")
    assert right in text
    with pytest.raises(AssertionError, match=r"Forward|Backward"):
        Proof(trial("char_rnn"), read(text.replace(right, wrong))).run()


@pytest.mark.parametrize(("right", "wrong"), [
    (r"= U_{i,j}$", r"= U_{j,i}$"), (r"1 - \tanh^{2}", r"1 - \tanh"), (r")}} = -1$", r")}} = 1$"), ("$V = 3$", "$V = 4$"),
])
def test_a_wrong_formula_in_the_text_is_refused(right: str, wrong: str) -> None:
    text = printed("char_rnn")
    assert right in text
    with pytest.raises((AssertionError, LatexError)):
        Proof(trial("char_rnn"), read(text.replace(right, wrong))).run()


# ---- symbols and braces ------------------------------------------------------------------------------------------------


def letter_of_the_rule(document: Document) -> str:
    """The letter by which the general chain rule differentiates."""
    (line,) = (line for line in document.lines if line.title == "Backward" and r"\cdots" in line.text)
    found = re.match(r"(?:\\frac\{\\partial L\}\{\\partial |\\bar\{|\\delta\^\{\()(\S+?)(?:\}|\)\})", line.text)
    assert found is not None, line.text
    return found[1]


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", [*SPECS, *ODD])
def test_every_symbol_in_the_text_is_defined(name: str, adjoint: str) -> None:
    """What a formula of words alone names is a tensor of the table, its adjoint, an index of some line or a size."""
    document = read(printed(name, None, adjoint))
    evaluator = Proof(trial(name), document).evaluator()
    indices = {index for line in document.lines if r"\cdots" not in line.text
               for index in indices_of((statement(line.text).right, statement(line.text).left or Number(0)), evaluator)}
    (rule,) = (found for inline in document.inlines
               if inline.section == "Backward" and (found := re.fullmatch(r"(\\?\w+) = (\\?\w+)", inline.text)))
    general = {*rule.groups(), letter_of_the_rule(document)}
    assert not general & (indices | {letter.text for letter in document.symbols.known if isinstance(letter, Name)})
    named = {row.name for row in document.symbols.rows}
    made_up = {row.name for row in Proof(trial(name), document).names}
    assert all(" a name for the formulas: " in row.about for row in document.symbols.rows if row.name in made_up)
    assert named - made_up <= {tensor.name for program in _programs(name) for tensor in program.tensors}
    for inline in document.inlines:
        if inline.says or inline.text == "+=":
            continue
        node = formula(inline.text)
        known = document.symbols.whole(node) is not None or document.symbols.entry(node) is not None
        if known or inline.section == "Symbols and conventions":
            continue
        unknown = set(indices_of((node,), evaluator)) - indices - general
        assert not unknown, f"{inline.text}: nothing says what {unknown} is"


def _programs(name: str) -> Iterator[Program]:
    stages = trial(name).stages
    yield from (stages.program, stages.stabilised, stages.adjoint, stages.optimised)


# ---- layers that are like another one ----------------------------------------------------------------------------------


@pytest.mark.parametrize("notation", ["index", "matrix"])
def test_layers_that_are_referred_to_have_these_equations(notation: str) -> None:
    """Each line of the first layer is true of the others, with the tensors that the table names in place of those it reads."""
    point, document = trial("deep"), read(printed("deep", None, "frac", notation))
    for line, head in equations(document.lines):
        Proof(point, document).line(line, head)
    assert {like.layer for like in document.likes} == {"fc2", "fc3", "fc4", "fc5"}
    assert len(document.likes) == 8
    for like in document.likes:
        program = point.stages.program if like.section == "Forward" else point.stages.adjoint
        made = {e.name.removeprefix("d_") for e in program.equations if e.number in like.numbers}
        assert made
        assert all(name.startswith(f"{like.layer}.") for name in made)
        assert _alike(point, document, like, like.reads) > (1 if like.section == "Forward" else 4)
        with pytest.raises(LatexError):
            _alike(point, document, like, ())


def _alike(point: Trial, document: Document, like: Like, reads: tuple[tuple[str, str], ...]) -> int:
    """Proves the lines of the first layer where the tensors of another one have its names; returns how many there were."""
    own = [row.name for row in document.symbols.rows if row.name.startswith(f"{like.first}.")]
    rule = {**{name: name.replace(f"{like.first}.", f"{like.layer}.") for name in own}, **dict(reads)}
    proof, count = Proof(point, document), 0
    for line, head in equations(document.lines):
        left = statement(head.text).left
        assert left is not None
        target = proof.target(left) if r"\cdots" not in line.text else None
        if target is None or line.section != like.section or target.name not in own:
            continue
        world = proof.evaluator(line).world
        grids, adjoints = ({**known, **{name: known[other] for name, other in rule.items() if other in known}}
                           for known in (world.grids, world.adjoints))
        check_line(left, statement(line.text), Evaluator(World(world.symbols, world.sizes, grids, adjoints)))
        count += 1
    return count
