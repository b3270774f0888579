"""The chain rule: reverse mode on index equations. This file is the whole of differentiation.

For each equation ``Y[psi] += f(..., X[phi], ...)`` over a domain, and each distinct read ``X[phi]`` of a real tensor,

    X_bar[phi] += Y_bar[psi] * df/dX[phi]        over the same domain, under the same guards

A maximum is differentiated at its first maximiser: index tensors hold the argument, and the rule is applied at that one
instance. Backpropagation through time, transposed convolution and scatter-add are what this gives; nothing is written for
them. (Rumelhart, Hinton and Williams 1986; reverse accumulation as in Griewank and Walther 2008, ch. 3.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import sympy as sp
from sympy import Expr, Indexed

from symbolic.analysis import in_bounds, index_reads, is_nonnegative, may_meet, subscript_range
from symbolic.errors import ArgumentError, ProgramError, nearest
from symbolic.program import (
    Equation,
    Kind,
    Names,
    Origin,
    Program,
    Reduction,
    Role,
    Tensor,
    index_symbols,
    is_index_read,
    operands,
    tensor_of,
)

__all__ = ["active", "gradient", "instances_to_differentiate", "names_to_differentiate_by", "partial"]


def gradient(program: Program, wrt: str | Iterable[str] | None = None) -> Program:
    """The program with the adjoint equations of its loss for the tensors ``wrt``, one name or several (default: the parameters).

    Requires a rank-0 ``program.loss``. Ensures ``result.gradients[X]`` names the adjoint of X, of X's shape, for each X in
    ``wrt`` and for each tensor between them and the loss. The result is a Program with the same loss; for second derivatives
    an adjoint is made the loss (``replace(result, loss=result.gradients[X])``, X of rank 0), or the result goes through
    ``tangent``.
    """
    wanted = names_to_differentiate_by("gradient", program, wrt)
    if not program.loss or program.tensor(program.loss).rank:
        raise ProgramError(f"{program.name}: expected a loss without axes to differentiate, found '{program.loss}'")
    live = active(program, wanted) & reaching(program, program.loss)
    names = Names.of(program)
    equations, arguments = instances_to_differentiate(program, live, names)

    adjoint = {
        tensor.name: replace(tensor, name=names.fresh(f"d_{tensor.name}"), role=Role.ADJOINT, constant="", note="")
        for tensor in program.tensors
        if tensor.name in live or tensor.name in wanted or tensor.name == program.loss
    }
    number = max(program.next_number, 1 + max((e.number for e in arguments.equations), default=0))
    seed = Equation(adjoint[program.loss].at(()), sp.Integer(1), (), numbers=(number,), origin=Origin("seed"))
    made = [seed]
    for equation in reversed(equations):
        if equation.name not in live:
            continue
        for entry in differentiable_reads(equation, program, live):
            slope = partial(equation.body, entry)
            if slope == 0:
                continue
            body = adjoint[equation.name].at(equation.target.indices) * slope
            made.append(
                replace(
                    equation,
                    target=adjoint[tensor_of(entry)].at(entry.indices),
                    body=body,
                    reduction=Reduction.SUM,
                    numbers=(number + len(made),),
                    origin=Origin("chain rule", (equation.number,), entry, slope),
                )
            )
    return replace(
        program,
        tensors=(*program.tensors, *arguments.tensors, *adjoint.values()),
        equations=(*program.equations, *arguments.equations, *made),
        gradients={**program.gradients, **{name: tensor.name for name, tensor in adjoint.items()}},
    )


def partial(body: Expr, entry: Indexed) -> Expr:
    """``d body / d entry`` with every distinct read an independent variable (law 19: once per body shape, then cached)."""
    to_position = {r: sp.Symbol(f"_{k}") for k, r in enumerate(operands(body))}
    from_position = {symbol: r for r, symbol in to_position.items()}
    return _partial(body.xreplace(to_position), to_position[entry]).xreplace(from_position)


@lru_cache(maxsize=4096)
def _partial(shape: Expr, position: sp.Symbol) -> Expr:
    # The symbols carry no assumption: a real one would turn sqrt(x**2) into Abs(x), a complex Abs into re and im; our own
    # functions are differentiated by their table.
    return sp.diff(shape, position)


def differentiable_reads(equation: Equation, program: Program, live: Iterable[str]) -> tuple[Indexed, ...]:
    """The reads of the body through which the loss may change: of real tensors, not constant, that depend on ``wrt``."""
    if equation.reduction is Reduction.ARGMAX:
        return ()
    return tuple(
        entry
        for entry in program.in_order(operands(equation.body))
        if not is_index_read(entry) and tensor_of(entry) in live and not program.tensor(tensor_of(entry)).constant
    )


class Arguments:
    """The index tensors that hold the arguments of maxima, with their equations (law 7)."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.equations: list[Equation] = []


