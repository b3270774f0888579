"""Shapes and ranges are unified, then equations are built."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import affine, are_apart, subscript_range
from symbolic.errors import nearest
from symbolic.parser.reader import Reader
from symbolic.parser.scope import Line, Parsed, Term
from symbolic.program import Equation, Index, IndexName, Origin, Program, Tensor, index, index_symbols, reads, tensor_of

__all__ = ["build"]


def build(reader: Reader) -> Parsed:
    """The tensors and equations of what was read. Raises EquationError where extents disagree or cannot be found."""
    return _Builder(reader).build()


Ranges = Mapping[IndexName, Index]


def _apart(a: Sequence[Expr], a_ranges: Ranges, b: Sequence[Expr], b_ranges: Ranges, program: Program) -> bool:
    """Whether two targets have no entry in common: on some axis their intervals, or their remainders, differ."""
    for left, right in zip(a, b, strict=True):
        first, second = subscript_range(left, a_ranges, program), subscript_range(right, b_ranges, program)
        if first is not None and second is not None and are_apart(first, second, program):
            return True
        forms = affine(left), affine(right)
        if forms[0] is None or forms[1] is None:
            continue
        stride = sp.gcd_list([c for form in forms if form for _, c in form.coefficients] or [0])
        distance = sp.expand(forms[0].constant - forms[1].constant)
        if stride.is_Integer and distance.is_Integer and stride > 1 and distance % stride:
            return True  # y[2*u] and y[2*u+1]
    return False


class _Builder:
    def __init__(self, reader: Reader) -> None:
        self.source, self.scope, self.lines = reader.source, reader.scope, reader.lines
        self.bare, self.places, self.extents, self.entry = reader.bare, reader.places, reader.extents, reader.entry
        self.shapes: dict[str, tuple[Expr, ...]] = {}


    def _shape(self, entry: Indexed) -> tuple[Expr, ...] | None:
        name = tensor_of(entry)
        for tensor in self.scope.tensors.values():
            if tensor.name == name:
                return tensor.shape
        return self.shapes.get(name)

    def _same(self, a: Expr, b: Expr) -> bool:
        return bool(a == b or sp.expand((a - b).xreplace(dict(self.scope.fixed))) == 0)

    def _bare_ranges(self, line: Line, term: Term) -> dict[IndexName, tuple[Expr, Indexed]]:
        """The extent that bare uses in one term give to each index. Raises where two disagree."""
        found: dict[IndexName, tuple[Expr, Indexed]] = {}
        for part in (term.body, *term.guards, *line.subscripts):
            for entry in reads(part):
                shape = self._shape(entry)
                bare = self.bare.get((id(line), entry))
                if bare is None:
                    bare = next((b for (_, e), b in self.bare.items() if e == entry), (None,) * len(entry.indices))
                if shape is None:
                    continue
                for symbol, extent in zip(bare, shape, strict=True):
                    if symbol is not None:
                        self._unify(found, symbol, extent, entry, self.places.get(entry, term.node))
        return found

    def _unify(self, found: dict[IndexName, tuple[Expr, Any]], symbol: IndexName, extent: Expr, entry: Any,
               node: ast.AST) -> None:
        if symbol in found and not self._same(found[symbol][0], extent):
            other, before = found[symbol]
            raise self.source.error(
                node,
                f"index '{symbol}' is used at two extents: {other} in {self._shown(before)} and {extent} in "
                f"{self._shown(entry)}. "
                f"Make the extents equal, or write '{symbol}+0' where it runs over a part of an axis",
            )
        found.setdefault(symbol, (extent, entry))

    def _shown(self, entry: Indexed) -> str:
        """An entry as the text has it: a staged reduction has a name that nobody wrote."""
        line = next((n for n in self.lines if n.staged and self.scope.prefix + n.name == tensor_of(entry)), None)
        return str(entry) if line is None else self.source.shown(line.node)[1:-1]

    def _declared(self, symbol: IndexName) -> tuple[Expr, Expr] | None:
        value = self.scope.ranges.get(str(symbol))
        if value is None:
            return None
        if isinstance(value, tuple | list):
            return sp.sympify(value[0]), sp.sympify(value[1])
        return sp.Integer(0), sp.sympify(value)

    def _infer_shapes(self) -> None:
        """Shapes of undeclared targets, from the ranges of their bare subscripts, to a fixed point."""
        undeclared = {line.name for line in self.lines if line.name not in self.scope.tensors}
        changed = True
        while changed:
            changed = False
            for line in self.lines:
                known = self._line_ranges(line)
                if line.staged:
                    for parent in self.lines:
                        if parent.number == line.number and parent is not line:
                            for symbol, item in self._line_ranges(parent).items():
                                known.setdefault(symbol, item)
                name = self.scope.prefix + line.name
                if line.name not in undeclared or name in self.shapes:
                    continue
                shape = [self._extent_of(symbol, known) for symbol in line.bare]
                if None not in shape:
                    self.shapes[name] = tuple(shape)
                    changed = True
        for line in self.lines:
            if line.name in undeclared and self.scope.prefix + line.name not in self.shapes:
                loose = [s for s in line.bare if s is not None and s not in self._line_ranges(line)]
                what = f"index '{loose[0]}' has no range" if loose else "a composite subscript fixes no extent"
                if line.staged:
                    raise self.source.error(line.node, f"the shape of {self.source.shown(line.node)} cannot be found: {what}. "
                                                       "Use the index bare on a tensor of known shape, or declare its range")
                raise self.source.error(
                    line.node, f"the shape of '{line.name}' cannot be found: {what}. Use the index bare on a tensor of known "
                               f"shape, declare its range, or declare '{line.name}' with its shape")

    def _extent_of(self, symbol: IndexName | None, known: dict[IndexName, tuple[Expr, Any]]) -> Expr | None:
        """The extent of an axis that a bare index runs over, where it is known yet."""
        if symbol is None:
            return None
        declared = self._declared(symbol)
        return known[symbol][0] if symbol in known else declared[1] if declared else None

    def _line_ranges(self, line: Line) -> dict[IndexName, tuple[Expr, Any]]:
        """What the left side and all terms of a line say of the extents of the left side's indices."""
        found: dict[IndexName, tuple[Expr, Any]] = {}
        shape = self.scope.tensors[line.name].shape if line.name in self.scope.tensors else self.shapes.get(
            self.scope.prefix + line.name)
        target = self.entry(line.name, line.subscripts)
        if shape is not None:
            for symbol, extent in zip(line.bare, shape, strict=True):
                if symbol is not None:
                    self._unify(found, symbol, extent, target, line.node)
        carried = {s for part in line.subscripts for s in index_symbols(part)}
        for term in line.terms:
            for symbol, (extent, entry) in self._bare_ranges(line, term).items():
                if symbol in carried:
                    self._unify(found, symbol, extent, entry, self.places.get(entry, term.node))
        return found


    def build(self) -> Parsed:
        """Shapes first, then equations, then that nothing is defined twice."""
        self._infer_shapes()
        made = {id(line): tuple(self._equations(line)) for line in self.lines}
        equations = [equation for line in self.lines for equation in made[id(line)]]
        names = dict.fromkeys(line.name for line in self.lines if line.name not in self.scope.tensors)
        tensors = [Tensor(self.scope.prefix + name, self.shapes[self.scope.prefix + name]) for name in names]
        self._defined_once(made)
        return Parsed(tuple(tensors), tuple(equations))

    def _defined_once(self, made: Mapping[int, Sequence[Equation]]) -> None:
        """``=`` defines a tensor once: what stands before it must be proved to write other entries (h[0] and h[t+1])."""
        known = (tensor for tensor in self.scope.tensors.values() if tensor.is_index)
        sizes = {str(symbol): int(value) for symbol, value in self.scope.fixed.items()}
        program = Program("", tuple(known), (), sizes)
        ranges = {k: {i.symbol: i for e in equations for i in e.indices} for k, equations in made.items()}
        seen: dict[str, list[Line]] = {}
        for line in self.lines:
            for other in () if line.adds else seen.get(line.name, ()):
                if _apart(line.subscripts, ranges[id(line)], other.subscripts, ranges[id(other)], program):
                    continue
                place, before = line.name, other.name
                if line.subscripts:
                    place, before = (f"{n.name}[{','.join(map(str, n.subscripts))}]" for n in (line, other))
                shown = "" if place == before else f": {place} and {before} are not proved to be different entries"
                raise self.source.error(line.node, f"'{line.name}' is defined twice, here and at line "
                                                   f"{self.source.place(other.node)[0].line}{shown}; "
                                                   "write += to add a further contribution")
            seen.setdefault(line.name, []).append(line)

    def _equations(self, line: Line) -> Iterable[Equation]:
        left = self._line_ranges(line)
        target = self.entry(line.name, line.subscripts)
        place = self.source.place(line.node)[0]
        for term in line.terms:
            ranges = dict(left)
            for symbol, (extent, entry) in self._bare_ranges(line, term).items():
                self._unify(ranges, symbol, extent, entry, self.places.get(entry, term.node))
            parts = (*line.subscripts, *term.guards, term.body)
            ordered = [s for part in line.subscripts for s in sorted(index_symbols(part), key=str)]
            ordered += list(term.over or ())
            ordered += [s for part in self._in_order(term) for s in part]
            symbols = [s for s in dict.fromkeys(ordered) if any(s in index_symbols(part) for part in parts)]
            indices = []
            for symbol in symbols:
                declared = self._declared(symbol)
                if symbol in ranges and declared and not self._same(declared[1] - declared[0], ranges[symbol][0]):
                    raise self.source.error(term.node, f"index '{symbol}' is declared over {declared[0]}..{declared[1]} and "
                                                       f"used bare at extent {ranges[symbol][0]} in "
                                                       f"{self._shown(ranges[symbol][1])}; "
                                                       f"write '{symbol}+0' where it runs over a part of an axis")
                if declared:
                    indices.append(Index(symbol, *declared))
                elif symbol in ranges:
                    indices.append(Index.over(symbol, ranges[symbol][0]))
                else:
                    raise self.source.error(
                        term.node, f"index '{symbol}' has no range: it stands bare on no tensor of known shape. "
                                   f"Declare it, ranges: {{{symbol}: extent}}{self._near_tensor(symbol)}")
            body = term.body
            extents = {d: self._extent(d, indices) for d, (owner, _) in self.extents.items() if owner is line}
            body = body.xreplace(extents) if extents else body
            origin = Origin("spec", text=line.text, where=place)
            yield Equation(target, body, tuple(indices), tuple(term.guards), term.reduction,
                           numbers=(line.number,), origin=origin)

    def _near_tensor(self, symbol: IndexName) -> str:
        return nearest(str(symbol), [n for n, t in self.scope.tensors.items() if not t.rank])

    def _extent(self, dummy: sp.Dummy, indices: list[Index]) -> Expr:
        _, over = self.extents[dummy]
        return sp.prod([i.extent for i in indices if i.symbol in over])

    def _in_order(self, term: Term) -> Iterable[list[IndexName]]:
        """Index symbols in the order in which the text names them."""
        yield [index(leaf.id) for leaf in ast.walk(term.node) if isinstance(leaf, ast.Name)]
        yield sorted(index_symbols(term.body), key=str)
        for guard in term.guards:
            yield sorted(index_symbols(guard), key=str)
