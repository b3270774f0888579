"""Extents: integer expressions of sizes."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

import sympy as sp
from sympy import Expr

from symbolic.errors import EquationError, Location, nearest
from symbolic.parser.source import Source

__all__ = ["parse_extent"]


def parse_extent(value: int | str, sizes: Mapping[str, Expr], where: Location | None = None) -> Expr:
    """An extent such as ``T+1``, ``2*H`` or ``floor((L-K)/S)+1`` over known sizes. Raises EquationError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise EquationError(f"expected an extent (an integer or an expression of sizes), found {value!r}", where=where)
    if isinstance(value, int):
        return sp.Integer(value)
    source = Source(value, where or Location("<extent>"))
    try:
        tree = source.tree("eval")
    except EquationError as error:
        if not error.bare_message.startswith("not an equation"):
            raise
        comma = "; is a comma missing between two of them?" if re.search(r"[\w)]\s+[\w(]", value) else ""
        raise EquationError(f"expected an extent such as T+1 or 2*H{comma}", where=error.where, line=error.line,
                            offset=error.offset) from None

    def build(node: ast.AST) -> Expr:
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                return sp.Integer(number)
            case ast.Name(id=name):
                if name in sizes:
                    return sp.sympify(sizes[name])
                raise source.error(node, f"unknown size '{name}'{nearest(name, sizes)}")
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -build(operand)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return build(left) + build(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return build(left) - build(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return build(left) * build(right)
            case ast.BinOp(left=left, op=ast.Div() | ast.FloorDiv() as op, right=right):
                quotient = build(left) / build(right)
                return sp.floor(quotient) if isinstance(op, ast.FloorDiv) else quotient
            case ast.Call(func=ast.Name(id="floor" | "ceil" as name), args=[argument], keywords=[]):
                return (sp.floor if name == "floor" else sp.ceiling)(build(argument))
        raise source.error(node, "expected an extent: integers, sizes, + - * // floor(...) ceil(...)")

    return build(tree.body)
