"""Equations as statements about one entry: every writer of a tensor brought to the same bare subscripts.

    d_h[t,n,k] += sum_i W[i,k]*d_y[t,n,i]          dL/dh[t,n,k] = sum_i W[i,k]*dL/dy[t,n,i]
    d_h[t-1,n,j] += sum_i U[i,j]*d_a[t,n,i]   ->                + sum_i U[i,k]*dL/da[t+1,n,i]

    d_E[x[t,n],k] += d_y[t,n,k]               ->   dL/dE[v,k] = sum_t,n [v = x[t,n]] dL/dy[t,n,k]

What cannot be solved for the subscript becomes a condition, so nothing has to be left as "adds to". Values are the same: an
entry is the sum of all instances that write it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed, Mul

from symbolic.analysis import affine, index_reads, is_nonnegative, may_meet
from symbolic.program import Equation, Index, IndexName, Program, index, index_symbols, tensor_of
from symbolic.rewrite.terms import substitute, tidy

__all__ = ["Statement", "fresh", "groups", "statements"]


@dataclass(frozen=True)
class Statement:
    """``target = sum of terms`` (``max`` likewise): each term an equation with this target; ``numbers``: whose it shows."""

    target: Indexed
    terms: tuple[Equation, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(e.number for e in self.terms))

    @property
    def free(self) -> tuple[Index, ...]:
        """The indices of the target with their ranges."""
        return self.terms[0].free


def statements(equations: Sequence[Equation], program: Program) -> tuple[Statement, ...]:
    """The statements that the equations of one tensor make, in order: one for each set of entries that they share.

    Ensures: each entry is on the left of at most one statement, and is the sum of its terms.
    """
    found = []
    for group in groups(equations, program):
        alone = group[0] if len(group) == 1 else None
        if alone is not None and _is_statement(alone):
            found.append(Statement(alone.target, (alone,)))
            continue
        if all(e.target == group[0].target and e.free == group[0].free and _is_statement(e) for e in group):
            found.append(Statement(group[0].target, tuple(group)))
            continue
        names = _axis_names(group, program)
        terms = tuple(_of_entry(e, names, program) for e in group)
        found.append(Statement(terms[0].target, terms))
    return tuple(found)


def groups(equations: Sequence[Equation], program: Program) -> list[list[Equation]]:
    """The equations of one tensor by the statements that they make."""
    return _apart(_groups(equations, program), program)


def _groups(equations: Sequence[Equation], program: Program) -> list[list[Equation]]:
    """The equations that may write common entries, together; in the order of the first of each group."""
    groups: list[list[Equation]] = []
    for equation in equations:
        meeting = [g for g in groups if any(may_meet(equation, other, program) for other in g)]
        if not meeting:
            groups.append([equation])
            continue
        first, *rest = meeting
        for other in rest:
            first += other
        first.append(equation)
        groups = [g for g in groups if not any(g is other for other in rest)]
    return groups


def _apart(found: list[list[Equation]], program: Program) -> list[list[Equation]]:
    """Groups of which each may speak of all entries that its statement is about: one that is told with conditions says that the
    entries which fulfil none are 0, so what others write there belongs to it."""
    for group in found:
        if len({e.target for e in group}) == 1 and all(map(_is_statement, group)):
            continue
        about = _axis_names(group, program)
        rest = [g for g in found if g is not group and not any(
            a.is_Integer and all(b.is_Integer and a != b for b in parts)
            for a, *parts in zip(about, *(e.target.indices for e in g), strict=True))]
        if rest:
            merged = [e for g in found for e in g if any(g is other for other in (group, *rest))]
            kept = [g for g in found if g is not group and not any(g is other for other in rest)]
            return _apart([merged, *kept], program)
    return found


def _is_statement(equation: Equation) -> bool:
    """Whether the target's subscripts tell the instance: each index alone in one of them, none read from an index tensor."""
    if index_reads(equation.target.indices):
        return False
    alone = {s for part in equation.target.indices if len(s := index_symbols(part)) == 1}
    return all(frozenset({i.symbol}) in alone for i in equation.free)


def _axis_names(group: Sequence[Equation], program: Program) -> tuple[Expr, ...]:
    """A distinct index for each axis of the target: the bare one of a writer, else one that the tensor itself has, else the next
    free letter; a number that all of them have stays."""
    name = group[0].name
    primal = program.primals.get(name, name)
    known = [e.target for e in program.writers.get(primal, ())]
    known += [entry for e in program.readers.get(primal, ()) for entry in e.reads if tensor_of(entry) == primal]
    found: list[Expr] = []
    for axis in range(len(group[0].target.indices)):
        parts = [e.target.indices[axis] for e in group] + [entry.indices[axis] for entry in known]
        first, *others = parts[: len(group)]
        if first.is_Integer and all(other == first for other in others):
            found.append(first)
            continue
        bare = [p for p in parts if isinstance(p, IndexName) and p not in found]
        found.append(bare[0] if bare else next(fresh("vwuqzrsk", {*found, *map(index, _spoken_for(program))})))
    return tuple(found)


def _spoken_for(program: Program) -> frozenset[str]:
    """Letters that stand alone for something else: sizes, and tensors without axes."""
    return frozenset((*program.sizes, *(t.name.rpartition(".")[2] for t in program.tensors if not t.rank)))


