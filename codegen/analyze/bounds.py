"""Bounds of the norm of a step's Jacobian, from the ranges of its factors and the norms of its matrices.

    |diag(s) U diag(r) V|_2  <=  max|s| * |U|_2 * max|r| * |V|_2

Of several states the norms of the blocks make a matrix B of their own. A product of k steps is in norm at most of the order of
rho(B)**k, rho the spectral radius: rho(B) bounds the factor of a step in the long run. For h = s(U h[t-1] + ...) with slopes of
at most g this is g*|U|_2: below 1 the gradient vanishes, and only above 1 it can explode (Pascanu, Mikolov, Bengio 2013, section
2.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp
from sympy import Expr, Indexed

from codegen.analyze.values import BlockBound, Bound, Matrix
from codegen.text import text
from codegen.trial import extent
from symbolic.jacobian import Block, StepJacobian, Term
from symbolic.program import Index, IndexName, Program, Role, index_symbols, operands, tensor_of
from symbolic.ranges import Interval, Ranges, greatest

__all__ = ["bound_of", "matrices_of"]


def bound_of(
    jacobian: StepJacobian, values: Mapping[str, Any], measured: Mapping[str, Interval], sizes: Mapping[str, int]
) -> Bound:
    """The bounds of one recurrence at these parameters. ``measured``: the ranges of computed tensors along the run."""
    program = jacobian.program
    parameters = {t.name: values[t.name] for t in program.parameters}
    proven = _Norms(program, Ranges(program, parameters), values, sizes)
    here = _Norms(program, Ranges(program, values, measured), values, sizes)
    blocks, always, now = [], {}, {}
    for block in jacobian.blocks:
        always[block], now[block] = proven.block(block), here.block(block)
        unbounded = proven.unbounded(block) if math.isinf(always[block]) else []
        blocks.append(BlockBound(text(block.of), text(block.by), _finite(always[block]), _finite(now[block]),
                                 {name: measured[name] for name in unbounded if name in measured}))
    return Bound(_matrices(jacobian, proven), tuple(blocks), _finite(_radius(jacobian, always)), _finite(_radius(jacobian, now)),
                 _slope(jacobian, proven))


def matrices_of(jacobian: StepJacobian) -> tuple[str, ...]:
    """The parameters that stand between an earlier state and a later one as matrices."""
    program = jacobian.program
    names = {tensor_of(e) for block in jacobian.blocks for term in block.terms for e in _matrix_reads(block, term, program)}
    return tuple(t.name for t in program.parameters if t.name in names)


def _matrices(jacobian: StepJacobian, norms: _Norms) -> tuple[Matrix, ...]:
    found: dict[str, Matrix] = {}
    for block in jacobian.blocks:
        for term in block.terms:
            for entry in _matrix_reads(block, term, jacobian.program):
                if text(entry) not in found:
                    matrix = norms.matrix(entry, block, term)
                    square = matrix.shape[0] == matrix.shape[1]
                    radius = float(np.abs(np.linalg.eigvals(matrix)).max()) if square else None
                    found[text(entry)] = Matrix(text(entry), _norm(matrix), radius)
    return tuple(found.values())


def _slope(jacobian: StepJacobian, norms: _Norms) -> float | None:
    """The greatest factor beside the matrix, where the whole Jacobian is one term with one matrix."""
    if len(jacobian.blocks) != 1 or len(jacobian.blocks[0].terms) != 1:
        return None
    (block,) = jacobian.blocks
    (term,) = block.terms
    reads = _matrix_reads(block, term, jacobian.program)
    if len(reads) != 1 or term.sums or term.guards:
        return None
    return _finite(greatest(norms.ranges.of(term.coefficient.xreplace({reads[0]: sp.Integer(1)}), block.indices)))


def _radius(jacobian: StepJacobian, norms: Mapping[Block, float]) -> float:
    """The spectral radius of the matrix of norms; of several lags, with the earlier states handed on as they are."""
    states = jacobian.recurrence.states
    lags = max((abs(jacobian.lag(b)) for b in norms), default=1)
    if any(math.isinf(n) for n in norms.values()):
        return math.inf
    count = len(states)
    matrix = np.zeros((count * lags, count * lags))
    for block, norm in norms.items():
        of, by = (states.index(name) for name in block.between)
        matrix[of, (abs(jacobian.lag(block)) - 1) * count + by] += norm
    matrix[count:, :-count] += np.eye(count * (lags - 1)) if lags > 1 else 0
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def _matrix_reads(block: Block, term: Term, program: Program) -> list[Indexed]:
    """The reads of a term that link two places of different indices: parameters with two subscripts, no other index in them."""
    places = _places(block, term)
    return [e for e in operands(term.coefficient)
            if program.tensor(tensor_of(e)).role is Role.PARAMETER and len(e.indices) == 2
            and all(len(index_symbols(part)) == 1 for part in e.indices)
            and len({places.get(s) for part in e.indices for s in index_symbols(part)} - {None}) == 2]


def _places(block: Block, term: Term) -> dict[IndexName, IndexName]:
    """The indices that stand for rows, columns and inner sums; two that a guard joins (``k = j``) are one place.

    An index that both entries share (the batch) is no place: there is one matrix for each of its values.
    """
    shared = index_symbols(block.of) & index_symbols(block.by)
    places = {i.symbol: i.symbol for i in (*block.indices, *term.sums) if i.symbol not in shared}
    for guard in term.guards:
        sides = [index_symbols(side) & places.keys() for side in (guard.lhs, guard.rhs)]
        if isinstance(guard, sp.Eq) and [len(s) for s in sides] == [1, 1]:
            (a,), (b,) = sides
            old, new = places[b], places[a]
            places = {s: new if p == old else p for s, p in places.items()}
    return places


class _Norms:
    """Norms of blocks under given ranges."""

    def __init__(self, program: Program, ranges: Ranges, values: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.program, self.ranges, self.values, self.sizes = program, ranges, values, sizes

    def block(self, block: Block) -> float:
        return sum(self._term(block, term) for term in block.terms)

    def _term(self, block: Block, term: Term) -> float:
        matrices = _matrix_reads(block, term, self.program)
        places = _places(block, term)
        rest = term.coefficient.xreplace({e: sp.Integer(1) for e in matrices})
        linked = [{places[s] for part in e.indices for s in index_symbols(part)} for e in matrices]
        factors = sp.Mul.make_args(term.coefficient)
        plain = all(e in factors and sum(f.has(e) for f in factors) == 1 for e in matrices)
        size = greatest(self.ranges.of(rest, (*block.indices, *term.sums)))
        if size == 0:
            return 0.0
        alone = all(len({places[s] for s in index_symbols(f) & places.keys()}) <= 1 for f in sp.Mul.make_args(rest))
        if plain and alone and _is_chain(linked, set(places.values())):
            return size * math.prod(_norm(self.matrix(e, block, term)) for e in matrices)
        # No chain of matrices: the norm of Frobenius, every entry at its greatest.
        whole = greatest(self.ranges.of(term.coefficient, (*block.indices, *term.sums)))
        rows = [i for i in (*block.indices, *term.sums) if i.symbol in places]
        inner = {i.symbol for i in term.sums}
        return whole * math.prod(extent(i.extent, self.sizes) if i.symbol in inner else math.sqrt(extent(i.extent, self.sizes))
                                 for i in rows)

    def unbounded(self, block: Block) -> list[str]:
        """The tensors of a block whose entries may be anything."""
        reads = {tensor_of(e): (e, term) for term in block.terms for e in operands(term.coefficient)}
        return [n for n, (e, term) in reads.items() if math.isinf(greatest(self.ranges.of(e, (*block.indices, *term.sums))))]

    def matrix(self, entry: Indexed, block: Block, term: Term) -> Any:
        """The part of a parameter that a read runs over, as a matrix."""
        ranges = {i.symbol: i for i in (*block.indices, *term.sums)}
        array = np.asarray(self.values[tensor_of(entry)], dtype=float)
        rows, columns = (self._run(part, ranges, length) for part, length in zip(entry.indices, array.shape, strict=True))
        return array[np.ix_(rows, columns)]

    def _run(self, part: Expr, ranges: Mapping[IndexName, Index], length: int) -> list[int]:
        (symbol,) = index_symbols(part)
        own = ranges[symbol]
        places = range(extent(own.lower, self.sizes), extent(own.upper, self.sizes))
        found = (extent(part.xreplace({symbol: sp.Integer(k)}), self.sizes) for k in places)
        return [k for k in found if 0 <= k < length]


def _is_chain(linked: list[set[IndexName]], places: set[IndexName]) -> bool:
    """Whether the matrices lead from place to place, through all of them and none twice."""
    if not linked:
        return len(places) <= 1
    ends = [sum(place in pair for pair in linked) for place in places]
    return len(linked) == len(places) - 1 and sorted(ends) == [1, 1, *[2] * (len(places) - 2)]


def _norm(matrix: Any) -> float:
    return float(np.linalg.norm(matrix, 2)) if matrix.size else 0.0


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


