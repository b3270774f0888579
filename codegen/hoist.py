"""What can leave a loop leaves it: factors that do not depend on the recurrence are computed for all steps at once.

``d_a[t] = (1 - h[t]**2)*d_h[t]`` in a reversed loop holds a factor that is known before the loop starts; it becomes a tensor of
its own, one array expression over all steps, and the loop keeps one multiplication. (Statements without a recurrence
never entered the loop: the schedule saw to that.) Law 4 does not matter here: the new tensor has the domain of its reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr

from codegen.schedule import Loop, Node, Statement, equations_of
from symbolic.analysis import is_nonnegative
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Names,
    Origin,
    Program,
    Reduction,
    Tensor,
    index_symbols,
    operands,
    reads,
    tensor_of,
)

__all__ = ["hoist", "is_worthwhile"]


def hoist(nodes: Sequence[Node], program: Program) -> tuple[tuple[Node, ...], Program]:
    """The nodes with loop-invariant factors staged before their outermost loop, and the program with the new tensors."""
    names = Names.of(program)
    result: list[Node] = []
    tensors: list[Tensor] = []
    for node in nodes:
        if isinstance(node, Statement):
            result.append(node)
            continue
        written = frozenset(s.equation.name for s in equations_of([node]))
        staged: list[Statement] = []
        body = tuple(_visit(child, (Index(node.symbol, node.lower, node.upper),), written, staged, tensors, names, program)
                     for child in node.body)
        result += staged
        result.append(replace(node, body=body))
    return tuple(result), replace(program, tensors=(*program.tensors, *tensors))


def _visit(
    node: Node, loops: tuple[Index, ...], written: frozenset[str], staged: list[Statement], tensors: list[Tensor],
    names: Names, program: Program,
) -> Node:
    if isinstance(node, Loop):
        inner = (*loops, Index(node.symbol, node.lower, node.upper))
        return replace(node, body=tuple(_visit(c, inner, written, staged, tensors, names, program) for c in node.body))
    equation = node.equation
    if equation.reduction is not Reduction.SUM or equation.reduced or equation.guards or node.when:
        return node
    factors = sp.Mul.make_args(equation.body)
    fixed = [f for f in factors if not _depends(f, written)]
    moving = [f for f in factors if _depends(f, written)]
    product = sp.Mul(*fixed)
    if not moving or not is_worthwhile(fixed):
        return node
    used = index_symbols(product)
    domain = tuple(i for i in (*loops, *equation.indices) if i.symbol in used)
    if any(_is_varying(i) or not is_nonnegative(i.extent, program) for i in domain) or not {i.symbol for i in loops} & used:
        return node
    name = names.fresh(f"{equation.name}_slope")
    tensor = Tensor(name, tuple(sp.expand(i.extent) for i in domain), note="a factor that is known before the loop")
    tensors.append(tensor)
    target = tensor.at(tuple(i.symbol - i.lower for i in domain))
    origin = Origin("hoist", (equation.number,))
    staged.append(Statement(Equation(target, product, domain, numbers=equation.numbers, origin=origin)))
    return replace(node, equation=replace(equation, body=sp.Mul(*moving, target)))


def _is_varying(index: Index) -> bool:
    return bool(index.lower.atoms(IndexName) | index.upper.atoms(IndexName))


def _depends(expr: Expr, written: frozenset[str]) -> bool:
    return any(tensor_of(r) in written for r in reads(expr))


def is_worthwhile(fixed: Iterable[Expr]) -> bool:
    """More than one plain read: a multiplication or a function is saved in every step."""
    varying = [f for f in fixed if operands(f)]
    return len(varying) > 1 or any(not f.is_Indexed for f in varying)
