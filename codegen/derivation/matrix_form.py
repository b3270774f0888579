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
from sympy import Add, Expr, Indexed, Mul, Pow

from codegen.derivation.formula import (
    Bar,
    Big,
    Call,
    Fence,
    Formula,
    Fraction,
    Letter,
    Line,
    List,
    Matrices,
    Number,
    Product,
    Root,
    Row,
    Script,
    Sign,
    Term,
    Terms,
    Word,
    brackets,
)
from codegen.derivation.index_form import HEADS, RELATIONS_OF, IndexForm, partial_of, signed_terms
from codegen.derivation.layouts import Layout
from codegen.derivation.statements import Statement
from codegen.derivation.symbols import Symbol
from symbolic.analysis import index_reads, is_equal
from symbolic.program import Equation, Index, IndexName, Program, Reduction, index_symbols, operands, tensor_of

__all__ = ["Axes", "MatrixForm", "NoMatrixForm", "bare", "operand", "summed_up"]

Axes = tuple[IndexName, ...]
ONES = Letter("one", bold=True)


class NoMatrixForm(Exception):  # noqa: N818 - nothing is wrong
    """A term has no matrix form."""


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
        symbol = self.names[primal]
        if self.form.adjoint == "code":
            return Symbol(Word(f"d_{primal}")).entry(scripts)
        if self.form.adjoint == "bar":
            return symbol.entry(scripts, Bar(symbol.base))
        if self.form.adjoint == "delta":
            bold = primal in self.layouts and self.layouts[primal].rank > 0
            return Script(Letter("delta", bold), List(tuple(scripts)) if scripts else None, Fence(symbol.entry()))
        return partial_of(self.form.symbols[self.program.loss].entry(), symbol.entry(scripts))

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
        odd = [i for i in statement.free if i.symbol in scripts
               and any(self.form.is_odd(i, e, statement.target) for e in statement.terms)]
        where = List(tuple(self.form.range_of(i) for i in odd)) if odd else None
        terms = sorted(self.whole(statement.terms, frame), key=lambda term: term.sign == "-")
        return Line(shown, tuple(terms), statement.numbers, where)

    def whole(self, equations: Sequence[Equation], frame: Axes) -> list[Term]:
        """The bodies of equations that add into the same entries, as all of the matrix over a frame, not as what its rows or its
        entries have in common. Raises NoMatrixForm where there is no such form."""
        met = frozenset().union(*(self._standing(operands(e.body))[0] for e in equations)) & frozenset(frame)
        if len(frame) == 2 and met == frozenset(frame[1:]):  # the same in every row
            terms = [t for e in equations for t in self.terms(e, frame[1:])]
            return [Term("+", (Matrices((ONES, transposed(operand(summed_up(terms))))),))]
        terms = [t for e in equations for t in self.terms(e, frame)]
        return [_on_ones(term, len(frame)) for term in terms] if frame and not met else terms

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
            front.append(self._big(over, equation))
        front += [Fence(self.form.show(guard), "[]") for guard in equation.guards]
        domain = {i.symbol: i for i in equation.indices}
        summed = frozenset(i.symbol for i in equation.reduced) & matrix
        found = []
        pairs = list(signed_terms(equation.body))
        if front and len(pairs) > 1:
            inner = Terms(tuple((sign, self._beside(self._product(part, frame, summed, domain))) for sign, part in pairs))
            return [Term("+", (*front, brackets(inner)))]
        for sign, part in pairs:
            shown = self._product(part, frame, summed, domain)
            found.append(Term(sign, (*front, *(shown.factors if type(shown) is Product else (shown,)))))
        return found

    def jacobian_terms(self, expr: Expr, rows: Axes, columns: Axes, domain: Mapping[IndexName, Index]) -> list[Term]:
        """A sum of products as the terms of a matrix of derivatives: values at one index are diagonal matrices."""
        entries = _Entrywise(self, domain)
        if len(rows) != 1 or len(columns) != 1:
            raise NoMatrixForm
        if rows == columns:
            return [Term("+", (diagonal(entries.show(expr, rows)),))]
        found = []
        for sign, part in signed_terms(expr):
            groups: dict[frozenset[IndexName], list[Expr]] = {}
            for factor in Mul.make_args(part):
                groups.setdefault(entries.indices(factor), []).append(factor)
            scalar = groups.pop(frozenset(), [])
            whole = {key: Mul(*factors) for key, factors in groups.items()}
            shown = _Path(whole, frozenset().union(*whole) - {*rows, *columns}, entries).product((*rows, *columns))
            found.append(Term(sign, (*(self.numbers(Mul(*scalar)) if scalar else ()), shown)))
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

    def _big(self, over: Sequence[Index], equation: Equation) -> Formula:
        odd = {i for i in over if self.form.is_odd(i, equation)}
        if len(over) == 1 and over[0] in odd:
            (one,) = over
            start = Row((self.form.show(one.symbol), Sign("="), self.form.show(one.lower)))
            return Big("sum", start, self.form.show(one.upper - 1))
        parts = [self.form.range_of(i) if i in odd else self.form.show(i.symbol) for i in over]
        return Big("sum", List(tuple(parts)) if len(parts) > 1 else parts[0])

    # ---- products over summed indices ------------------------------------------------------------------------------

    def _product(self, expr: Expr, frame: Axes, summed: frozenset[IndexName], domain: Mapping[IndexName, Index]) -> Formula:
        """A term of a sum: a product of matrices along a path, or entry by entry where nothing is summed."""
        expand = _Entrywise(self, domain)
        if not summed:
            return expand.show(expr, frame)
        groups: dict[frozenset[IndexName], list[Expr]] = {}
        for factor in Mul.make_args(expr):
            groups.setdefault(expand.indices(factor), []).append(factor)
        found = {key: Mul(*factors) for key, factors in groups.items()}
        if not summed <= frozenset().union(*found):
            raise NoMatrixForm  # a sum of what does not depend on its index
        scalar = found.pop(frozenset(), None)
        same = found.pop(frozenset(frame), None) if len(found) > 1 and frame else None
        met = frozenset().union(*found)
        ends = frame if same is None else tuple(s for s in frame if s in met)
        shown = _Path(found, summed, expand).product(ends)
        if same is not None and not ends:
            shown = Product((brackets(shown), operand(expand.show(same, frame))))
        elif same is not None:
            pair = [operand(expand.show(same, frame)), brackets(_spread(shown, ends, frame))]
            shown = _hadamard(pair if all(isinstance(f, Indexed) for f in Mul.make_args(same)) else pair[::-1])
        if scalar is not None:
            front = expand.show(scalar, ())
            rest = (shown,) if isinstance(shown, Matrices) else shown.factors if isinstance(shown, Product) else (operand(shown),)
            shown = Product((brackets(front) if isinstance(front, Terms) else front, *rest))
        return shown

    def numbers(self, expr: Any) -> tuple[Formula, ...]:
        """What is no matrix as factors beside one."""
        return tuple(map(self._beside, self.form.factors(expr)))

    def _beside(self, shown: Formula) -> Formula:
        return brackets(shown) if isinstance(shown, Terms) else shown

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


