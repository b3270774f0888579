"""The printed formulas are proved: each is read back from the LaTeX alone, and has the values that the interpreter gives.

Forward lines, stable forms, every step backwards, the results, what is computed, and the partial derivatives in the text. Mutated
formulas are caught.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest

from codegen.derivation.formats import Style, show
from codegen.derivation.provenance import derivation_of
from symbolic.program import Program
from tests.latex_models import EQUATIONS, ODD, RECURRENT, SPECS, printed, trial
from tests.latex_reader.document import Document, Line, equations, read
from tests.latex_reader.evaluation import Evaluator, Grid, World
from tests.latex_reader.grammar import formula, statement
from tests.latex_reader.mutations import mutated
from tests.latex_reader.proof import check_line, check_partial, defined, indices_of, partial_of, scope_for
from tests.latex_reader.symbols import Entry, Symbol
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import Bold, Compare, Name, Node, Number, Statement, below_of, is_bold
from tests.latex_worlds import Trial
from tests.programs import drawn


@dataclass(frozen=True)
class Proof:
    """A document held against the interpreter."""

    point: Trial
    document: Document
    entrywise: Document | None = None
    """Of a document of matrices the one entry by entry, where the formulas in the text are proved: they are the same."""

    def evaluator(self, line: Line | None = None) -> Evaluator:
        """The values of the program that a line is about: as the spec has it, or as it is computed."""
        sizes = {**self.point.sizes, **{name: n for name, n in self.document.sizes.items() if n is not None}}
        if line is not None and (line.section == "Forward" or line.reason.startswith("as written")):
            return Evaluator(World(self.document.symbols, sizes, self.point.given, {}))
        return Evaluator(World(self.document.symbols, sizes, self.made, self.point.adjoints))

    @cached_property
    def made(self) -> dict[str, Grid]:
        """The values of all tensors, those too that only the document has: it says in the table what they are."""
        sizes = {**self.point.sizes, **{name: n for name, n in self.document.sizes.items() if n is not None}}
        found = dict(self.point.made)
        for row in self.names:
            (said,) = re.findall(r"\$([^$]*=[^$]*)\$", row.about)
            found[row.name] = defined(row, formula(said), Evaluator(World(self.document.symbols, sizes, found, {})))
        return found

    @cached_property
    def names(self) -> tuple[Symbol, ...]:
        """The rows of what is no tensor of the program."""
        return tuple(row for row in self.document.symbols.rows
                     if row.name not in self.point.made and row.name not in self.point.given)

    def line(self, line: Line, head: Line) -> str:
        """Proves a displayed line; returns what kind of proof it was. Raises LatexError for a line that is not true."""
        if line.section.startswith("Rolled out"):
            return "rolled out"
        if head.text.startswith(r"\frac{\partial L}{\partial X} = \frac{\partial L}{\partial Y}") and r"\cdots" in line.text:
            return "the chain rule itself"
        said, left = statement(line.text), statement(head.text).left
        assert left is not None
        entry = self.target(left)
        evaluator = self.evaluator(line)
        wanted: Grid | None = None
        if said.sign == "+=":
            assert entry is not None
            assert line.section == "As it is computed"
            wanted = self.point.part(entry.name, head.numbers)
        check_line(left, said, evaluator, wanted)
        if entry is not None and entry.adjoint and line.title and line.section == "The gradient":
            assert line.title == entry.name, "the box of another gradient"
        return "part" if wanted is not None else "line"

    def target(self, left: Node) -> Entry | None:
        """What a line is about."""
        symbols = self.document.symbols
        if is_bold(left):
            found = symbols.bold_of(left)
            return Entry(found[0].name, found[1], found[2]) if found is not None else None
        return symbols.whole(left) or symbols.entry(left)

    def partial(self, text: str, number: int | None) -> str:
        """Proves an equation in the text: a partial derivative of the equation whose number was named, or a size; what defines a
        name need not be proved."""
        node = formula(text)
        if any(f"${text}$" in row.about for row in self.names):
            return "definition"
        if self.entrywise is not None and partial_of(node) is not None:
            if not any((number, text) == (inline.number, inline.text) for inline in self.entrywise.inlines):
                raise LatexError("not said of the entries")
            return "partial"
        found = partial_of(node)
        if found is None:
            match node:
                case Compare((Name(size), Number(value)), ("=",)) if self.document.sizes.get(size) == value:
                    return "size"
                case Compare((Name("Y"), Name("f")), ("=",)):
                    return "the chain rule itself"
            raise LatexError(f"an equation of no kind: {text}")
        of, by, slope = found
        check_partial(of, by, slope, self.named(number, of), self.evaluator())
        return "partial"

    def named(self, number: int | None, of: Node) -> Statement:
        """The equation of a number, in its last form, that is about the same tensor."""
        symbols = self.document.symbols
        found: Statement | None = None
        for line, head in equations(self.document.lines):
            if line.section in ("Forward", "Stable forms") and number in head.numbers:
                said, left = statement(line.text), statement(head.text).left
                assert left is not None
                about, wanted = symbols.entry(left), symbols.entry(of)
                if about is not None and wanted is not None and about.name == wanted.name:
                    found = Statement(left, said.sign, said.right, said.where)
        if found is None:
            raise LatexError(f"no equation ({number}) of this tensor stands above")
        return found

    def shape(self, row: Symbol) -> None:
        """Proves a row of the table; what lies before the first entry needs an equation on the page."""
        grid = self.made.get(row.name) or self.point.given[row.name]
        shape = tuple(self.evaluator().size(extent) for extent in row.shape)
        before = [line for line in self.document.lines if re.match(r"\S+_\{-\d", line.text)]
        found = tuple(n + low for n, low in zip(grid.values.shape, grid.lower, strict=True))
        if shape != found or any(grid.lower) and not before:
            raise LatexError(f"{row.name} has the shape {grid.values.shape} from {grid.lower}, not {shape}")

    def run(self) -> Counter[str]:
        """Proves everything; returns how often each kind of proof was made."""
        found: Counter[str] = Counter()
        with np.errstate(all="ignore"):
            for row in self.document.symbols.rows:
                with _told("Symbols", row.name):
                    self.shape(row)
            for line, head in equations(self.document.lines):
                with _told(line.section, line.text):
                    found[self.line(line, head)] += 1
            for inline in self.document.inlines:
                if inline.says:
                    with _told(inline.section, inline.text):
                        found[self.partial(inline.text, inline.number)] += 1
        return found


class _told:
    """Says where a formula stands that is not true."""

    def __init__(self, section: str, text: str) -> None:
        self.place = f"{section}: {text}"

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LatexError):
            raise AssertionError(f"{self.place}\n  {type(error).__name__}: {error}") from error


def prove(name: str, unroll: int | None = None, adjoint: str = "frac", notation: str = "index") -> Counter[str]:
    entrywise = read(printed(name, unroll, adjoint)) if notation == "matrix" else None
    return Proof(trial(name, unroll), read(printed(name, unroll, adjoint, notation)), entrywise).run()


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


MATRICES = {
    "char_rnn": 29, "gru_classifier": 50, "leaky_integrator": 27, "lstm_lm": 59, "minimal_gated_unit": 38, "rnn_regression": 27,
    "second_order": 20, "scalar": 0, "mlp": 37, "lenet": 34, "lenet_digits": 24,
}
"""Lines of matrices among them."""


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", SPECS)
def test_every_formula_of_every_spec_is_true_of_matrices(name: str, adjoint: str) -> None:
    document = read(printed(name, None, adjoint, "matrix"))
    bold = [line for line in document.lines if is_bold(statement(line.text).right)]
    assert len(bold) >= MATRICES[name]
    found = prove(name, None, adjoint, "matrix")
    assert sum(found.values()) == len(document.lines) + sum(inline.says for inline in document.inlines)


@pytest.mark.parametrize("name", SPECS)
def test_what_has_no_matrix_form_is_said(name: str) -> None:
    """A line that reads entries of what has matrices says so, itself or the one above that it goes on from."""
    document = read(printed(name, None, "frac", "matrix"))
    symbols = document.symbols
    having = {row.name for row in symbols.rows if row.bold is not None}
    for line, head in equations(document.lines):
        said = statement(line.text)
        read_here = {entry.name for entry in symbols.entries_in(said.right)}
        if r"\cdots" not in line.text and not is_bold(said.right) and read_here & having:
            assert "no matrix form" in line.reason or "no matrix form" in head.reason, line.text


@pytest.mark.parametrize("name", SPECS)
def test_bold_letters_are_as_the_page_says(name: str) -> None:
    """Capitals are matrices, small letters vectors, or matrices whose capital is another tensor's; columns and subscripts go by
    the table."""
    symbols = read(printed(name, None, "frac", "matrix")).symbols
    for bold, row in symbols.bold.items():
        letter = next(part.text for part in (bold, *below_of(bold)) if isinstance(part, Bold))
        rank = len(row.shape) - row.scripts
        if len(letter) == 1:
            other = [b for b in symbols.bold if Bold(letter.upper()) in (b, *below_of(b))]
            assert rank == (2 if letter.isupper() else 1) or rank == 2 and other, row


@pytest.mark.parametrize("name", [*ODD, *EQUATIONS])
def test_every_formula_of_an_odd_model_is_true_of_matrices(name: str) -> None:
    assert prove(name, None, "bar", "matrix")["line"] > 12


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", RECURRENT)
def test_every_formula_of_an_unrolled_recurrence_is_true(name: str, adjoint: str) -> None:
    assert prove(name, 3, adjoint)["line"] > 30


@pytest.mark.parametrize("name", [*ODD, *EQUATIONS])
@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
def test_every_formula_of_an_odd_model_is_true(name: str, adjoint: str) -> None:
    assert prove(name, None, adjoint)["partial"] > 2


@pytest.mark.parametrize("seed", range(24))
def test_every_line_of_a_random_program_is_true(seed: int) -> None:
    """Gathers, scatters, slices, diagonals, maxima, guards and recurrences in one program, as a user may write them."""
    case = drawn(seed)
    point = Trial(case.model(), given_sizes=tuple(case.sizes.items()))
    document = read(show(derivation_of(point.stages), "latex", Style(adjoint=("frac", "bar", "delta")[seed % 3])))
    proof, found = Proof(point, document), Counter[str]()
    with np.errstate(all="ignore"):
        for line, head in equations(document.lines):
            with _told(line.section, line.text):
                try:
                    found[proof.line(line, head)] += 1
                except LatexError as error:
                    if "says nothing about any entry" not in str(error):  # a range that is empty at sizes of 1 and 2
                        raise
                    found["vacuous"] += 1
    assert found["line"] > 2 * found["vacuous"]


# ---- wrong formulas are caught -----------------------------------------------------------------------------------------


def _elsewhere(evaluator: Evaluator) -> Evaluator:
    """Any numbers in the place of all real tensors: there no two formulas agree by what the model makes equal. What it makes 0,
    or one number everywhere (the adjoint of a mean), stays: a line that says so in another way is as true."""
    world, rng = evaluator.world, np.random.default_rng(7)

    def drawn(grid: Grid) -> Grid:
        values = grid.values
        if values.dtype.kind != "f" or np.ptp(values) == 0:
            return grid
        return Grid(np.where(values == 0, 0.0, rng.uniform(0.2, 0.8, values.shape)), grid.lower)

    grids, adjoints = ({name: drawn(grid) for name, grid in known.items()} for known in (world.grids, world.adjoints))
    return Evaluator(World(world.symbols, world.sizes, grids, adjoints))


def _means_the_same(line: Statement, other: Statement, left: Node, evaluator: Evaluator) -> bool:
    """Whether two lines with one left side have equal right sides whatever the tensors are."""
    entry = evaluator.world.symbols.entry(left)
    assert entry is not None
    scope = scope_for(entry.subscripts, line.where, (left, line.right), evaluator)
    return bool(np.allclose(*(evaluator.value(said.right, scope) for said in (line, other)), equal_nan=True))


def _refuted(proof: Proof, line: Line, head: Line) -> bool:
    try:
        proof.line(line, head)
    except LatexError:
        return True
    return False


@pytest.mark.parametrize(
    "name", ["char_rnn", "gru_classifier", "lstm_lm", "second_order", "minimal_gated_unit", "strided", "branches"])
def test_wrong_formulas_are_caught(name: str) -> None:
    """Every wrong that changes what a line means, in every line."""
    document = read(printed(name))
    proofs = [Proof(replace(trial(name), seed=seed), document) for seed in (3, 4, 5)]  # a place of a maximum may agree at one
    chance = random.Random(name)
    caught: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        for line, head in equations(document.lines):
            if r"\cdots" in line.text:
                continue
            for kind, text in mutated(line.text, chance, 2):
                wrong = replace(line, text=text), head if line.more else replace(head, text=text)
                if any(_refuted(proof, *wrong) for proof in proofs):
                    caught[kind] += 1
                    continue
                left = statement(head.text).left
                assert left is not None
                same = _means_the_same(statement(line.text), statement(text), left, _elsewhere(proofs[0].evaluator(line)))
                assert same, f"{kind}: {text} was taken for {line.text}"
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


@pytest.mark.parametrize("adjoint", ["frac", "bar", "delta"])
@pytest.mark.parametrize("name", [*SPECS, *ODD])
def test_every_symbol_in_the_text_is_defined(name: str, adjoint: str) -> None:
    """What a formula of words alone names is a tensor of the table, its adjoint, an index of some line or a size."""
    document = read(printed(name, None, adjoint))
    evaluator = Proof(trial(name), document).evaluator()
    indices = {index for line in document.lines if r"\cdots" not in line.text
               for index in indices_of((statement(line.text).right, statement(line.text).left or Number(0)), evaluator)}
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
        unknown = set(indices_of((node,), evaluator)) - indices - {"X", "Y", "f"}
        assert not unknown, f"{inline.text}: nothing says what {unknown} is"


def _programs(name: str) -> Iterator[Program]:
    stages = trial(name).stages
    yield from (stages.program, stages.stabilised, stages.adjoint, stages.optimised)