def _of_entry(equation: Equation, names: Sequence[Expr], program: Program) -> Equation:
    """The equation as a term of the entry at the bare subscripts ``names``."""
    own = {i.symbol: index(f"_{k}") for k, i in enumerate(equation.indices)}  # out of the way of the new names
    wanted = {new: old for old, new in own.items()}
    equation = equation.renamed(own)
    tensor = program.tensor(equation.name)
    target, body, guards = list(equation.target.indices), equation.body, list(equation.guards)
    domain = {i.symbol: i for i in equation.indices}
    done: set[Expr] = set()
    # Bare subscripts first: their index may stand in others, which follow it.
    for axis, name in sorted(enumerate(names), key=lambda pair: not isinstance(target[pair[0]], IndexName)):
        part, bounds = target[axis], tensor.bounds(axis)
        if not isinstance(name, IndexName):
            continue
        target[axis] = name
        if isinstance(part, IndexName) and part in domain and part not in done:
            choices = [(part, 1)]
        else:
            choices = _solvable(part, target, domain)
        conditions = {choice: _conditions(part, *choice, domain, bounds, body, program) for choice in choices}
        if not choices:
            guards.append(sp.Eq(name, part, evaluate=False))
        else:
            symbol, sign = best = min(choices, key=lambda choice: len(conditions[choice]))
            rule = {symbol: tidy(sign * name - sign * (part - sign * symbol))}
            guards += conditions[best]
            body, *rest = (substitute(piece, rule) for piece in (body, *guards, *target))
            guards, target = rest[: len(guards)], rest[len(guards) :]
            del domain[symbol]
        domain[name] = Index(name, *bounds)
        done.add(name)  # on a diagonal it stands in another subscript too, and is asked for there
    carried = [Index(name, *tensor.bounds(axis)) for axis, name in enumerate(names) if isinstance(name, IndexName)]
    summed = [i for s, i in domain.items() if s not in names]
    made = replace(equation, target=tensor.at(target), body=body, guards=tuple(g for g in guards if g is not sp.true),
                   indices=(*carried, *summed))
    return made.renamed(_names_of_summed([i.symbol for i in summed], wanted, names, _spoken_for(program)))


def _names_of_summed(
    symbols: Sequence[IndexName], wanted: Mapping[IndexName, IndexName], names: Sequence[Expr],
    spoken_for: frozenset[str],
) -> dict[IndexName, IndexName]:
    """Names for the summed indices: their own, or where a subscript has taken that, one that became free."""
    left = [old for old in wanted.values() if old not in names and old not in {wanted[s] for s in symbols}]
    others = itertools.chain(left, fresh("jklmpqruvwz", {*names, *wanted.values(), *map(index, spoken_for)}))
    return {s: wanted[s] if wanted[s] not in names else next(others) for s in symbols}


def fresh(letters: str, taken: Collection[Expr]) -> Iterator[IndexName]:
    """Indices that are not taken: these letters, then the same with numbers."""
    for count in itertools.count(1):
        names = (index(letter if count == 1 else f"{letter}_{count}") for letter in letters)
        yield from (name for name in names if name not in taken)


def _solvable(part: Expr, target: Sequence[Expr], domain: Mapping[IndexName, Index]) -> list[tuple[IndexName, int]]:
    """The indices that a subscript ``sign*i + rest`` can be solved for: they stand in no other subscript, nor in a range."""
    form = affine(part)
    if form is None or index_reads((part,)):
        return []
    elsewhere = frozenset().union(*(index_symbols(p) for p in target),
                                  *(index_symbols(bound) for i in domain.values() for bound in (i.lower, i.upper)))
    return [(s, int(c)) for s, c in form.coefficients if s in domain and c in (1, -1) and s not in elsewhere]


def _conditions(
    part: Expr, symbol: IndexName, sign: int, domain: Mapping[IndexName, Index], bounds: tuple[Expr, Expr], body: Expr,
    program: Program,
) -> list[Expr]:
    """What must be asked, in terms of ``symbol``, of the instances that the new subscript adds: nothing on a side where there are
    none, or where the term is 0 because one of its factors is read outside its tensor."""
    over, rest = domain[symbol], part - sign * symbol
    least, last = (bounds[0] - rest, bounds[1] - 1 - rest) if sign == 1 else (rest - bounds[1] + 1, rest - bounds[0])
    found: list[Expr] = []
    if not is_nonnegative(least - over.lower, program) and not _vanishes(symbol, over.lower - 1, -1, body, program):
        found.append(sp.Ge(symbol, over.lower))
    if not is_nonnegative(over.upper - 1 - last, program) and not _vanishes(symbol, over.upper, 1, body, program):
        found.append(sp.Lt(symbol, over.upper))
    return found


def _vanishes(symbol: IndexName, start: Expr, direction: int, body: Expr, program: Program) -> bool:
    """Whether a factor of the body is read out of bounds from ``symbol = start`` on, upwards (1) or downwards (-1)."""
    for factor in Mul.make_args(body):
        if not isinstance(factor, Indexed):
            continue
        for axis, part in enumerate(factor.indices):
            if index_symbols(part) != {symbol} or part.coeff(symbol) not in (1, -1):
                continue
            least, beyond = program.tensor(tensor_of(factor)).bounds(axis)
            there = part.xreplace({symbol: start})
            if is_nonnegative(there - beyond if part.coeff(symbol) == direction else least - 1 - there, program):
                return True
    return False