class _Entrywise:
    """Expressions entry by entry: products are o, functions work on each entry."""

    def __init__(self, form: MatrixForm, domain: Mapping[IndexName, Index]) -> None:
        self.form, self.domain = form, domain

    def indices(self, expr: Expr) -> frozenset[IndexName]:
        """The matrix indices of all that an expression reads."""
        if index_symbols(expr) - frozenset().union(*(index_symbols(e) for e in operands(expr))):
            raise NoMatrixForm  # an index as a number
        return frozenset().union(*(self.form.axes(e, self.domain) for e in operands(expr)))

    def show(self, expr: Any, frame: Axes) -> Formula:
        """The matrix of the expression's values over ``frame``."""
        match expr:
            case Indexed():
                return self._entry(expr, frame)
            case Add():
                return Terms(tuple((sign, self._side(part, frame)) for sign, part in signed_terms(expr)))
            case Mul():
                return self._product(expr, frame)
            case Pow():
                return self._power(expr, frame)
        if not expr.args or not operands(expr):
            if index_symbols(expr):
                raise NoMatrixForm
            return self.form.form.show(expr)
        name = type(expr).__name__
        if name == "where":
            raise NoMatrixForm
        if name in RELATIONS_OF:
            left, right = (self.show(part, frame) for part in expr.args)
            return Fence(Row((left, Sign(RELATIONS_OF[name]), right)), "[]")
        if name == "square":
            return self._power(Pow(expr.args[0], 2, evaluate=False), frame)
        if name == "absolute":
            return Fence(self.show(expr.args[0], frame), "||")
        head = self.form.form.head(expr, HEADS)
        return Call(head, tuple(bare(self.show(part, frame)) for part in expr.args))

    def _side(self, expr: Any, frame: Axes) -> Formula:
        shown = self.show(expr, frame)
        return brackets(shown) if isinstance(shown, Terms) else shown

    def _entry(self, entry: Indexed, frame: Axes) -> Formula:
        shown, axes = self.form.read(entry, self.domain)
        if axes == frame or not axes:
            return shown
        if len(frame) == 2 and axes == frame[::-1]:
            return transposed(shown)
        if len(frame) == 2 and axes == frame[1:]:
            return shown  # the same in each row
        if len(frame) == 2 and axes == frame[:1]:
            return Matrices((shown, transposed(ONES)))  # the same in each column
        raise NoMatrixForm

    def _product(self, expr: Expr, frame: Axes) -> Formula:
        if expr.could_extract_minus_sign():
            return Terms((("-", self._side(-expr, frame)),))
        above: list[Formula] = []
        numbers: list[Any] = []
        below: list[Expr] = []
        for factor in Mul.make_args(expr):
            if factor.is_Pow and factor.exp.is_number and factor.exp.is_negative and operands(factor):
                below.append(factor.base ** -factor.exp)
            elif not operands(factor):
                numbers += [factor] if factor != 1 else []
            else:
                above.append(operand(self.show(factor, frame), self._is_scalar(factor)))
        if (outer := self._outer(expr, frame)) is not None:
            return outer
        ordered = sorted(
            zip(above, [f for f in Mul.make_args(expr) if operands(f) and not self._is_divisor(f)], strict=True),
            key=lambda pair: self.form.form._rank(pair[1]))
        scalars = [shown for shown, factor in ordered if self._is_scalar(factor)]
        rest = [shown for shown, factor in ordered if not self._is_scalar(factor)]
        top = _hadamard(rest) if rest else None
        above_line, below_line = Mul(*numbers).as_numer_denom()
        if below:
            bottom = self.show(Mul(below_line, *below), frame)
            whole = [*([] if above_line == 1 else self.form.numbers(above_line)), *scalars, *([top] if top else [])]
            return Fraction((whole[0] if len(whole) == 1 else Product(tuple(whole))) if whole else Number("1"), bottom)
        front = [*([] if not numbers else self.form.numbers(Mul(*numbers))), *scalars]
        if top is not None and not front:
            return top
        if top is not None:
            front.append(brackets(top) if isinstance(top, Row) else top)
        return front[0] if len(front) == 1 else Product(tuple(front))

    def _outer(self, expr: Expr, frame: Axes) -> Formula | None:
        """The product of a column and a row, ``u v^T``, where no factor has both indices of the frame."""
        if len(frame) != 2:
            return None
        parts: dict[frozenset[IndexName], list[Expr]] = {}
        for factor in Mul.make_args(expr):
            parts.setdefault(self.indices(factor), []).append(factor)
        rows, columns = (parts.pop(frozenset({symbol}), None) for symbol in frame)
        scalars = parts.pop(frozenset(), [])
        if rows is None or columns is None or parts:
            return None
        left, right = (operand(self.show(Mul(*part), (symbol,))) for part, symbol in zip((rows, columns), frame, strict=True))
        shown = Matrices((left, transposed(right)))
        return shown if not scalars else Product((operand(self.show(Mul(*scalars), ())), shown))

    def _is_divisor(self, factor: Expr) -> bool:
        return bool(factor.is_Pow and factor.exp.is_number and factor.exp.is_negative)

    def _is_scalar(self, factor: Expr) -> bool:
        return not self.indices(factor)

    def _power(self, expr: Pow, frame: Axes) -> Formula:
        base, exponent = expr.base, expr.exp
        if exponent.is_number and exponent.is_negative:
            return Fraction(Number("1"), self.show(base**-exponent, frame))
        if exponent == sp.Rational(1, 2):
            return Root(self.show(base, frame))
        shown = self.show(base, frame)
        if exponent == 2 and self.indices(base):
            if isinstance(shown, Call) and isinstance(shown.head, Word | Letter):
                return Call(Script(shown.head, None, Number("2")), shown.arguments)
            one = operand(shown)
            return Row((one, Sign("odot"), one))
        above = self.form.form.show(exponent)
        return Script(brackets(shown), None, Row((Sign("odot"), above)) if self.indices(base) else above)


