"""The ways through one step of a recurrence: from a state back to what the step reads, each with the product of its slopes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational

from symbolic.analysis import are_apart, at_most, index_reads, lies_in, subscript_range
from symbolic.errors import ProgramError
from symbolic.program import Equation, Index, IndexName, Names, Program, Role, index_symbols, operands, tensor_of
from symbolic.recurrence import Recurrence, step_axes
from symbolic.rewrite.reuse import reuse_values
from symbolic.rewrite.terms import solve, substitute, without
from symbolic.tangent import tangent

__all__ = ["Factor", "Factors", "Walk", "Way", "factors_of", "stem"]

MOST_TERMS = 500
"""Ways through one step that are followed at most: a formula of more terms is read by nobody."""



@dataclass(frozen=True)
class Factor:
    """One equation's slope by one of its reads: ``d target / d read`` is ``slope``."""

    equation: Equation
    slope: Expr
    read: Indexed


@dataclass(frozen=True)
class Factors:
    """The factors by the tensor that they are of, the forward program that they read, and all tensors that recur in it."""

    program: Program
    of: Mapping[str, tuple[Factor, ...]]
    members: frozenset[str]

    def sees_through(self, name: str, recurrence: Recurrence) -> bool:
        """Whether ways go on through a tensor from outside a recurrence: a value without steps, or one that adds up products
        (``W x + b``, computed before the steps); not the states of another recurrence, nor a function of something below."""
        if name in self.members or name not in self.of:
            return False
        alone = not step_axes(self.program.tensor(name), recurrence.along)
        return alone or all(not _is_function(edge) for edge in self.of[name])


def _is_function(edge: Factor) -> bool:
    """Whether a factor is more than a product of numbers and reads: the equation is of a higher degree than 1 in its reads."""
    return any(not (f.is_number or isinstance(f, Indexed) or not f.has(Indexed)) for f in sp.Mul.make_args(edge.slope))


def factors_of(program: Program, found: tuple[Recurrence, ...]) -> Factors:
    """The tangent equations, rewritten to read stored values, as factors."""
    members = {name for each in found for name in each.tensors}
    wanted = [t.name for t in program.tensors
              if not t.is_index and (t.role in (Role.PARAMETER, Role.INPUT) or t.name in members)]
    dotted = tangent(replace(program, outputs=(), links={}), wanted)
    primal = {tangent_name: name for name, tangent_name in dotted.tangents.items()}
    tensors = tuple(replace(t, role=Role.TANGENT) if t.name in primal else t for t in dotted.tensors)
    rows: dict[str, list[Factor]] = {}
    for equation in reuse_values(replace(dotted, tensors=tensors), frozenset()).equations:
        if equation.name in primal:
            (moved,) = (e for e in operands(equation.body) if tensor_of(e) in primal)
            read = program.tensor(primal[tensor_of(moved)]).at(moved.indices)
            rows.setdefault(primal[equation.name], []).append(Factor(equation, without(equation.body, moved), read))
    # Maxima bring the index tensors of their arguments; all else of the forward program is as it was.
    known = replace(program, tensors=tuple(t for t in dotted.tensors if t.name not in primal),
                    equations=tuple(e for e in dotted.equations if e.name not in primal))
    return Factors(known, {name: tuple(edges) for name, edges in rows.items()}, frozenset(members))




@dataclass(frozen=True)
class Way:
    """One way from a state back to a read: the product of its factors, summed over ``sums``, under ``guards``."""

    read: Indexed
    coefficient: Expr
    sums: tuple[Index, ...]
    guards: tuple[Relational, ...]


