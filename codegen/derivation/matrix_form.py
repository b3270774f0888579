"""Matrix form: statements recognised as sums of products of matrices, as textbooks write them.

    a[t,n,i] = sum_k W[i,k]*x[t,n,k] + b[i]                 A_t = X_t W^T + b
    dL/da[t,n,i] = dL/dh[t,n,i]*(1 - h[t,n,i]**2)           dL/dA_t = dL/dH_t o (1 - H_t o H_t)
    dL/dU[i,j] = sum_t,n h[t-1,n,j]*dL/da[t,n,i]            dL/dU = sum_t (dL/dA_t)^T H_{t-1}

A factor with two indices is an edge between them, one with one index a vector at it; a term is a product of matrices where its
edges are a path from the row of the target to its column over summed indices. Whatever has no such form is left to index form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Expr, Indexed, Mul

from codegen.derivation.entrywise import Entrywise
from codegen.derivation.formula import (
    Fence,
    Formula,
    Letter,
    Line,
    Matrices,
    Product,
    Row,
    Sign,
    Term,
    Terms,
    Word,
    brackets,
    summand,
    summed_up,
)
from codegen.derivation.index_form import IndexForm, signed_terms
from codegen.derivation.layouts import Layout
from codegen.derivation.matrix_parts import (
    ONES,
    Axes,
    NoMatrixForm,
    diagonal,
    hadamard,
    on_ones,
    operand,
    spread,
    transposed,
)
from codegen.derivation.matrix_paths import MatrixPath
from codegen.derivation.statements import Statement
from codegen.derivation.symbols import Symbol
from symbolic.analysis import index_reads, is_equal
from symbolic.program import Equation, Index, IndexName, Program, Reduction, index_symbols, operands, tensor_of

__all__ = ["MatrixForm"]


class MatrixForm:
    """Prints statements as matrices; ``line`` gives ``None`` where there is no such form."""

    def __init__(self, form: IndexForm, layouts: Mapping[str, Layout]) -> None:
        self.form, self.layouts = form, layouts
        self.program: Program = form.program
        self.names = _bold_names(form, layouts)

    # ---- symbols ---------------------------------------------------------------------------------------------------

    def symbol(self, name: str, scripts: Sequence[Formula] = ()) -> Formula:
        """A tensor's matrix symbol with subscripts; of an adjoint dL/dX."""
        primal = self.form.primal.get(name)
        return self.names[name].entry(scripts) if primal is None else self.adjoint_of(primal, scripts)

    def adjoint_of(self, primal: str, scripts: Sequence[Formula] = ()) -> Formula:
        """dL/dX as a matrix."""
        bold = primal in self.layouts and self.layouts[primal].rank > 0
        return self.form.derivative(primal, self.names[primal], scripts, bold)

    # ---- statements ------------------------------------------------------------------------------------------------

    def line(self, statement: Statement) -> Line | None:
        """The statement with matrices, or ``None``."""
        try:
            return self._line(statement)
        except NoMatrixForm:
            return None

    def _line(self, statement: Statement) -> Line:
        domain = {i.symbol: i for i in statement.terms[0].indices}
        shown, frame = self.read(statement.target, domain)
        scripts = frozenset().union(*(index_symbols(p) for p in self._scripts_of(statement.target)))
        told = [i for i in statement.free if i.symbol in scripts]
        return self.form.stated(statement, shown, self.whole(statement.terms, frame), told)

    def whole(self, equations: Sequence[Equation], frame: Axes) -> list[Term]:
        """The bodies of equations that add into the same entries, as all of the matrix over a frame, not as what its rows or its
        entries have in common. Raises NoMatrixForm where there is no such form."""
        met = frozenset().union(*(self._standing(operands(e.body))[0] for e in equations)) & frozenset(frame)
        if len(frame) == 2 and met == frozenset(frame[1:]):  # the same in every row
            terms = [t for e in equations for t in self.terms(e, frame[1:])]
            return [Term("+", (Matrices((ONES, transposed(operand(summed_up(terms))))),))]
        terms = [t for e in equations for t in self.terms(e, frame)]
        return [on_ones(term, len(frame)) for term in terms] if frame and not met else terms

    def _scripts_of(self, entry: Indexed) -> tuple[Any, ...]:
        return tuple(entry.indices[: self.layouts[tensor_of(entry)].scripts])

    def terms(self, equation: Equation, frame: Axes) -> list[Term]:
        """An equation's body over the axes of a frame. Raises NoMatrixForm where there is no such form."""
        if equation.reduction is not Reduction.SUM:
            raise NoMatrixForm
        matrix = self._matrix_indices(equation)
        if any(index_symbols(g) & matrix or index_reads((g,)) or operands(g) for g in equation.guards):
            raise NoMatrixForm
        if index_symbols(equation.body.xreplace({entry: sp.Dummy() for entry in operands(equation.body)})) & matrix:
            raise NoMatrixForm  # an index as a number
        front: list[Formula] = []
        over = [i for i in equation.reduced if i.symbol not in matrix]
        if over:
            front.append(self.form.big(equation, over))
        front += [Fence(self.form.show(guard), "[]") for guard in equation.guards]
        domain = {i.symbol: i for i in equation.indices}
        summed = frozenset(i.symbol for i in equation.reduced) & matrix
        found = []
        pairs = list(signed_terms(equation.body))
        if front and len(pairs) > 1:
            inner = Terms(tuple((sign, summand(self._product(part, frame, summed, domain))) for sign, part in pairs))
            return [Term("+", (*front, brackets(inner)))]
        for sign, part in pairs:
            shown = self._product(part, frame, summed, domain)
            found.append(Term(sign, (*front, *(shown.factors if type(shown) is Product else (shown,)))))
        return found

    def jacobian_terms(self, expr: Expr, rows: Axes, columns: Axes, domain: Mapping[IndexName, Index]) -> list[Term]:
        """A sum of products as the terms of a matrix of derivatives: values at one index are diagonal matrices."""
        entries = Entrywise(self, domain)
        if len(rows) != 1 or len(columns) != 1:
            raise NoMatrixForm
        if rows == columns:
            return [Term("+", (diagonal(entries.show(expr, rows)),))]
        found = []
        for sign, part in signed_terms(expr):
            groups = entries.grouped(part)
            scalar = groups.pop(frozenset(), None)
            shown = MatrixPath(groups, frozenset().union(*groups) - {*rows, *columns}, entries).product((*rows, *columns))
            found.append(Term(sign, (*(self.numbers(scalar) if scalar is not None else ()), shown)))
        return found

    def _matrix_indices(self, equation: Equation) -> frozenset[IndexName]:
        """The indices that stand on an axis of a matrix; none of them may stand as a subscript too."""
        found, scripts = self._standing((equation.target, *operands(equation.body)))
        if found & scripts:
            raise NoMatrixForm
        return found

    def _standing(self, entries: Iterable[Indexed]) -> tuple[frozenset[IndexName], frozenset[IndexName]]:
        """The indices that stand on an axis of a matrix, and those in subscripts."""
        axes: set[IndexName] = set()
        scripts: set[IndexName] = set()
        for entry in entries:
            layout = self.layouts.get(tensor_of(entry))
            if layout is None:
                raise NoMatrixForm
            for axis, part in enumerate(entry.indices):
                (scripts if axis < layout.scripts else axes).update(index_symbols(part))
        return frozenset(axes), frozenset(scripts)

    # ---- products over summed indices ------------------------------------------------------------------------------

    def _product(self, expr: Expr, frame: Axes, summed: frozenset[IndexName], domain: Mapping[IndexName, Index]) -> Formula:
        """A term of a sum: a product of matrices along a path, or entry by entry where nothing is summed."""
        expand = Entrywise(self, domain)
        if not summed:
            return expand.show(expr, frame)
        found = expand.grouped(expr)
        if not summed <= frozenset().union(*found):
            raise NoMatrixForm  # a sum of what does not depend on its index
        scalar = found.pop(frozenset(), None)
        same = found.pop(frozenset(frame), None) if len(found) > 1 and frame else None
        met = frozenset().union(*found)
        ends = frame if same is None else tuple(s for s in frame if s in met)
        shown = MatrixPath(found, summed, expand).product(ends)
        if same is not None and not ends:
            shown = Product((brackets(shown), operand(expand.show(same, frame))))
        elif same is not None:
            pair = [operand(expand.show(same, frame)), brackets(spread(shown, ends, frame))]
            shown = hadamard(pair if all(isinstance(f, Indexed) for f in Mul.make_args(same)) else pair[::-1])
        if scalar is not None:
            front = expand.show(scalar, ())
            rest = (shown,) if isinstance(shown, Matrices) else shown.factors if isinstance(shown, Product) else (operand(shown),)
            shown = Product((summand(front), *rest))
        return shown

    def numbers(self, expr: Any) -> tuple[Formula, ...]:
        """What is no matrix as factors beside one."""
        return tuple(map(summand, self.form.factors(expr)))

    # ---- reads -----------------------------------------------------------------------------------------------------

    def read(self, entry: Indexed, domain: Mapping[IndexName, Index]) -> tuple[Formula, Axes]:
        """An entry as a matrix symbol with subscripts and slices, and the index of each of its axes."""
        name = tensor_of(entry)
        layout = self.layouts.get(name)
        if layout is None or self.program.tensor(name).is_index or index_reads(entry.indices):
            raise NoMatrixForm
        scripts = [self.form.show(part) for part in entry.indices[: layout.scripts]]
        axes: list[IndexName] = []
        slices: list[Formula | None] = []
        for axis in range(layout.scripts, len(entry.indices)):
            part = entry.indices[axis]
            symbols = index_symbols(part)
            if len(symbols) != 1:
                raise NoMatrixForm
            (symbol,) = symbols
            if symbol in axes or part.coeff(symbol) != 1 or symbol not in domain:
                raise NoMatrixForm
            axes.append(symbol)
            slices.append(self._slice(part - symbol, domain[symbol], self.program.tensor(name).bounds(axis)))
        if any(slices):
            scripts += [part or Sign(":") for part in slices]
        return self.symbol(name, scripts), tuple(axes)

    def axes(self, entry: Indexed, domain: Mapping[IndexName, Index]) -> Axes:
        """The index of each axis of the matrix that an entry belongs to."""
        return MatrixForm.read(self, entry, domain)[1]

    def _slice(self, start: Any, over: Index, bounds: tuple[Any, Any]) -> Formula | None:
        """``H:2H``, or ``None`` for the whole axis."""
        lower, upper = sp.expand(over.lower + start), sp.expand(over.upper + start)
        if is_equal(lower, bounds[0], self.program) and is_equal(upper, bounds[1], self.program):
            return None
        return Row((self.form.show(lower), Sign(":"), self.form.show(upper)))


def _bold_names(form: IndexForm, layouts: Mapping[str, Layout]) -> dict[str, Symbol]:
    """Bold symbols: capitals for matrices, small letters for vectors, as far as that keeps them apart; scalars stay."""
    found: dict[str, Symbol] = {}
    taken: dict[Any, str] = {}
    for name, symbol in form.symbols.items():
        layout = layouts.get(name)
        base = symbol.base
        if form.adjoint == "code" or layout is None or not layout.rank or isinstance(base, Word) and "." in base.text:
            found[name] = symbol
            continue
        choices: list[Callable[[str], str]] = [str.upper if layout.rank == 2 else str.lower, str]
        shown = symbol
        for change in choices:
            letter = type(base)(change(_text(base)) if isinstance(base, Letter) and len(_text(base)) == 1 else _text(base), True)
            shown = Symbol(letter, symbol.below, symbol.above)
            if taken.setdefault(shown, name) == name:
                break
        found[name] = shown
    return found


def _text(base: Letter | Word) -> str:
    return base.name if isinstance(base, Letter) else base.text
