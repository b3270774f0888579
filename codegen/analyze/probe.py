"""Modules that measure: the adjoints of named tensors, by the generated code.

A tensor ``a`` gets an input ``e_a`` of its shape and the equation ``a[...] += e_a[...]``; at ``e_a = 0`` nothing changes, and the
gradient by ``e_a`` is the adjoint of ``a`` at every step. With the loss ``sum R[n,i]*h[T-1,n,i]`` in place of the spec's the same
gradients are an error R that is put in at the last step and carried back: products of a vector with the Jacobians of the steps.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codegen.nodes import nudged
from codegen.trial import shape_of
from symbolic.adjoint import reaching
from symbolic.jacobian import StepJacobian
from symbolic.model import Model
from symbolic.program import Equation, Index, Names, Origin, Program, Role, Tensor, tensor_of

__all__ = ["Probe", "injecting", "watching"]


@dataclass(frozen=True)
class Probe:
    """A module whose gradients are adjoints. ``nudges``: tensor -> the input that its adjoint is the gradient by; ``errors``:
    tensor -> the input that holds the error put into it at the last step."""

    module: types.ModuleType
    program: Program
    nudges: Mapping[str, str]
    errors: Mapping[str, str]

    def run(self, values: Mapping[str, Any], sizes: Mapping[str, int], errors: Mapping[str, Any] | None = None) -> Measured:
        """The loss, the gradients of parameters, the adjoints of the nudged tensors, and the outputs, at a point."""
        program = self.program
        params = {t.name: values[t.name] for t in program.parameters}
        extra = {n: np.zeros(shape_of(program.tensor(n), sizes)) for n in (*self.nudges.values(), *self.errors.values())}
        batch = {t.name: values[t.name] for t in program.inputs if t.name in values} | extra
        batch |= {self.errors[name]: array for name, array in (errors or {}).items()}
        with np.errstate(all="ignore"):
            loss, gradients, aux = self.module.value_and_grad(params, batch, aux=True)
        adjoints = {name: gradients[nudge] for name, nudge in self.nudges.items()}
        return Measured(float(loss), {n: g for n, g in gradients.items() if n in params}, adjoints, aux)


@dataclass(frozen=True)
class Measured:
    """One run of a probe."""

    loss: float
    gradients: Mapping[str, Any]
    adjoints: Mapping[str, Any]
    outputs: Mapping[str, Any]


def watching(model: Model, names: Sequence[str], outputs: Iterable[str]) -> Probe:
    """The model with its own loss: gradients of the parameters, adjoints of ``names``, and the values of ``outputs``."""
    program, nudges = nudged(_bare(model), names)
    program = replace(program, outputs=tuple(outputs))
    parameters = tuple(t.name for t in program.parameters)
    return Probe(_compiled(model, program, (*parameters, *nudges.values())), program, nudges, {})


def injecting(model: Model, jacobians: Sequence[StepJacobian]) -> Probe:
    """The model whose loss is an error times the states at the last step (in reverse the first), for all recurrences at once: the
    errors of those that are not asked for are 0."""
    program, nudges = nudged(_bare(model), [s for j in jacobians for s in j.recurrence.states])
    names = Names.of(program)
    loss = Tensor(names.fresh("probe"))
    tensors, equations, errors = [*program.tensors, loss], list(program.equations), {}
    for jacobian in jacobians:
        for state in _put_out(jacobian):
            tensor = program.tensor(state)
            (axis,) = jacobian.recurrence.axes(tensor)
            rest = [k for k in range(tensor.rank) if k != axis]
            error = Tensor(names.fresh(f"error_{state}"), tuple(tensor.shape[k] for k in rest), Role.INPUT)
            errors[state] = error.name
            tensors.append(error)
            places = [names.index("q") for _ in rest]
            entry = list(places)
            entry.insert(axis, tensor.shape[axis] - 1 if _is_forward(jacobian) else tensor.shape[axis] * 0)
            indices = tuple(Index.over(p, tensor.shape[k]) for p, k in zip(places, rest, strict=True))
            equations.append(Equation(loss.at(()), error.at(places) * tensor.at(entry), indices, origin=Origin("probe"),
                                      numbers=(program.next_number + len(errors),)))
    program = replace(program.with_equations(equations, tensors), loss=loss.name)
    return Probe(_compiled(model, _needed(program), tuple(nudges.values())), program, nudges, errors)


def _is_forward(jacobian: StepJacobian) -> bool:
    return all(jacobian.lag(block) > 0 for block in jacobian.blocks)


def _put_out(jacobian: StepJacobian) -> tuple[str, ...]:
    """The states that the loss reads from outside the recurrence, for by these an error comes in; all, where it reads none."""
    program, inside = jacobian.program, set(jacobian.recurrence.tensors)
    needed = reaching(program, program.loss) - inside
    read = {tensor_of(e) for equation in program.equations if equation.name in needed for e in equation.reads}
    return tuple(s for s in jacobian.recurrence.states if s in read) or jacobian.recurrence.states


def _bare(model: Model) -> Program:
    """The forward program without promises beside its loss."""
    return replace(model.program(), outputs=(), links={})


def _needed(program: Program) -> Program:
    """The program without what the loss does not depend on; all inputs stay, so that a point fits."""
    names = reaching(program, program.loss)
    tensors = tuple(t for t in program.tensors if t.name in names or t.role in (Role.PARAMETER, Role.INPUT))
    return program.with_equations((e for e in program.equations if e.name in names), tensors)


def _compiled(model: Model, program: Program, wrt: tuple[str, ...]) -> types.ModuleType:
    from codegen.pipeline import compile as build

    kept = program.loss if model.prediction not in program else model.prediction
    return build(replace(model, _program=program, prediction=kept), dtype="float64", wrt=wrt)
