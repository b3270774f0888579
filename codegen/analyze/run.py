"""The analysis of one model: formulas and bounds of its recurrences, and what its generated code measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from codegen.analyze.bounds import bound_of, matrices_of
from codegen.analyze.formulas import formula
from codegen.analyze.gates import gates
from codegen.analyze.initial import Weight, marked, tried_biases, tried_weights
from codegen.analyze.point import Point, point_of
from codegen.analyze.probe import Measured, Probe, injecting, watching
from codegen.analyze.values import Analysis, Clipping, Depth, Growth, Recurrent, Tried, growth, overflow
from codegen.text import text
from codegen.trial import extent, shape_of
from symbolic.adjoint import active, reaching
from symbolic.errors import ChainruleError, MachineError, ProgramError
from symbolic.jacobian import StepJacobian, step_jacobian
from symbolic.model import Model
from symbolic.program import Program, Role, operands, tensor_of
from symbolic.recurrence import Recurrence, recurrences
from symbolic.ways import Factors, factors_of

__all__ = ["analyze"]

USUAL_LIMITS = (1.0, 5.0)
"""Limits of the global norm that are shown where the spec clips nothing."""

FEWEST = 4
"""Layers from which on other weights are tried for the factor of a layer."""


def analyze(
    model: Model,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    point: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Analysis:
    """Vanishing and exploding gradients of a model, in time and in depth.

    ``sizes`` gives values to free sizes (steps: 100, samples: 8, where left out). ``point``: arrays of parameters and inputs by
    name; without parameters they are fresh, and initialisers are tried. Raises ChainruleError for what does not fit,
    MachineError where the arrays do not fit into memory.
    """
    try:
        return _analysis(model, sizes or {}, seed, point or {}, progress)
    except MemoryError:
        raise MachineError(f"{model.name}: expected arrays that fit into memory, found none at these sizes; give smaller ones "
                           "with --size") from None


def _analysis(
    model: Model, sizes: Mapping[str, int], seed: int, point: Mapping[str, Any], progress: Callable[[str], None]
) -> Analysis:
    program = model.program()
    progress("derive")
    groups = recurrences(program)
    factors = factors_of(program, groups) if groups else None
    found = [(each, *_jacobian(program, each, factors)) for each in groups]
    known = [jacobian for _, jacobian, _ in found if jacobian is not None]
    layers = _layers(model)
    progress("generate")
    states = [state for each, *_ in found for state in each.states]
    watch = watching(model, list(dict.fromkeys((*layers.values(), *states))), _read(known))
    carried = [j for j in known if j.blocks and len(j.recurrence.along) == 1 and _one_way(j)]
    inject = injecting(model, carried) if carried else None
    given = {name: np.asarray(array) for name, array in point.items()}
    at = point_of(program, watch.module, sizes, given, seed)
    progress("measure")
    run = watch.run(at.values, at.sizes)
    if not math.isfinite(run.loss) and not at.fresh:
        raise ChainruleError(f"{program.name}: the loss is {run.loss} at the given arrays; there is no gradient to follow")
    recurrent = tuple(
        _recurrent(model, each, jacobian, note, inject if jacobian in carried else None, run, at, seed)
        for each, jacobian, note in found
    )
    depth = _depth(model, watch, layers, {n for j in known for n in matrices_of(j)}, run, at, seed)
    return Analysis(model.name, at.sizes, seed, at.fresh, run.loss, recurrent, depth, _clipping(model, run))


def _jacobian(program: Program, each: Recurrence, factors: Factors | None) -> tuple[StepJacobian | None, str]:
    """The Jacobian, or why there is none."""
    try:
        return step_jacobian(program, each, factors), ""
    except ProgramError as error:
        return None, str(error)


def _one_way(jacobian: StepJacobian) -> bool:
    """Whether all lags lead to one side: otherwise no step is the last."""
    return len({jacobian.lag(block) > 0 for block in jacobian.blocks}) == 1


def _layers(model: Model) -> dict[str, str]:
    """The layers whose output the loss hangs on and that hang on a parameter, with that output; one layer for each output."""
    program = model.program()
    live = active(program, [t.name for t in program.parameters]) & reaching(program, program.loss)
    found: dict[str, str] = {}
    for layer, output in model.layers.items():
        tensor = program.tensor(output)
        if output in live and output in program.writers and not (tensor.is_index or tensor.constant or output == program.loss):
            found.setdefault(output, layer or output)
    return {layer: output for output, layer in found.items()}


def _read(jacobians: Sequence[StepJacobian]) -> list[str]:
    """The computed tensors that the formulas read: their ranges are measured."""
    names = {tensor_of(e): None for j in jacobians for b in j.blocks for term in b.terms for e in operands(term.coefficient)}
    return [n for n in names if any(n in j.program.writers and not j.program.tensor(n).is_index for j in jacobians)]


# ---- time --------------------------------------------------------------------------------------------------------------


def _recurrent(
    model: Model, each: Recurrence, jacobian: StepJacobian | None, note: str, inject: Probe | None, run: Measured, at: Point,
    seed: int,
) -> Recurrent:
    program = model.program()
    axis = each.axes(program.tensor(each.states[0]))
    steps = extent(program.tensor(each.states[0]).shape[axis[0]], at.sizes)
    reverse = jacobian is not None and bool(jacobian.blocks) and jacobian.lag(jacobian.blocks[0]) < 0
    own = {s: _over_steps(run.adjoints[s], each.axes(program.tensor(s))) for s in each.states}
    named = ", ".join(f"an axis of {mark}" if mark.is_Integer else str(mark) for mark in each.along)
    if jacobian is None:
        return Recurrent(each.states, named, steps, reverse, (), None, None, own, notes=(note,))
    notes = []
    if inject is None:
        notes.append(f"no error is carried along one axis: the states recur along {named}, in more than one direction")
    measured = {n: (float(np.min(a)), float(np.max(a))) for n, a in run.outputs.items() if np.size(a) and np.isfinite(a).all()}
    bound = bound_of(jacobian, at.values, measured, at.sizes)
    injected: Growth | None = None
    tried: tuple[Tried, ...] = ()
    weights = matrices_of(jacobian)
    if inject is not None:
        injected = _carried(inject, jacobian, reverse, at, seed)
        if at.fresh:
            tried = _alternatives(model, inject, jacobian, reverse, weights, at, seed, injected)
    return Recurrent(each.states, named, steps, reverse, formula(jacobian), bound, injected, own, tried, weights, tuple(notes))


def _carried(inject: Probe, jacobian: StepJacobian, reverse: bool, at: Point, seed: int) -> Growth:
    """The norms of an error of norm 1 that is put in at the last step, back to the first.

    Where a step reads L steps back, the norm at a step is that of the L latest adjoints together: these carry the error on, and
    any one of them alone may be 0.
    """
    rng = np.random.default_rng([seed, 2])
    states = jacobian.recurrence.states
    tensors = {s: inject.program.tensor(inject.errors[s]) for s in states if s in inject.errors}
    errors = {s: rng.standard_normal(shape_of(tensor, at.sizes)) for s, tensor in tensors.items()}
    whole = math.sqrt(sum(float(np.sum(e**2)) for e in errors.values()))
    run = inject.run(at.values, at.sizes, {s: e / whole for s, e in errors.items()})
    axes = {s: jacobian.recurrence.axes(inject.program.tensor(s)) for s in states}
    if not math.isfinite(run.loss):
        return overflow(run.adjoints[states[0]].shape[axes[states[0]][0]])
    with np.errstate(all="ignore"):
        norms = np.hypot.reduce([_over_steps(run.adjoints[s], axes[s]) for s in states])  # squares of small norms would underflow
    back = norms if reverse else norms[::-1]
    most = max(abs(jacobian.lag(block)) for block in jacobian.blocks)
    return growth([float(np.hypot.reduce(back[max(0, k - most + 1) : k + 1])) for k in range(len(back))])


def _over_steps(adjoint: Any, axes: Sequence[int]) -> tuple[float, ...]:
    """The norm of an adjoint at each step."""
    with np.errstate(all="ignore"):
        return tuple(map(_norm, np.moveaxis(adjoint, axes[0], 0)))


def _alternatives(
    model: Model, inject: Probe, jacobian: StepJacobian, reverse: bool, weights: Sequence[str], at: Point, seed: int, now: Growth
) -> tuple[Tried, ...]:
    def measure(arrays: Mapping[str, Any]) -> Growth:
        return _carried(inject, jacobian, reverse, at.moved(arrays), seed)

    rows = tried_weights(_stored(model, weights, at), _own(model, weights), now, measure, seed) if weights else ()
    return marked(rows + tried_biases(gates(jacobian), at.values, at.sizes, measure))


def _stored(model: Model, weights: Sequence[str], at: Point) -> dict[str, Weight]:
    program = model.program()
    return {name: Weight(shape_of(program.tensor(name), at.sizes), model.initialisers[name].transposed) for name in weights}


def _own(model: Model, weights: Sequence[str]) -> str:
    made = (model.initialisers[name] for name in weights)
    kinds = list(dict.fromkeys(f"{i.initialiser.name}({', '.join(map(text, i.arguments))})" if i.arguments else i.initialiser.name
                               for i in made))
    return f"the spec's {', '.join(kinds)}" if len(kinds) <= 2 else "the spec's own"


# ---- depth -------------------------------------------------------------------------------------------------------------


def _depth(
    model: Model, watch: Probe, layers: Mapping[str, str], recurrent: set[str], run: Measured, at: Point, seed: int
) -> Depth | None:
    names = list(layers)[::-1]
    if not names:
        return None

    def norms(found: Measured) -> Growth:
        with np.errstate(all="ignore"):
            return growth([_norm(found.adjoints[layers[name]]) for name in names])

    now = norms(run)
    weights = _weights(model.program(), recurrent)
    if not at.fresh or len(names) < FEWEST or not weights:
        return Depth(tuple(names), now)
    rows = tried_weights(_stored(model, weights, at), _own(model, weights), now,
                         lambda arrays: norms(watch.run(at.moved(arrays).values, at.sizes)), seed)
    return Depth(tuple(names), now, marked(rows), weights)


def _weights(program: Program, recurrent: set[str]) -> tuple[str, ...]:
    """The parameters of two axes or more that are multiplied with what comes from below, those of the recurrences left out."""
    multiplied = {tensor_of(e) for equation in program.equations if len(found := operands(equation.body)) > 1 for e in found}
    return tuple(t.name for t in program.parameters if t.rank > 1 and t.name in multiplied and t.name not in recurrent)


def _norm(array: Any) -> float:
    """The norm, the largest entry taken out first: squares of small numbers underflow."""
    scale = float(np.max(np.abs(array), initial=0.0))
    return scale * float(np.linalg.norm(array / scale)) if 0 < scale < math.inf else scale


# ---- clipping ----------------------------------------------------------------------------------------------------------


def _clipping(model: Model, run: Measured) -> Clipping:
    gradients = {n: np.asarray(g) for n, g in run.gradients.items() if model.program().tensor(n).role is Role.PARAMETER}
    with np.errstate(all="ignore"):
        norm = _whole(gradients.values())
        greatest = max((float(np.max(np.abs(g), initial=0.0)) for g in gradients.values()), default=0.0)
        clip = model.update.clip
        wanted = [("global_norm", limit) for limit in USUAL_LIMITS] if clip is None else [(clip.name, float(clip.hyper["limit"]))]
        return Clipping(norm, greatest, clip is not None,
                        tuple((kind, limit, _shortened(kind, limit, gradients, norm)) for kind, limit in wanted))


def _shortened(kind: str, limit: float, gradients: Mapping[str, Any], norm: float) -> float:
    """The norm of the clipped gradient over that of the gradient."""
    if norm == 0:
        return 1.0
    if kind == "value":
        return _whole([np.clip(g, -limit, limit) for g in gradients.values()]) / norm
    if kind == "norm":
        return _whole([g * min(1.0, limit / (_norm(g) + 1e-6)) for g in gradients.values()]) / norm
    return min(limit / (norm + 1e-6), 1.0)  # in this order NaN stays NaN


def _whole(arrays: Any) -> float:
    return _norm(np.array([_norm(a) for a in arrays]))
