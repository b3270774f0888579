"""The Jacobian of one step of a recurrence: what a state gains when a state of an earlier step is moved.

The tangent pass gives ``Y_dot[psi] += df/dX[phi] * X_dot[phi]`` for every equation. Within one step, the products of these slopes
along every way that leads from a state back to a read of an earlier step add up to the total derivative:

    dh[t,n,i]/dh[t-1,n,j] = U[i,j]*(1 - h[t,n,i]**2)                for h = tanh(U h[t-1] + W x)
    dc[t,n,k]/dc[t-1,n,k] = f[t,n,k], + ...                         for an LSTM

The ways that end at a parameter give the immediate derivatives of backpropagation through time, with the earlier states held
fixed. Stored values are read as the derivations read them (the rewrite ``reuse``). No cell is known here. (Werbos 1990; Pascanu,
Mikolov, Bengio 2013, equations 4 and 5.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed
from sympy.core.relational import Relational

from symbolic.errors import ProgramError
from symbolic.program import Equation, Index, IndexName, Names, Origin, Program, Role, Tensor, index, index_symbols, tensor_of
from symbolic.recurrence import Recurrence, recurrences, step_axes
from symbolic.rewrite.terms import substitute
from symbolic.ways import Factors, Walk, Way, factors_of, stem

__all__ = ["Block", "StepJacobian", "Term", "step_jacobian", "step_jacobians", "with_blocks"]


@dataclass(frozen=True)
class Term:
    """``sum over sums of coefficient``, where every guard holds. A guard such as ``k = j`` is a diagonal matrix."""

    coefficient: Expr
    sums: tuple[Index, ...] = ()
    guards: tuple[Relational, ...] = ()


@dataclass(frozen=True)
class Block:
    """``d of / d by``, the sum of its terms; ``by`` has an index of ``of`` wherever only entries of the same index meet.

    ``indices``: the domain of both entries together, those of ``of`` first.
    """

    of: Indexed
    by: Indexed
    indices: tuple[Index, ...]
    terms: tuple[Term, ...]

    @property
    def is_diagonal(self) -> bool:
        """Whether ``of`` hangs on one entry of ``by`` alone, the one at its own indices."""
        return index_symbols(self.by) <= index_symbols(self.of)

    @property
    def between(self) -> tuple[str, str]:
        """The names of the two tensors."""
        return tensor_of(self.of), tensor_of(self.by)


@dataclass(frozen=True)
class StepJacobian:
    """All derivatives of one step of a recurrence.

    ``blocks``: of its states by its states at earlier steps (later ones, where time is reversed). ``inputs``: by what the step
    reads from outside, the states of the level below among it. ``direct``: by the parameters, earlier states held fixed.
    ``program``: the forward program that all entries belong to.
    """

    recurrence: Recurrence
    program: Program
    blocks: tuple[Block, ...]
    inputs: tuple[Block, ...]
    direct: tuple[Block, ...]

    def lag(self, block: Block) -> int:
        """How many steps lie between ``of`` and ``by``: 1 for ``h[t-1]``, -1 for ``h[t+1]``; the first axis decides."""
        axes = (self.recurrence.axes(self.program.tensor(tensor_of(e))) for e in (block.of, block.by))
        steps = (sp.expand(block.of.indices[a] - block.by.indices[b]) for a, b in zip(*axes, strict=False))
        return next((int(s) for s in steps if s != 0), 0)


def step_jacobians(program: Program) -> tuple[StepJacobian, ...]:
    """The Jacobian of each recurrence of a forward program. Raises ProgramError as ``step_jacobian`` does."""
    found = recurrences(program)
    factors = factors_of(program, found) if found else None
    return tuple(step_jacobian(program, each, factors) for each in found)


def step_jacobian(program: Program, recurrence: Recurrence | None = None, factors: Factors | None = None) -> StepJacobian:
    """The Jacobian of one recurrence, by default the only one. ``factors``: the program's, where the caller has them already.

    Cost: the tangent pass and the ways through one step, whatever the sizes. Raises ProgramError where there is no recurrence or
    several to choose from, where a state is read at a distance that is no number, or for a step of more than 500 ways.
    """
    found = recurrences(program) if recurrence is None or factors is None else ()
    if recurrence is None:
        if len(found) != 1:
            names = ", ".join(", ".join(r.states) for r in found) or "none"
            raise ProgramError(f"{program.name}: expected one recurrence to take the Jacobian of, found {names}")
        (recurrence,) = found
    return _step_jacobian(recurrence, factors or factors_of(program, found))


def with_blocks(jacobian: StepJacobian, blocks: Iterable[Block]) -> tuple[Program, dict[Block, str]]:
    """The forward program with a tensor for each block, of the extents of its ``indices``, and their names."""
    names, tensors, equations = Names.of(jacobian.program), list(jacobian.program.tensors), list(jacobian.program.equations)
    found: dict[Block, str] = {}
    for block in blocks:
        tensor = Tensor(names.fresh("J"), tuple(i.extent for i in block.indices))
        found[block] = tensor.name
        tensors.append(tensor)
        target = tensor.at([i.symbol - i.lower for i in block.indices])
        equations += [Equation(target, term.coefficient, (*block.indices, *term.sums), term.guards, origin=Origin("Jacobian"))
                      for term in block.terms]
    return jacobian.program.with_equations(equations, tensors), found


def _step_jacobian(recurrence: Recurrence, edges: Factors) -> StepJacobian:
    program = edges.program
    blocks: list[Block] = []
    inputs: list[Block] = []
    direct: list[Block] = []
    for name in recurrence.states:
        of, indices = _generic(name, recurrence, program)
        ways = list(Walk(recurrence, edges, of, indices).ways())
        groups: dict[tuple[object, ...], list[Way]] = {}
        for way in ways:
            tensor = program.tensor(tensor_of(way.read))
            steps = tuple(way.read.indices[a] for a in step_axes(tensor, recurrence.along))
            groups.setdefault((tensor.name, steps), []).append(way)
        for source, rows in sorted(groups.items(), key=lambda row: [t.name for t in program.tensors].index(str(row[0][0]))):
            block = _block(of, indices, rows, program)
            if not block.terms:
                continue
            role = program.tensor(str(source[0])).role
            (blocks if source[0] in recurrence.tensors else direct if role is Role.PARAMETER else inputs).append(block)
    return StepJacobian(recurrence, program, tuple(blocks), tuple(inputs), tuple(direct))


def _generic(name: str, recurrence: Recurrence, program: Program) -> tuple[Indexed, tuple[Index, ...]]:
    """An entry of a tensor at any place, with the index names of its own equation where that has bare ones, and their ranges."""
    tensor = program.tensor(name)
    for equation in program.writers[name]:
        subscripts = equation.target.indices
        if all(isinstance(part, IndexName) for part in subscripts) and len(set(subscripts)) == len(subscripts):
            break
    else:
        names = Names(set())
        subscripts = tuple(names.index("t" if a in recurrence.axes(tensor) else "i") for a in range(tensor.rank))
    return tensor.at(subscripts), tuple(Index.over(s, e) for s, e in zip(subscripts, tensor.shape, strict=True))


# ---- blocks ------------------------------------------------------------------------------------------------------------


def _block(of: Indexed, indices: tuple[Index, ...], ways: list[Way], program: Program) -> Block:
    """The ways that end at one tensor as one matrix: an axis of ``by`` has the one subscript of all ways, or an index of its own.

    A way whose read has a summed index alone on that axis hands that index over (a sum with a Kronecker delta is one term);
    any other says where it is not 0.
    """
    tensor = program.tensor(tensor_of(ways[0].read))
    own = {i.symbol for i in indices}
    names = Names({i.name for i in indices})
    subscripts: list[Expr] = []
    further: list[Index] = []
    for axis in range(tensor.rank):
        parts = {way.read.indices[axis] for way in ways}
        (first, *others) = parts
        if not others and index_symbols(first) <= own:
            subscripts.append(first)
            continue
        bare = [part for way in ways if isinstance(part := way.read.indices[axis], IndexName) and part not in own]
        wanted = stem(str(bare[0])) if bare else "j"
        further.append(Index(index(f"_{names.fresh(wanted)}"), *tensor.bounds(axis)))
        subscripts.append(further[-1].symbol)
    by = tensor.at(subscripts)
    block = Block(of, by, (*indices, *further), _together(_term(way, by, tuple(further)) for way in ways))
    return _named(block, own)


def _term(way: Way, by: Indexed, further: tuple[Index, ...]) -> Term:
    sums = {i.symbol: i for i in way.sums}
    domains = {i.symbol: i for i in further}
    handed: dict[IndexName, Expr] = {}
    guards: list[Relational] = []
    for part, wanted in zip(way.read.indices, by.indices, strict=True):
        if part == wanted:
            continue
        own, other = sums.get(part), domains.get(wanted)
        if own and other and part not in handed and (own.lower, own.upper) == (other.lower, other.upper):
            handed[part] = wanted
            del sums[part]
        else:
            guards.append(sp.Eq(part, wanted, evaluate=False))
    every = (substitute(g, handed) for g in (*way.guards, *guards))
    return Term(substitute(way.coefficient, handed), tuple(sums.values()), tuple(g for g in every if g is not sp.true))


def _together(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Terms over the same sums that differ in one factor as one: ``z*h - z*g`` is ``z*(h - g)``."""
    found: list[Term] = []
    for term in (t for t in terms if sp.false not in t.guards):
        for k, other in enumerate(found):
            if (term.sums, term.guards) == (other.sums, other.guards):
                ours, theirs = (list(sp.Mul.make_args(t.coefficient)) for t in (term, other))
                shared = [f for f in ours if f in theirs]
                a, b = (sp.Mul(*(f for f in factors if f not in shared)) for factors in (ours, theirs))
                if shared and sp.Mul(*shared).has(Indexed) and not any(_factors(side) > 1 for side in (a, b)):
                    found[k] = replace(other, coefficient=sp.Mul(*shared) * (b + a))
                    break
        else:
            found.append(term)
    return tuple(found)


def _factors(product: Expr) -> int:
    return sum(not f.is_number for f in sp.Mul.make_args(product))


def _named(block: Block, own: set[IndexName]) -> Block:
    """The block with indices called as in the equations that they come from, as far as these names are free."""
    names = Names({s.name for s in own})
    rule = {i.symbol: names.index(stem(i.name.removeprefix("_"))) for i in block.indices if i.symbol not in own}
    terms = []
    for term in block.terms:
        inner = Names(set(names.taken))
        every = {**rule, **{i.symbol: inner.index(stem(i.name)) for i in term.sums}}
        terms.append(Term(term.coefficient.xreplace(every), tuple(_renamed(i, every) for i in term.sums),
                          tuple(g.xreplace(every) for g in term.guards)))
    return Block(block.of, block.by.xreplace(rule), tuple(_renamed(i, rule) for i in block.indices), tuple(terms))


def _renamed(i: Index, rule: Mapping[IndexName, IndexName]) -> Index:
    return Index(rule.get(i.symbol, i.symbol), i.lower, i.upper)