class Walk:
    """Follows the factors from one entry back to the reads of other steps and of what lies outside the recurrence."""

    def __init__(self, recurrence: Recurrence, edges: Factors, of: Indexed, indices: tuple[Index, ...]) -> None:
        self.recurrence, self.edges, self.of, self.indices = recurrence, edges, of, indices
        self.program = edges.program
        self.steps = self._steps(of)
        self.names = Names({i.name for i in indices})
        self.found = 0

    def _steps(self, entry: Indexed) -> tuple[Expr, ...]:
        axes = self.recurrence.axes(self.program.tensor(tensor_of(entry)))
        return tuple(entry.indices[a] for a in axes)

    def ways(self) -> Iterator[Way]:
        yield from self._from(Way(self.of, sp.Integer(1), (), ()))

    def _from(self, way: Way) -> Iterator[Way]:
        for edge in self.edges.of.get(tensor_of(way.read), ()):
            further = self._along(way, edge)
            if further is None:
                continue
            if self._goes_on(further.read):
                yield from self._from(further)
                continue
            self.found += 1
            if self.found > MOST_TERMS:
                raise ProgramError(f"{self.program.name}: the Jacobian of one step of {tensor_of(self.of)} has more than "
                                   f"{MOST_TERMS} terms; nobody reads such a formula")
            known = {i.symbol: i for i in (*self.indices, *further.sums)}
            yield replace(further, guards=further.guards + _somewhere(further.read, known, self.program))

    def _goes_on(self, read: Indexed) -> bool:
        """Whether a read is of this same step, or of a value without steps that is computed; raises where no step can be told."""
        name = tensor_of(read)
        if name not in self.recurrence.tensors:
            return self.edges.sees_through(name, self.recurrence)
        steps = self._steps(read)
        distances = [sp.expand(a - b) for a, b in zip(steps, self.steps, strict=False)]
        if len(steps) != len(self.steps) or any(not d.is_Integer for d in distances):
            raise ProgramError(f"{self.program.name}: {name} is read at {read}, which is no fixed number of steps from "
                               f"{self.of}; one step has no Jacobian of its own")
        return not any(distances)

    def _along(self, way: Way, edge: Factor) -> Way | None:
        """The way, one factor longer; ``None`` where the equation does not write the entry at any step.

        Every index of the equation is renamed first, so that nothing is captured.
        """
        fresh = {i.symbol: self.names.index(stem(i.name)) for i in edge.equation.indices}
        equation = edge.equation.renamed(fresh)
        name = tensor_of(way.read)
        steps = self.recurrence.axes(self.program.tensor(name)) if name in self.recurrence.tensors else ()
        met = _met(equation, way.read, steps)
        if met is None:
            return None
        known = {i.symbol: i for i in (*self.indices, *way.sums)}
        values, conditions = met
        guards = _somewhere(way.read, known, self.program) + conditions  # in this order: nothing is asked of a place that is none
        sums = tuple(i for i in equation.indices if i.symbol not in values)
        for i in equation.indices:
            if i.symbol in values:
                guards += _within(values[i.symbol], i, known, self.program)
        guards += tuple(substitute(guard, values) for guard in equation.guards)
        guards = tuple(guard for guard in guards if guard is not sp.true)
        if sp.false in guards:
            return None
        read, slope = (substitute(substitute(part, fresh), values) for part in (edge.read, edge.slope))
        return Way(read, way.coefficient * slope, (*way.sums, *sums), tuple(dict.fromkeys((*way.guards, *guards))))


def _met(
    equation: Equation, entry: Indexed, steps: tuple[int, ...]
) -> tuple[dict[IndexName, Expr], tuple[Relational, ...]] | None:
    """Values of the equation's indices at which it writes the entry, and what must hold for it; ``None`` where it never does.

    An equation of a fixed step (the start ``h[-1]``) is not met: the entry stands for any step.
    """
    free = frozenset(i.symbol for i in equation.indices)
    values: dict[IndexName, Expr] = {}
    later: list[tuple[Expr, Expr]] = []
    for axis, (part, wanted) in enumerate(zip(equation.target.indices, entry.indices, strict=True)):
        moving = index_symbols(part) & free
        if axis in steps and not moving:
            return None
        if len(moving) == 1 and not moving & values.keys():
            found = solve((part,), (wanted,), moving)
            if found is not None:
                values.update(found)
                continue
        later.append((part, wanted))
    guards: list[Relational] = []
    for part, wanted in later:
        distance = sp.expand(substitute(part, values) - wanted)
        if distance.is_number and distance != 0:
            return None
        if distance != 0:
            guards.append(sp.Eq(substitute(part, values), wanted, evaluate=False))
    return values, tuple(guards)


def _within(value: Expr, own: Index, known: Mapping[IndexName, Index], program: Program) -> tuple[Relational, ...]:
    """The bounds of an index that its value is not proved to keep; falsity where it is proved to keep none."""
    span = subscript_range(value, known, program)
    if span is not None and are_apart(span, (own.lower, own.last), program):
        return (sp.false,)
    lower = span is not None and at_most(own.lower, span[0], program)
    upper = span is not None and at_most(span[1], own.last, program)
    bounds = (() if lower else (sp.Ge(value, own.lower),)) + (() if upper else (sp.Lt(value, own.upper),))
    return tuple(b for b in bounds if b is not sp.true)


def _somewhere(entry: Indexed, known: Mapping[IndexName, Index], program: Program) -> tuple[Relational, ...]:
    """That each index read in the subscripts of an entry gives a place, where that is not proved: a read through nowhere is 0."""
    found = []
    for read in index_reads(entry.indices):
        tensor = program.tensor(tensor_of(read))
        spans = [subscript_range(part, known, program) for part in read.indices]
        inside = all(span is not None and lies_in(span, tensor.bounds(axis), program) for axis, span in enumerate(spans))
        if not inside or tensor.ignore is not None or tensor.name in program.writers:
            found.append(sp.Ge(read, tensor.low))
    return tuple(found)


def stem(name: str) -> str:
    """``j`` of ``j_2``."""
    stem, mark, count = name.rpartition("_")
    return stem if mark and stem and count.isdigit() else name
