"""Law 9: a missing index inside a function, a power or a part of a sum has two readings, and both are shown."""

from __future__ import annotations

import ast

from sympy import Expr, Indexed

from symbolic.parser.expression import Expressions
from symbolic.parser.scope import Line, Term
from symbolic.program import IndexName, index, index_symbols

__all__ = ["Unambiguous"]


class Unambiguous(Expressions):
    """Refuses terms whose missing indices could be summed in two places."""

    def _no_hidden_reduction(
        self, term: Term, factors: list[ast.AST], carried: frozenset[IndexName], line: Line
    ) -> None:
        """Law 9: a missing index inside a function, a power or a part of a sum is ambiguous."""
        for factor in factors:
            value = self._value_quiet(factor, line)
            if isinstance(factor, ast.BinOp) and isinstance(factor.op, ast.Div):
                value = None
            if value is not None and (isinstance(value, Indexed) or not index_symbols(value) - carried):
                continue
            hidden = self._hidden(factor, carried, line)
            if hidden is not None:
                symbol, node, shown = hidden
                raise self.source.error(
                    node,
                    f"index '{symbol}' is missing on the left and stands inside {shown}: ambiguous. "
                    f"Write sum({ast.unparse(factor)}, over={symbol}) to sum outside, or move sum(..., over={symbol}) "
                    f"inside {shown} to sum first",
                )

    def _hidden(self, node: ast.AST, carried: frozenset[IndexName], line: Line) -> tuple[IndexName, ast.AST, str] | None:
        def missing(part: ast.AST) -> set[IndexName]:
            bound = {
                item.id for call in ast.walk(part) if self._reducer(call)
                for k in call.keywords if k.arg == "over"  # type: ignore[attr-defined]
                for item in ast.walk(k.value) if isinstance(item, ast.Name)
            }
            names = {
                leaf.id
                for sub in ast.walk(part) if isinstance(sub, ast.Subscript)
                for item in self._subscript_nodes(sub)
                for leaf in ast.walk(item) if isinstance(leaf, ast.Name)
            }
            names -= bound | set(self.scope.sizes)
            names -= {n for n, t in self.scope.tensors.items() if t.is_index}
            return {index(n) for n in names} - carried

        def first(found: set[IndexName]) -> IndexName:
            return min(found, key=str)

        match node:
            case ast.Call() if self._reducer(node):
                return None
            case ast.Call(func=ast.Name(id=name)):
                found = missing(node)
                return (first(found), node, f"the function {name}(...)") if found else None
            case ast.BinOp(op=ast.Pow()):
                found = missing(node)
                return (first(found), node, "a power") if found else None
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                found = missing(right)
                if found:
                    return first(found), node, "a denominator"
                return self._hidden(left, carried, line)
            case ast.BinOp(op=ast.Mult()):
                return next((h for f in self._factors(node) if (h := self._hidden(f, carried, line))), None)
            case ast.UnaryOp(operand=operand):
                return self._hidden(operand, carried, line)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                pieces = [missing(piece) for _, piece in self._split(node)]
                uneven = frozenset[IndexName]().union(*pieces) - pieces[0].intersection(*pieces[1:])
                if uneven:
                    return first(set(uneven)), node, "a part of a bracketed sum"
                return next((h for _, piece in self._split(node) if (h := self._hidden(piece, carried, line))), None)
        return None

    def _value_quiet(self, node: ast.AST, line: Line) -> Expr | None:
        return self._value(node, line) if isinstance(node, ast.Subscript | ast.Name | ast.Attribute) else None
