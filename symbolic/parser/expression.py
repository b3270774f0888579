"""Expressions and subscripts: syntax trees to SymPy, by a whitelist of node types and names."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from symbolic.errors import EquationError, Location, listed, nearest
from symbolic.functions import ALIASES, COMPARISONS, FUNCTIONS, lookup, unspecified_row, where
from symbolic.parser.scope import Line, Scope
from symbolic.parser.source import Source
from symbolic.program import IndexName, index, index_symbols, read

__all__ = ["NOT_DIFFERENTIABLE", "REDUCERS", "Expressions"]

MAX_EXPONENT = 64
REDUCERS = ("sum", "mean", "max")
NOT_DIFFERENTIABLE = ("floor", "ceil", "round", "int", "mod", "rint", "trunc", "argmax", "argmin")


class Expressions:
    """Reads expressions over a scope; remembers where each entry stands and which of its subscripts are bare."""

    def __init__(self, text: str, scope: Scope, where: Location, first_number: int) -> None:
        self.source, self.scope, self.number = Source(text, where), scope, first_number
        self.lines: list[Line] = []
        self.bare: dict[tuple[int, Indexed], tuple[IndexName | None, ...]] = {}
        self.extents: dict[sp.Dummy, tuple[Line, tuple[IndexName, ...]]] = {}
        self.taken = set(scope.tensors) | set(scope.sizes)
        self.locals: dict[str, int] = {}
        self.places: dict[Indexed, ast.AST] = {}

    def _split(self, node: ast.AST, sign: int = 1) -> Iterable[tuple[int, ast.AST]]:
        """The terms of a sum, left to right, through brackets."""
        match node:
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                yield from self._split(left, sign)
                yield from self._split(right, sign if isinstance(op, ast.Add) else -sign)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                yield from self._split(operand, -sign)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                yield from self._split(operand, sign)
            case _:
                yield sign, node

    def _factors(self, node: ast.AST) -> Iterable[ast.AST]:
        match node:
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                yield from self._factors(left)
                yield from self._factors(right)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Compare() | ast.BinOp(op=ast.Mult()) as operand):
                yield ast.copy_location(ast.Constant(-1), node)
                yield from self._factors(operand)
            case ast.BinOp(left=left, op=ast.Div(), right=right) if any(
                isinstance(factor, ast.Compare) for factor in self._factors(left)
            ):
                yield from self._factors(left)
                one = ast.copy_location(ast.Constant(1), right)
                yield ast.copy_location(ast.BinOp(one, ast.Div(), right), right)
            case _:
                yield node

    def _reducer(self, node: ast.AST) -> str:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in REDUCERS and (name != "max" or node.keywords):
                return name
        return ""

    def _staged(self, kind: str, argument: ast.AST, over: tuple[IndexName, ...], node: ast.AST, line: Line) -> Expr:
        """A reduction inside an expression; the reader of lines knows how to stage it."""
        raise NotImplementedError

    def _reduction(self, node: Any) -> tuple[str, ast.AST, tuple[IndexName, ...]]:
        kind = node.func.id
        over = [k for k in node.keywords if k.arg == "over"]
        if len(node.args) != 1 or len(over) != 1 or len(node.keywords) != 1:
            raise self.source.error(node, f"expected {kind}(expression, over=index) or over=(i, j)")
        listed = over[0].value.elts if isinstance(over[0].value, ast.Tuple | ast.List) else [over[0].value]
        names = []
        for item in listed:
            if not isinstance(item, ast.Name):
                raise self.source.error(item, f"expected the name of an index, found {self.source.shown(item)}")
            names.append(index(item.id))
        return kind, node.args[0], tuple(names)


    def _value(self, node: ast.AST, line: Line) -> Expr:
        match node:
            case ast.Constant(value=bool() | str() | bytes() | None | complex()):
                raise self.source.error(node, f"expected a number, found {node.value!r}")
            case ast.Constant(value=int() as number):
                if abs(number) >= 10**18:
                    raise self.source.error(node, "expected a number below 1e18; write it as a float")
                return sp.Integer(number)
            case ast.Constant(value=float() as number):
                if number != number or number in (float("inf"), float("-inf")):
                    raise self.source.error(node, "expected a finite number")
                return sp.Integer(int(number)) if number.is_integer() and abs(number) < 2**53 else sp.Float(number)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.Subscript():
                return self._read(node, line)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand, line)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._value(operand, line)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._value(left, line) + self._value(right, line)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._value(left, line) - self._value(right, line)
            case ast.BinOp(op=ast.Mult()):
                return self._product(node, line)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                below = self._value(right, line)
                if below == 0:
                    raise self.source.error(right, "division by zero")
                return self._value(left, line) / below
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return self._power(node, self._value(left, line), self._value(right, line))
            case ast.Compare():
                return sp.prod([self._comparison(node, op, a, b, line) for op, a, b in self._pairs(node)])
            case ast.Call():
                return self._call(node, line)
            case ast.BinOp(op=ast.BitXor()):
                raise self.source.error(node, f"{self.source.shown(node)} is no power; write '**' instead of '^'")
        raise self.source.error(node, f"{self.source.shown(node)} is not part of the equation language; "
                                      "expected numbers, names, subscripts, + - * / ** and known functions")

    def _product(self, node: ast.AST, line: Line) -> Expr:
        """A product inside an expression: a comparison among the factors selects, it does not multiply (0 times inf)."""
        body, conditions = sp.Integer(1), []
        for factor in self._factors(node):
            if isinstance(factor, ast.Compare):
                conditions.append(self._value(factor, line))
            else:
                body = body * self._value(factor, line)
        return where(sp.prod(conditions), body, 0) if conditions else body

    def _power(self, node: ast.AST, base: Expr, exponent: Expr) -> Expr:
        if exponent.is_number:
            if abs(exponent) > MAX_EXPONENT:
                raise self.source.error(node, f"expected an exponent of at most {MAX_EXPONENT}, found {exponent}")
            if base.is_number and not (sp.Integer(0) < abs(base) < 10**6):
                raise self.source.error(node, f"the power {base}**{exponent} of a number is out of range; write its value")
            if base.is_number and base.is_negative and not exponent.is_Integer:
                raise self.source.error(node, f"expected a real number, found the root of {base}")
            return base**exponent
        if base.is_number and not base.is_positive:
            raise self.source.error(node, "expected a positive base under a variable exponent")
        return base**exponent

    def _call(self, node: Any, line: Line) -> Expr:
        if not isinstance(node.func, ast.Name):
            raise self.source.error(node, f"expected a call of a known function by its name, found {self.source.shown(node)}")
        name = node.func.id
        if self._reducer(node):
            kind, argument, over = self._reduction(node)
            return self._staged(kind, argument, over, node, line)
        own = name in self.scope.functions
        row = unspecified_row(name) if own else lookup(name)
        if row is None:
            if name in REDUCERS:
                raise self.source.error(node, f"expected {name}(expression, over=index); for two arguments use max2(a, b)")
            if name in NOT_DIFFERENTIABLE:
                raise self.source.error(node, f"'{name}' is not differentiable and has no place in an equation; "
                                              "compute it outside the model and give it as an input")
            known = [*self.scope.functions, *FUNCTIONS, *ALIASES, *REDUCERS]
            near = nearest(name, known)
            hint = "" if near or name.startswith("_") else f"; to leave it unspecified, write functions: [{name}] in the spec"
            raise self.source.error(node.func, f"unknown function '{name}'{near}; known: {', '.join(sorted(known))}{hint}")
        if node.keywords or len(node.args) != row.arity or any(isinstance(a, ast.Starred) for a in node.args):
            raise self.source.error(node, f"expected {name} with {row.arity} argument{'s' * (row.arity > 1)}, "
                                          f"found {len(node.args) + len(node.keywords)}")
        arguments = [self._value(argument, line) for argument in node.args]
        if all(argument.is_number for argument in arguments) and not own:
            return self._constant(node, row.value(*map(float, arguments)))
        if name == "where" and arguments[0].is_number:
            return arguments[1] if arguments[0] != 0 else arguments[2]
        if name == "clip" and arguments[1].is_number and arguments[2].is_number and arguments[1] > arguments[2]:
            raise self.source.error(node, f"expected low <= high in clip(x, low, high), found {arguments[1]} and {arguments[2]}")
        return row.symbol(*arguments)

    def _constant(self, node: ast.AST, value: Any) -> Expr:
        """A function of numbers is a number."""
        if isinstance(value, complex) or value != value or value in (float("inf"), float("-inf")):
            raise self.source.error(node, "expected a finite real number, found a function outside its domain; write its value")
        return sp.Integer(int(value)) if float(value).is_integer() and abs(value) < 2**53 else sp.Float(value)

    def _pairs(self, node: Any) -> list[tuple[ast.cmpop, ast.AST, ast.AST]]:
        sides = [node.left, *node.comparators]
        return list(zip(node.ops, sides[:-1], sides[1:], strict=True))

    _OPERATORS: Mapping[type, tuple[str, Callable[..., Any]]] = {
        ast.Lt: ("<", sp.Lt), ast.LtE: ("<=", sp.Le), ast.Gt: (">", sp.Gt), ast.GtE: (">=", sp.Ge),
        ast.Eq: ("==", sp.Eq), ast.NotEq: ("!=", sp.Ne),
    }

    def _comparison(self, node: ast.AST, op: ast.cmpop, a: ast.AST, b: ast.AST, line: Line) -> Expr:
        if type(op) not in self._OPERATORS:
            raise self.source.error(node, "expected one of < <= > >= == !=")
        sign, compared = self._OPERATORS[type(op)]
        sides = self._value(a, line), self._value(b, line)
        if all(side.is_number for side in sides):
            return sp.Integer(bool(compared(*sides)))
        return COMPARISONS[sign](*sides)

    def _guards(self, node: Any) -> list[Any]:
        found = []
        for op, a, b in self._pairs(node):
            if type(op) not in self._OPERATORS:
                raise self.source.error(node, "expected one of < <= > >= == !=")
            line = Line(node, "guard", (), (), [], "", self.number)
            sides = [self._value(a, line), self._value(b, line)]
            guard = self._OPERATORS[type(op)][1](*sides)
            if guard is sp.false:
                guard = sp.Lt(sp.Integer(0), sp.Integer(0), evaluate=False)
            if guard is not sp.true:
                found.append(guard)
        return found

    def _name(self, node: ast.AST) -> Expr:
        name = self._dotted(node)
        if name in self.locals or name in self.scope.tensors:
            rank = self.locals[name] if name in self.locals else self.scope.tensors[name].rank
            if rank:
                raise self.source.error(node, self._rank_message(name, rank, 0))
            return self.entry(name, ())
        if name in self.scope.sizes:
            return sp.sympify(self.scope.sizes[name])
        if name == "pi":
            return sp.pi
        if "." in name:
            raise self._undefined(node, name)
        if name in self.scope.functions:
            raise self.source.error(node, f"expected the function '{name}' with its argument, {name}(...), found its name alone")
        return index(name)

    def entry(self, name: str, subscripts: Sequence[Expr]) -> Indexed:
        if name in self.scope.tensors:
            return self.scope.tensors[name].at(subscripts)
        return read(self.scope.prefix + name, subscripts)

    def _dotted(self, node: ast.AST) -> str:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=value, attr=attribute):
                return f"{self._dotted(value)}.{attribute}"
        raise self.source.error(node, f"expected a name, found {self.source.shown(node)}")

    def _read(self, node: Any, line: Line) -> Expr:
        name = self._dotted(node.value)
        if name not in self.locals and name not in self.scope.tensors:
            raise self._undefined(node, name)
        rank = self.locals[name] if name in self.locals else self.scope.tensors[name].rank
        subscripts, bare = self._subscripts(node, line)
        if len(subscripts) != rank:
            raise self.source.error(node, self._rank_message(name, rank, len(subscripts)))
        entry = self.entry(name, subscripts)
        seen = self.bare.get((id(line), entry))
        # The same entry may stand once bare and once as 'k+0': the bare use is the one that fixes an extent.
        self.bare[id(line), entry] = bare if seen is None else tuple(a or b for a, b in zip(seen, bare, strict=True))
        self.places.setdefault(entry, node)
        return entry

    def _undefined(self, node: ast.AST, name: str) -> EquationError:
        """An unknown tensor, or an attribute (``x.T``) where tensors have none; for the caller to raise."""
        known = [*self.locals, *self.scope.tensors]
        owner, _, attribute = name.rpartition(".")
        if owner in known and not any(other.startswith(f"{owner}.") for other in known):
            hint = "write the indices in the other order for a transpose, x[j,i]" if attribute == "T" else "write indices"
            return self.source.error(node, f"expected a tensor with its indices, found the attribute '{attribute}' of "
                                           f"'{owner}'; equations know no attributes: {hint}")
        return self.source.error(node, f"undefined tensor '{name}'{nearest(name, known)}{listed(known)}")

    def _rank_message(self, name: str, rank: int, found: int) -> str:
        shape = self.scope.tensors[name].shape if name in self.scope.tensors else None
        shown = f" of shape [{', '.join(map(str, shape))}]" if shape else ""
        axes, subscripts = ("axis", "subscript") if rank == 1 else ("axes", "subscripts")
        return f"'{name}'{shown} has {rank} {axes}; expected {rank} {subscripts}, found {found}"

    @staticmethod
    def _subscript_nodes(node: ast.AST) -> list[ast.AST]:
        if not isinstance(node, ast.Subscript):
            return []
        return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]

    def _subscripts(self, node: ast.AST, line: Line | None = None) -> tuple[tuple[Expr, ...], tuple[Any, ...]]:
        """The subscripts, and for each the index where it stands bare."""
        parts, bare = [], []
        for item in self._subscript_nodes(node):
            value = self._subscript(item, line)
            parts.append(value)
            bare.append(value if isinstance(item, ast.Name) and isinstance(value, IndexName) else None)
        return tuple(parts), tuple(bare)

    def _subscript(self, node: ast.AST, line: Line | None) -> Expr:
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                return sp.Integer(number)
            case ast.Name(id=name):
                if name in self.scope.sizes:
                    return sp.sympify(self.scope.sizes[name])
                tensor = self.scope.tensors.get(name)
                return tensor.at(()) if tensor is not None and tensor.is_index and not tensor.rank else index(name)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._subscript(operand, line)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._subscript(left, line) + self._subscript(right, line)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self._subscript(left, line) - self._subscript(right, line)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                a, b = self._subscript(left, line), self._subscript(right, line)
                if index_symbols(a) and index_symbols(b):
                    raise self.source.error(node, "expected an affine subscript, found a product of two indices")
                return a * b
            case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
                a, b = self._subscript(left, line), self._subscript(right, line)
                if index_symbols(a) or index_symbols(b):
                    raise self.source.error(node, "expected an affine subscript, found a division of an index")
                return sp.floor(a / b)
            case ast.Subscript():
                name = self._dotted(node.value)
                tensor = self.scope.tensors.get(name)
                if tensor is None or not tensor.is_index:
                    kinds = [n for n, t in self.scope.tensors.items() if t.is_index]
                    raise self.source.error(node, f"'{name}' stands in a subscript but is no index tensor"
                                                  f"{nearest(name, kinds)}; declare it as an input of kind index")
                return self._read(node, line or Line(node, "", (), (), [], "", 0))
            case ast.Slice():
                raise self.source.error(node, "expected an index, found a slice; write one index for each axis")
        raise self.source.error(node, "expected an affine subscript such as t, t-1, 2*u+p or tok[t,n]")
