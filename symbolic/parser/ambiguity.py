"""Law 9: a missing index inside a function, a power or a part of a sum has several readings, and each is shown."""

from __future__ import annotations

import ast

from sympy import Expr, Indexed

from symbolic.parser.expression import Expressions
from symbolic.parser.scope import Line, Term
from symbolic.parser.source import compact
from symbolic.program import IndexName, index, index_symbols

__all__ = ["Unambiguous"]

MOST_READINGS = 3


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
            hidden = self._hidden(factor, carried)
            if hidden is not None:
                symbol, node, shown = hidden
                outside, *inside = self._readings(term.node, carried)
                raise self.source.error(
                    node,
                    f"index '{symbol}' is missing on the left and stands inside {shown}: ambiguous. "
                    f"Write {outside} to sum outside, or {' or '.join(inside)} to sum inside"
                    f"{self._slip(term.node, symbol, carried)}",
                )

    def _slip(self, term: ast.AST, symbol: IndexName, carried: frozenset[IndexName]) -> str:
        """A question where the index stands in one read, with all of the left side's but one, which is nowhere: ``a[t,n,m]``."""
        holders = [
            names
            for sub in ast.walk(term) if isinstance(sub, ast.Subscript)
            if str(symbol) in (names := [leaf.id for leaf in ast.walk(sub.slice) if isinstance(leaf, ast.Name)])
        ]
        absent = [str(s) for s in carried if len(holders) == 1 and str(s) not in holders[0]]
        named = any(isinstance(leaf, ast.Name) and leaf.id in absent for leaf in ast.walk(term))
        return f"; or is '{symbol}' a slip for '{absent[0]}'?" if len(absent) == 1 and not named else ""

    def _missing(self, part: ast.AST, carried: frozenset[IndexName]) -> set[IndexName]:
        """The indices of a piece of text that neither the left side nor a reduction in the piece carries."""
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

    def _hidden(self, node: ast.AST, carried: frozenset[IndexName]) -> tuple[IndexName, ast.AST, str] | None:
        def missing(part: ast.AST) -> set[IndexName]:
            return self._missing(part, carried)

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
                return self._hidden(left, carried)
            case ast.BinOp(op=ast.Mult()):
                return next((h for f in self._factors(node) if (h := self._hidden(f, carried))), None)
            case ast.UnaryOp(operand=operand):
                return self._hidden(operand, carried)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                pieces = [missing(piece) for _, piece in self._split(node)]
                uneven = frozenset[IndexName]().union(*pieces) - pieces[0].intersection(*pieces[1:])
                if uneven:
                    return first(set(uneven)), node, "a part of a bracketed sum"
                return next((h for _, piece in self._split(node) if (h := self._hidden(piece, carried))), None)
        return None

    # ---- the readings, written out -----------------------------------------------------------------------------------

    def _readings(self, term: ast.AST, carried: frozenset[IndexName]) -> list[str]:
        """The term summed outside, then inside its functions, one level deeper each; at most three."""
        found = dict.fromkeys([compact(self._summed(term, carried))])
        for depth in range(1, MOST_READINGS):
            found[compact(self._pushed(term, depth, carried))] = None
        return list(found)

    def _summed(self, node: ast.AST, carried: frozenset[IndexName]) -> ast.AST:
        """``sum(node, over=...)`` over its missing indices."""
        names: list[ast.expr] = [ast.Name(str(symbol)) for symbol in sorted(self._missing(node, carried), key=str)]
        over = names[0] if len(names) == 1 else ast.Tuple(names, ast.Load())
        return ast.Call(ast.Name("sum"), [node], [ast.keyword("over", over)])  # type: ignore[list-item]

    def _bends(self, node: ast.AST, carried: frozenset[IndexName]) -> bool:
        """Whether it makes a difference to sum inside this factor."""
        match node:
            case ast.UnaryOp(operand=operand):
                return self._bends(operand, carried)
            case ast.BinOp(op=ast.Mult()):
                return any(self._bends(factor, carried) for factor in (node.left, node.right))
        return self._hidden(node, carried) is not None

    def _pushed(self, node: ast.AST, depth: int, carried: frozenset[IndexName]) -> ast.AST:
        """The node with its sums moved inside ``depth`` functions, powers, denominators or brackets."""
        if not self._missing(node, carried):
            return node

        def into(part: ast.expr, levels: int) -> ast.expr:
            return self._pushed(part, levels, carried)  # type: ignore[return-value]

        match node:
            case ast.UnaryOp(op=op, operand=operand):
                return ast.UnaryOp(op, into(operand, depth))
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
                return ast.BinOp(into(left, depth), op, into(right, depth))
            case ast.Compare(left=left, ops=ops, comparators=sides):
                return ast.Compare(into(left, depth), ops, [into(side, depth) for side in sides])
            case _ if depth == 0 or not self._bends(node, carried):
                return self._summed(node, carried)
            case ast.Call(func=func, args=arguments):
                return ast.Call(func, [into(argument, depth - 1) for argument in arguments], [])
            case ast.BinOp(left=left, op=ast.Pow() as op, right=right):
                return ast.BinOp(into(left, depth - 1), op, into(right, depth - 1))
            case ast.BinOp(left=left, op=ast.Div() as op, right=right):
                inner = depth - 1 if self._missing(right, carried) else depth
                return ast.BinOp(into(left, inner), op, into(right, inner))
            case ast.BinOp(left=left, op=ast.Mult() as op, right=right):
                return ast.BinOp(self._factor(left, depth, carried), op, self._factor(right, depth, carried))
        return self._summed(node, carried)

    def _factor(self, node: ast.expr, depth: int, carried: frozenset[IndexName]) -> ast.expr:
        """A factor of a product: a guard stays as it is, and a bracket is a level of its own."""
        if isinstance(node, ast.Compare):
            return node
        bracket = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
        return self._pushed(node, depth - bracket, carried)  # type: ignore[return-value]

    def _value_quiet(self, node: ast.AST, line: Line) -> Expr | None:
        return self._value(node, line) if isinstance(node, ast.Subscript | ast.Name | ast.Attribute) else None