def instances_to_differentiate(
    program: Program, live: Iterable[str], names: Names
) -> tuple[tuple[Equation, ...], Arguments]:
    """The equations as differentiation sees them: each maximum replaced by the one instance that attains it first."""
    arguments, seen = Arguments(), []
    number = program.next_number
    for equation in program.equations:
        if equation.reduction is not Reduction.MAX or equation.name not in live:
            seen.append(written_only(equation, program) if equation.name in live else equation)
            continue
        _one_maximum_an_entry(equation, program)
        at_maximum = {}
        for reduced in equation.reduced:
            tensor = replace(
                program.tensor(equation.name), name=names.fresh(f"{equation.name}_{reduced.name}"), kind=Kind.INDEX,
                role=Role.INTERMEDIATE, low=reduced.lower, below=reduced.upper,
                note=f"the {reduced.name} of the first maximum of {equation.name}",
            )
            arguments.tensors.append(tensor)
            arguments.equations.append(
                replace(equation, target=tensor.at(equation.target.indices), reduction=Reduction.ARGMAX,
                        component=reduced.symbol, numbers=(number,),
                        origin=Origin("argument of the maximum", (equation.number,)))
            )
            at_maximum[reduced.symbol] = tensor.at(equation.target.indices)
            number += 1
        symbols = frozenset(at_maximum)
        # The guards of the reduced indices hold at the maximiser. Where no instance existed the argument is nowhere, and
        # so is each read through it; a guard says the same for bodies that do not read through it.
        guards = tuple(g for g in equation.guards if not index_symbols(g) & symbols)
        if len(guards) < len(equation.guards):
            guards += tuple(sp.Ge(entry, r.lower) for r, entry in zip(equation.reduced, at_maximum.values(), strict=True))
        seen.append(
            replace(equation, body=equation.body.xreplace(at_maximum), indices=equation.free, guards=guards,
                    reduction=Reduction.SUM)
        )
    return tuple(seen), arguments


def _one_maximum_an_entry(equation: Equation, program: Program) -> None:
    """Refuses maxima that meet in one entry: each would pass for the greatest and take the whole adjoint (law 6)."""
    alone = [index_symbols(part) for part in equation.target.indices if not index_reads((part,))]
    if any({i.symbol} not in alone for i in equation.free):
        raise ProgramError(
            f"{program.name}: expected a maximum whose instances write entries of their own, to differentiate it, found one that "
            f"may write an entry of '{equation.name}' several times; take it over bare indices first\n    {equation}"
        )
    for other in program.writers[equation.name]:
        if other is not equation and may_meet(equation, other, program):
            raise ProgramError(
                f"{program.name}: expected one equation for each entry of a maximum, to differentiate it, found two for "
                f"'{equation.name}'; give each a tensor of its own and take max2 of them\n    {equation}\n    {other}"
            )


def written_only(equation: Equation, program: Program) -> Equation:
    """The equation guarded to the instances whose write happens (law 2): the others have no adjoint, and must not be computed
    (their slope need not be finite)."""
    if in_bounds(equation.target, equation, program):
        return equation
    guards = []
    tensor, ranges = program.tensor(equation.name), {i.symbol: i for i in equation.indices}
    for axis, subscript in enumerate(equation.target.indices):
        lower, upper = tensor.bounds(axis)
        found = subscript_range(subscript, ranges, program)
        if index_reads((subscript,)):
            continue  # nowhere writes nothing
        if found is None or not is_nonnegative(found[0] - lower, program):
            guards.append(sp.Ge(subscript, lower))
        if found is None or not is_nonnegative(upper - 1 - found[1], program):
            guards.append(sp.Lt(subscript, upper))
    return replace(equation, guards=(*equation.guards, *(g for g in guards if g is not sp.true)))


def names_to_differentiate_by(call: str, program: Program, wrt: str | Iterable[str] | None) -> tuple[str, ...]:
    """One name or several, each of a real tensor of the program; its parameters where none is given.

    Raises ProgramError with the nearest name, ArgumentError for what is no program or no name.
    """
    if not isinstance(program, Program):
        raise ArgumentError(f"{call}: expected a Program, found a Python {type(program).__name__}; a Model gives its own: "
                            "model.program()")
    if wrt is None:
        return tuple(t.name for t in program.parameters)
    wanted = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in wanted:
        if not isinstance(name, str):
            raise ArgumentError(f"{call}: expected names of tensors to differentiate by, found a Python {type(name).__name__}")
        if name not in program:
            known = [t.name for t in program.tensors if not t.is_index]
            raise ProgramError(f"{program.name}: no tensor '{name}' to differentiate by{nearest(name, known)}; "
                               f"known: {', '.join(known)}")
        if program.tensor(name).is_index:
            raise ProgramError(f"{program.name}: '{name}' holds indices, not real numbers; nothing can be differentiated by it")
    return wanted


def active(program: Program, sources: Iterable[str]) -> frozenset[str]:
    """The tensors whose values depend on the sources through real reads; a constant tensor (law 11) ends the way."""
    reached = set(sources)
    frontier = list(reached)
    while frontier:
        for equation in program.readers.get(frontier.pop(), ()):
            fixed = program.tensor(equation.name).constant
            if equation.name not in reached and not fixed and differentiable_reads(equation, program, reached):
                reached.add(equation.name)
                frontier.append(equation.name)
    return frozenset(reached)


def reaching(program: Program, sink: str) -> frozenset[str]:
    """The tensors on which the sink depends, the sink among them."""
    reached, frontier = {sink}, [sink]
    while frontier:
        for equation in program.writers.get(frontier.pop(), ()):
            for entry in equation.reads:
                name = tensor_of(entry)
                if name not in reached:
                    reached.add(name)
                    frontier.append(name)
    return frozenset(reached)
