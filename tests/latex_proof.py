"""A derivation held against the interpreter: its LaTeX is read back, and each formula has the values that the model has."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tests.latex_models import printed, trial
from tests.latex_reader.document import Document, Line, equations, read
from tests.latex_reader.evaluation import Evaluator, Grid, World
from tests.latex_reader.grammar import formula, statement
from tests.latex_reader.matrices import Matrices, agreeing
from tests.latex_reader.mutations import Kinds, mutated
from tests.latex_reader.proof import check_line, check_partial, defined, partial_of, scope_for
from tests.latex_reader.symbols import Entry, Symbol
from tests.latex_reader.tokens import LatexError
from tests.latex_reader.tree import Compare, Name, Node, Number, Statement, is_bold
from tests.latex_worlds import Trial


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
        if line.title == "Backward" and r"\cdots" in line.text:
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
                case Compare((Name(), Name()), ("=",)) if number is None:
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
                with told("Symbols", row.name):
                    self.shape(row)
            for line, head in equations(self.document.lines):
                with told(line.section, line.text):
                    found[self.line(line, head)] += 1
            for inline in self.document.inlines:
                if inline.says:
                    with told(inline.section, inline.text):
                        found[self.partial(inline.text, inline.number)] += 1
        return found


class told:
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


# ---- wrong formulas ----------------------------------------------------------------------------------------------------


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
    symbols = evaluator.world.symbols
    matrix = symbols.matrix(left)
    entry = matrix or symbols.entry(left)
    assert entry is not None
    scope = scope_for(entry.scripts if matrix is not None else entry.subscripts, line.where, (left, line.right), evaluator)
    if is_bold(left) or is_bold(line.right):
        values = [Matrices(evaluator).value(said.right, scope) for said in (line, other)]
        return values[0].kind == values[1].kind and bool(np.allclose(*agreeing(*values), equal_nan=True))
    return bool(np.allclose(*(evaluator.value(said.right, scope) for said in (line, other)), equal_nan=True))


def _refuted(proof: Proof, line: Line, head: Line) -> bool:
    try:
        proof.line(line, head)
    except LatexError:
        return True
    return False


def caught_in(name: str, notation: str, kinds: Kinds) -> Counter[str]:
    """How many wrongs of each kind were caught; fails for one that was not."""
    document = read(printed(name, None, "frac", notation))
    proofs = [Proof(replace(trial(name), seed=seed), document) for seed in (3, 4, 5)]  # a place of a maximum may agree at one
    chance = random.Random(name)
    found: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        for line, head in equations(document.lines):
            if r"\cdots" in line.text or notation == "matrix" and not is_bold(statement(line.text).right):
                continue
            for kind, text in mutated(line.text, chance, 2, kinds):
                wrong = replace(line, text=text), head if line.more else replace(head, text=text)
                if any(_refuted(proof, *wrong) for proof in proofs):
                    found[kind] += 1
                    continue
                left = statement(head.text).left
                assert left is not None
                same = _means_the_same(statement(line.text), statement(text), left, _elsewhere(proofs[0].evaluator(line)))
                assert same, f"{kind}: {text} was taken for {line.text}"
    return found
