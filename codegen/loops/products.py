"""Sums of products as products of matrices: which indices are rows, columns and contracted, and which stay loops.

For ``c[..] += a[..]*b[..]`` the indices of a alone are rows, those of b alone columns (b is the factor that has the last axis of
c: rows of c lie together), the reduced ones of both are contracted, and what both have beside is a loop round the product. A
group of several indices is one index of a matrix where it steps evenly through both arrays that have it; of a group that does
not, the part that does is taken and the rest are loops, or, where windows overlap (a convolution), the places of all its entries
are listed: ``x[n,c,u+p,v+q]`` is a matrix of patches at ``rows[c,p,q] + columns[u,v]`` that is never laid out.

Requires: a lowered equation without a guard on an index of the matrices. Ensures: the same sums, in another order. Cost: linear
in the indices, times the number of orders that are tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.loops.ir import Buffer, For, How, Matrix, Nest, Node, Place, Product, Store
from codegen.loops.nests import levels
from codegen.lower import Storage
from symbolic.analysis import index_reads, is_nonnegative, lies_in, subscript_range
from symbolic.program import Equation, Index, IndexName, Kind, Program, Reduction, Size, Tensor, index_symbols, read, tensor_of

__all__ = ["Products"]

Steps = Mapping[IndexName, Expr]
SMALL = 64
"""Products of fewer multiplications stay loops."""


@dataclass(frozen=True)
class _Group:
    """Indices that are one index of a matrix, the fastest first, and how far it steps in each of two arrays."""

    indices: tuple[Index, ...]
    steps: tuple[Expr, Expr]

    @property
    def extent(self) -> Expr:
        return sp.Mul(*(i.extent for i in self.indices))


_Groups = tuple[_Group, _Group, _Group]
"""Of rows, of columns, of what is contracted."""
_ONE = _Group((), (sp.S.Zero, sp.S.Zero))


@dataclass
class Products:
    """Makes products; ``buffers`` gets the lists of offsets that they need."""

    program: Program
    buffers: dict[str, Buffer]
    fresh: Callable[[str], str]
    blocks: frozenset[Size] = frozenset()
    """The steps of blocks, of which the last has fewer."""
    lists: dict[tuple[tuple[Expr, Expr], ...], str] = field(default_factory=dict)
    """What is listed, as extents and steps -> its buffer."""
    pending: list[Node] = field(default_factory=list)
    """The loops that fill the lists that nobody has asked for yet."""

    def new_lists(self) -> list[Node]:
        """The loops that fill the lists that are new since they were last asked for: they hang on no loop."""
        found, self.pending = self.pending, []
        return found

    def nest(self, equation: Equation, origin: Equation, how: How) -> Nest | None:
        """The nest of a sum of products of two factors, or nothing where it is none."""
        found = self._factors(equation)
        if found is None:
            return None
        a, b, factor = found
        if factor != 1 and how is How.ADD:
            return None
        body = self._made(equation, a, b, how)
        if body is None:
            return None
        if factor != 1:
            free = [i for i in equation.indices if i not in equation.reduced]
            body = (*body, *levels(free, (), (Store(equation.target, factor * equation.target, How.SET),)))
        return Nest((origin,), body, "product")

    def _factors(self, equation: Equation) -> tuple[Indexed, Indexed, Expr] | None:
        """The two factors, the one with the last axis of the target second, and the number before them."""
        body = equation.body
        if equation.reduction is not Reduction.SUM or not equation.reduced or not body.is_Mul or equation.guards:
            return None
        entries = [f for f in body.args if isinstance(f, Indexed)]
        factor = sp.Mul(*(f for f in body.args if not isinstance(f, Indexed)))
        if len(entries) != 2 or factor.has(Indexed) or index_symbols(factor) or not equation.target.indices:
            return None
        if any(self.program.tensor(tensor_of(e)).is_index for e in entries):
            return None
        if any(index_reads(e.indices) for e in (*entries, equation.target)):
            return None
        mine = {i.symbol for i in equation.indices}
        if any(index_symbols(i.lower + i.upper) & mine for i in equation.indices):
            return None
        last = index_symbols(equation.target.indices[-1]) & mine
        if _overlaps(equation):  # windows: the factor with more entries gives the columns
            a, b = sorted(entries, key=lambda entry: self._likely(
                sp.Mul(*(i.extent for i in equation.free if i.symbol in _symbols(entry)))))
            return a, b, factor
        for a, b in (entries, entries[::-1]):
            if last and last <= _symbols(b) and not last & _symbols(a):
                return a, b, factor
        return None

    def _made(self, equation: Equation, a: Indexed, b: Indexed, how: How) -> tuple[Node, ...] | None:
        steps = self._steps_of(equation, (a, b, equation.target))
        if steps is None:
            return None
        even, listed = self._even(equation, a, b, steps), self._listed(equation, a, b, steps)
        if listed is not None and (even is None or 2 * self._volume(even) <= self._volume(listed)):
            groups, is_listed = listed, True
        elif even is not None:
            groups, is_listed = even, False
        else:
            return None
        if self._volume(groups) < SMALL:
            return None
        taken = {i.symbol for g in groups for i in g.indices}
        left = [i for i in equation.indices if i.symbol not in taken]
        product = self._product(equation, a, b, steps, groups, is_listed)
        return self._inside(equation, left, product, how, adds=_overlaps(equation))

    def _even(self, equation: Equation, a: Indexed, b: Indexed, steps: Sequence[Steps]) -> _Groups | None:
        """Groups that step evenly through all arrays that have them."""
        in_a, in_b, in_c = steps
        rows, columns, inner = _parted(equation, a, b)
        column = self._chain(columns, in_b, in_c, lambda group: group.steps[1] == 1)
        contracted = self._chain(inner, in_a, in_b)
        if column is None or contracted is None or _overlaps(equation):
            return None
        return self._chain(rows, in_a, in_c) or _ONE, column, contracted

    def _listed(self, equation: Equation, a: Indexed, b: Indexed, steps: Sequence[Steps]) -> _Groups | None:
        """Groups that step evenly through two arrays of the three: the places in the third are listed. That is b (patches of a
        convolution), or, where windows of the target overlap, the target."""
        in_a, in_b, in_c = steps
        rows, columns, inner = _parted(equation, a, b)
        if _overlaps(equation):
            if not all(self._in_bounds(equation, axis, s) for axis, s in enumerate(equation.target.indices) if index_symbols(s)):
                return None
            row, column = self._chain(rows, in_a, in_a), self._chain(columns, in_b, in_b)
            contracted = self._chain(inner, in_a, in_b)
            listed = (row, column)
        else:
            row, column = self._chain(rows, in_a, in_c), self._chain(columns, in_c, in_c, lambda group: group.steps[1] == 1)
            contracted = self._chain(inner, in_a, in_a)
            listed = (contracted, column)
        return (row, column, contracted) if row and column and contracted and self._is_listable(*listed) else None

    def _product(
        self, equation: Equation, a: Indexed, b: Indexed, steps: Sequence[Steps], groups: _Groups, listed: bool,
    ) -> Product:
        """The product of the first entries of all groups."""
        in_a, in_b, in_c = steps
        row, column, inner = groups
        start = {i.symbol: i.lower for g in groups for i in g.indices}
        first_a, first_b, first_c = (entry.xreplace(start) for entry in (a, b, equation.target))

        def step(group: _Group, table: Steps) -> Expr:
            return table[group.indices[0].symbol] if group.indices else sp.S.Zero

        left = Matrix(first_a, step(row, in_a), step(inner, in_a), each=a)
        if listed and not _overlaps(equation):
            rows, columns = self._list(inner, in_b), self._list(column, in_b)
            right = Matrix(first_b, row_offsets=rows, column_offsets=columns, each=b)
        else:
            right = Matrix(first_b, step(inner, in_b), step(column, in_b), each=b)
        if listed and _overlaps(equation):
            rows, columns = self._list(row, in_c), self._list(column, in_c)
            result = Matrix(first_c, row_offsets=rows, column_offsets=columns, each=equation.target)
        else:
            result = Matrix(first_c, step(row, in_c), each=equation.target)
        return Product(self._size(row.extent), self._size(column.extent), self._size(inner.extent), left, right, result, How.SET,
                       over=(row.indices, column.indices))

    def _inside(
        self, equation: Equation, left: Sequence[Index], product: Product, how: How, adds: bool
    ) -> tuple[Node, ...]:
        """The product in the loops that are left; where some of them are reduced, or it always adds, it adds to zeros."""
        free = [i for i in left if i not in equation.reduced]
        reduced = [i for i in left if i in equation.reduced]
        if how is How.ADD or not reduced and not adds:
            return levels([*free, *reduced], (), (replace(product, how=how),))
        every = [i for i in equation.indices if i not in equation.reduced]
        zeros = levels(every, (), (Store(equation.target, sp.S.Zero, How.SET),))
        return (*zeros, *levels([*free, *reduced], (), (replace(product, how=How.ADD),)))

    def _in_bounds(self, equation: Equation, axis: int, subscript: Expr) -> bool:
        span = subscript_range(subscript, {i.symbol: i for i in equation.indices}, self.program)
        bounds = self.program.tensor(equation.name).bounds(axis)
        return span is not None and lies_in(span, bounds, self.program)

    def _list(self, group: _Group, steps: Steps) -> str:
        """A buffer with the offset of each entry of a group."""
        key = tuple((sp.expand(i.extent), steps.get(i.symbol, sp.S.Zero)) for i in group.indices)
        if key in self.lists:
            return self.lists[key]
        code = self.fresh("offsets")
        name = self.lists[key] = f" {code}"  # no tensor is called so
        tensor = Tensor(name, (self._size(group.extent),), kind=Kind.INDEX)
        zero = (sp.S.Zero,)
        self.buffers[name] = Buffer(Storage(tensor, code, zero, zero), Place.OFFSETS)
        value: Expr = sp.Add(*(step * i.symbol for i, (_, step) in zip(group.indices, key, strict=True)))
        place: Expr = sp.S.Zero
        weight: Expr = sp.S.One
        for i, (extent, _) in zip(group.indices, key, strict=True):
            place += weight * i.symbol
            weight *= extent
        body: tuple[Node, ...] = (Store(read(name, (sp.expand(place),), True), sp.expand(value), How.SET),)
        for i, (extent, _) in zip(group.indices, key, strict=True):
            body = (For(Index(i.symbol, sp.S.Zero, extent), body),)
        self.pending.append(Nest((), body, "offsets"))
        return name

    def _is_listable(self, *groups: _Group | None) -> bool:
        """Whether there are as many entries of a group in every step of the loops round it, the last block included."""
        def stays(extent: Expr) -> bool:
            return not index_symbols(extent) and not extent.atoms(Size) & self.blocks

        return all(group is not None and all(stays(i.extent) for i in group.indices) for group in groups)

    # ---- groups ------------------------------------------------------------------------------------------------------

    def _steps_of(self, equation: Equation, entries: Sequence[Indexed]) -> tuple[Steps, ...] | None:
        """How far each index steps in the array of each entry; nothing where one steps backwards or in no even way."""
        found = []
        for entry in entries:
            buffer = self.buffers[tensor_of(entry)]
            place: Expr = sp.S.Zero
            for extent, position in zip(buffer.extents, buffer.positions(entry.indices), strict=True):
                place = place * extent + position
            place = sp.expand(place)
            steps: dict[IndexName, Expr] = {}
            for i in equation.indices:
                step = place.coeff(i.symbol)
                if index_symbols(step) or (place - step * i.symbol).expand().has(i.symbol):
                    return None
                if not is_nonnegative(step, self.program):
                    return None
                if step != 0:
                    steps[i.symbol] = step
            found.append(steps)
        return tuple(found)

    def _chain(
        self, indices: Sequence[Index], first: Steps, second: Steps, fits: Callable[[_Group], bool] = lambda g: True
    ) -> _Group | None:
        """The greatest part of a group that steps evenly through both arrays."""
        best: _Group | None = None
        for start in indices:
            if start.symbol not in first or start.symbol not in second:
                continue
            chain, left = [start], [i for i in indices if i is not start]
            steps = (first[start.symbol], second[start.symbol])
            if not fits(_Group((start,), steps)):
                continue
            while True:
                extent = sp.Mul(*(i.extent for i in chain))
                following = next((i for i in left if all(
                    sp.expand(table.get(i.symbol, sp.S.Zero) - extent * step) == 0
                    for table, step in zip((first, second), steps, strict=True))), None)
                if following is None:
                    break
                chain.append(following)
                left.remove(following)
            group = _Group(tuple(chain), steps)
            if best is None or self._likely(group.extent) > self._likely(best.extent):
                best = group
        return best

    def _volume(self, groups: _Groups) -> int:
        return self._likely(sp.Mul(*(g.extent for g in groups)))

    def _likely(self, expr: Expr) -> int:
        from codegen.loops.memory import number

        value = number(expr, self.program).xreplace({s: sp.Integer(8) for s in index_symbols(expr)})
        return int(value)

    def _size(self, extent: Expr) -> Expr:
        extent = sp.expand(extent)
        return extent if is_nonnegative(extent, self.program) else sp.Max(0, extent)


def _parted(equation: Equation, a: Indexed, b: Indexed) -> tuple[list[Index], list[Index], list[Index]]:
    """The indices of rows, of columns, and those that are contracted."""
    in_a, in_b = _symbols(a), _symbols(b)
    free = [i for i in equation.indices if i not in equation.reduced]
    rows = [i for i in free if i.symbol in in_a and i.symbol not in in_b]
    columns = [i for i in free if i.symbol in in_b and i.symbol not in in_a]
    inner = [i for i in equation.reduced if i.symbol in in_a and i.symbol in in_b]
    return rows, columns, inner


def _overlaps(equation: Equation) -> bool:
    """Whether two instances may add into one entry of the target by its free indices: a window."""
    free = {i.symbol for i in equation.free}
    return any(len(index_symbols(s) & free) > 1 for s in equation.target.indices)


def _symbols(entry: Indexed) -> set[IndexName]:
    return {s for part in entry.indices for s in index_symbols(part)}