class _Path:
    """The factors of a term by their indices: edges and vectors, each used once."""

    def __init__(self, groups: Mapping[frozenset[IndexName], Expr], summed: frozenset[IndexName], entries: _Entrywise) -> None:
        self.groups, self.summed, self.entries = dict(groups), summed, entries
        if any(len(key) > 2 for key in groups):
            raise NoMatrixForm

    def product(self, frame: Axes) -> Formula:
        """The product over the frame, all factors used."""
        if len(frame) == 2:
            found = self._matrix(frame[0], frame[1])
        elif len(frame) == 1:
            found = self._vector(frame[0])
        else:
            found = self._scalar()
        if self.groups:
            raise NoMatrixForm
        return found

    def _take(self, *key: IndexName) -> Formula | None:
        """The factor at these indices, which is used up: a matrix from the first index to the second."""
        expr = self.groups.pop(frozenset(key), None)
        if expr is None:
            return None
        own = self._axes(expr)
        if len(key) == 2 and own == key[::-1]:
            return transposed(operand(self.entries.show(expr, own)))
        return operand(self.entries.show(expr, key))

    def _axes(self, expr: Expr) -> Axes:
        """The axes of an expression as its first matrix has them."""
        return max((self.entries.form.axes(e, self.entries.domain) for e in operands(expr)), key=len)

    def _next(self, here: IndexName, end: IndexName | None) -> IndexName | None:
        """The index at the other end of the one unused edge at ``here``."""
        ends = [other for key in self.groups if len(key) == 2 and here in key for other in key - {here}]
        if len(ends) > 1:
            raise NoMatrixForm
        if ends and ends[0] != end and ends[0] not in self.summed:
            return None
        return ends[0] if ends else None

    def _walk(self, start: IndexName, end: IndexName | None) -> tuple[list[Formula], IndexName]:
        """The matrices along the edges from ``start``, to ``end`` or as far as they go."""
        factors: list[Formula] = []
        here = start
        while here != end and (other := self._next(here, end)) is not None:
            edge = self._take(here, other)
            assert edge is not None
            factors.append(edge)
            here = other
            if here in self.summed and self._next(here, end) is not None and (scale := self._take(here)) is not None:
                factors.append(diagonal(scale))
        return factors, here

    def _matrix(self, rows: IndexName, columns: IndexName) -> Formula:
        factors, last = self._walk(rows, columns)
        if last == columns:
            shown = _line_up(factors)
            if (below := self._take(columns)) is not None:
                shown = _line_up([shown if isinstance(shown, Product) else operand(shown), diagonal(below)])
            if (beside := self._take(rows)) is not None:
                shown = _line_up([diagonal(beside), shown if isinstance(shown, Product) else operand(shown)])
            return shown
        left = self._ended(factors, last)
        right = self._vector(columns)
        return _line_up([*left, transposed(right)])

    def _ended(self, factors: list[Formula], last: IndexName) -> list[Formula]:
        """A walk that ends in a vector: the one at its last index, or ones where the entries are summed."""
        vector = self._take(last)
        if vector is not None:
            return [*factors, vector]
        if last not in self.summed:
            raise NoMatrixForm
        return [*factors, ONES]

    def _vector(self, start: IndexName) -> Formula:
        scale = self._take(start) if self._next(start, None) is not None else None
        factors, last = self._walk(start, None)
        found = _line_up(self._ended(factors, last))
        return found if scale is None else Row((scale, Sign("odot"), brackets(found)))

    def _scalar(self) -> Formula:
        vectors = [key for key in self.groups if len(key) == 1]
        first = next(iter(vectors or self.groups))
        alone = [s for s in self._axes(self.groups[first]) if sum(s in other for other in self.groups) == 1]
        start = next(iter(first)) if len(first) == 1 else alone[0] if alone else next(iter(first))
        front = self._take(start)
        factors, last = self._walk(start, None)
        if not factors:
            return _line_up([transposed(ONES), front or ONES])
        return _line_up([transposed(front or ONES), *self._ended(factors, last)])


