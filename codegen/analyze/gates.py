"""Gates on the diagonal of a step's Jacobian, and the biases that open them: an LSTM's forget gate, found from its formula."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sympy import Expr, Indexed

from symbolic.analysis import affine
from symbolic.functions import sigmoid
from symbolic.jacobian import StepJacobian
from symbolic.program import Index, Program, Role, index_symbols, operands, tensor_of
from symbolic.rewrite.terms import solve, substitute

__all__ = ["Gate", "gates"]


@dataclass(frozen=True)
class Gate:
    """Entries ``first .. last`` of a bias; raising them by ``sign`` times a number opens the gate that hands a state on."""

    bias: str
    first: Expr
    last: Expr
    sign: int


def gates(jacobian: StepJacobian) -> tuple[Gate, ...]:
    """The biases of gates g = sigmoid(... + b) for every state that is handed on times g, or times 1 - g."""
    found: dict[tuple[str, Expr], Gate] = {}
    for block in jacobian.blocks:
        if block.between[0] != block.between[1]:
            continue
        for term in block.terms:
            reads = operands(term.coefficient)
            if term.sums or len(reads) != 1 or not (block.is_diagonal or term.guards):
                continue
            (gate,) = reads
            sign = {gate: 1, 1 - gate: -1}.get(term.coefficient)
            if sign is not None:
                for each in _biases(gate, sign, jacobian.program, {i.symbol: i for i in block.indices}):
                    found.setdefault((each.bias, each.first), each)
    return tuple(found.values())


def _biases(gate: Indexed, sign: int, program: Program, ranges: dict[Any, Index]) -> list[Gate]:
    writers = program.writers.get(tensor_of(gate), ())
    if len(writers) != 1 or not isinstance(writers[0].body, sigmoid):
        return []
    place = _place(writers[0].target, gate, writers[0].indices)
    if place is None:
        return []
    argument = substitute(writers[0].body.args[0], place)
    found = []
    for entry in argument.args if argument.is_Add else (argument,):
        if not isinstance(entry, Indexed):
            continue
        found += _bias(entry, sign, program, ranges)
        for equation in program.writers.get(tensor_of(entry), ()):
            if isinstance(equation.body, Indexed):
                inner = _place(equation.target, entry, equation.indices)
                if inner is not None:
                    found += _bias(substitute(equation.body, inner), sign, program, ranges)
    return found


def _place(target: Indexed, entry: Indexed, indices: tuple[Index, ...]) -> Any:
    return solve(target.indices, entry.indices, frozenset(i.symbol for i in indices))


def _bias(entry: Indexed, sign: int, program: Program, ranges: dict[Any, Index]) -> list[Gate]:
    """The entry itself, where it is of a parameter with one axis."""
    if program.tensor(tensor_of(entry)).role is not Role.PARAMETER or len(entry.indices) != 1:
        return []
    (part,) = entry.indices
    form = affine(part)
    symbols = index_symbols(part)
    if form is None or len(symbols) != 1 or form.coefficients[0][1] != 1:
        return []
    (symbol,) = symbols
    if symbol not in ranges:
        return []
    own = ranges[symbol]
    return [Gate(tensor_of(entry), own.lower + form.constant, own.last + form.constant, sign)]