def transposed(shown: Formula) -> Formula:
    """The transpose of a matrix, or the row of a vector; the mark stands after a superscript that belongs to the name."""
    top = Letter("top")
    if isinstance(shown, Letter | Word):
        return Script(shown, None, top)
    if isinstance(shown, Script) and not isinstance(shown.base, Fence):
        return Script(shown.base, shown.below, top if shown.above is None else Row((shown.above, top)))
    return Script(shown if isinstance(shown, Fence) else brackets(shown), None, top)


def operand(shown: Formula, scalar: bool = False) -> Formula:
    """A factor: brackets round sums and entrywise products."""
    entrywise = isinstance(shown, Row) and any(isinstance(p, Sign) and p.name == "odot" for p in shown.parts)
    loose = isinstance(shown, Terms) or entrywise
    return brackets(shown) if loose or isinstance(shown, Product) and not scalar else shown


def bare(shown: Formula) -> Formula:
    """An argument of a function needs no brackets of its own."""
    return shown.inner if isinstance(shown, Fence) and shown.kind == "()" else shown


def diagonal(shown: Formula) -> Formula:
    """The diagonal matrix of a vector."""
    return Call(Word("diag"), (bare(shown),))


def summed_up(terms: Sequence[Term]) -> Formula:
    """Terms as one formula."""
    if len(terms) == 1 and terms[0].sign == "+":
        (term,) = terms
        return term.factors[0] if len(term.factors) == 1 else Product(term.factors)
    return Terms(tuple((t.sign, t.factors[0] if len(t.factors) == 1 else Product(t.factors)) for t in terms))


def _on_ones(term: Term, rank: int) -> Term:
    """A number that all entries of a vector or a matrix are."""
    ones = ONES if rank == 1 else Matrices((ONES, transposed(ONES)))
    return Term(term.sign, (ones,) if term.factors == (Number("1"),) else (*term.factors, ones))


def _spread(shown: Formula, ends: Axes, frame: Axes) -> Formula:
    """A vector over the rows or the columns of the frame as a matrix."""
    if ends == frame:
        return shown
    return Matrices((shown, transposed(ONES)) if ends == frame[:1] else (ONES, transposed(shown)))


def _hadamard(parts: Sequence[Formula]) -> Formula:
    found: list[Formula] = []
    for part in parts:
        found += [Sign("odot"), part] if found else [part]
    return found[0] if len(found) == 1 else Row(tuple(found))


def _line_up(factors: Sequence[Formula]) -> Formula:
    flat: list[Formula] = []
    for factor in factors:
        flat += factor.factors if isinstance(factor, Product) else (factor,)
    return flat[0] if len(flat) == 1 else Matrices(tuple(flat))


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
