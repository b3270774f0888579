"""A case held at every stage: the plain program under the interpreter is the meaning, and everything after it must agree.

The judge is the interpreter of the plain program and its plain adjoint; that adjoint is itself held against the complex step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

import symbolic
from codegen.demand import demand
from codegen.numpy.names import speakable
from codegen.pack import pack
from codegen.part import part
from codegen.pipeline import Options, names_of, render
from codegen.separate import separate
from codegen.shorten import shorten
from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.errors import ScheduleError
from symbolic.interpreter import evaluate
from symbolic.program import Program, size
from symbolic.rewrite import RULES, promised
from symbolic.unroll import recurrent_sizes, unroll
from tests.emitting import checked_module, split
from tests.programs import Case

__all__ = ["NoVerdict", "Wrong", "hold"]

STEP = 1e-30
"""Of the complex step, which subtracts nothing: the smaller the better."""
TIGHT = 1e-9
"""In units of the array's greatest entry: float64, a few hundred operations."""
GREATEST = 1e6
"""Programs with greater numbers lose digits by themselves, and prove nothing."""
FLOOR = 1e-13
"""In units of the greatest number of the run: what cancellation may leave of a zero."""


class NoVerdict(Exception):
    """The case says nothing: numbers too great or not finite, or no loop computes it."""


class Wrong(AssertionError):
    """Two ways to a number disagree."""


@dataclass(frozen=True)
class Run:
    """What a case gives: the loss, gradients by name, outputs by name."""

    loss: Any
    grads: Mapping[str, Any]
    outputs: Mapping[str, Any]

    def rows(self) -> Iterator[tuple[str, Any]]:
        yield "loss", self.loss
        yield from ((f"gradient of {name}", array) for name, array in self.grads.items())
        yield from ((f"output {name}", array) for name, array in self.outputs.items())


def same(got: Any, want: Any, what: str, unit: float = 1.0) -> None:
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        raise Wrong(f"{what}: expected shape {want.shape}, found {got.shape}")
    if want.size:
        error, scale = np.max(np.abs(got - want)), np.max(np.abs(want))
        if not error <= max(TIGHT * scale, FLOOR * unit):
            raise Wrong(f"{what}: error {error:.2e} at scale {scale:.2e}\nfound {got}\nexpected {want}")


def values_of(program: Program, sizes: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Values away from 0; index tensors over their whole range, with what they ignore."""
    rng = np.random.default_rng(seed)
    number = {size(n): sp.Integer(v) for n, v in {**{k: v for k, v in program.sizes.items() if v is not None}, **sizes}.items()}
    found: dict[str, Any] = {}
    for tensor in (*program.parameters, *program.inputs):
        shape = [int(e.xreplace(number)) for e in tensor.shape]
        if tensor.is_index:
            low, below = (int(sp.sympify(e).xreplace(number)) for e in (tensor.low, tensor.below))
            found[tensor.name] = np.asarray(rng.integers(low, below, shape))
            if tensor.ignore is not None:
                found[tensor.name] = np.where(rng.random(shape) < 0.2, tensor.ignore, found[tensor.name])
        else:
            found[tensor.name] = np.asarray(rng.uniform(0.1, 1, shape) * rng.choice([-1, 1, 1], shape))
    return found


def interpreted(program: Program, values: Mapping[str, Any], sizes: Mapping[str, int], wrt: tuple[str, ...]) -> Run:
    names = {name: program.gradients[name] for name in wrt}
    found = evaluate(program, values, sizes, [program.loss, *names.values(), *program.outputs])
    return Run(found[program.loss], {n: found[a] for n, a in names.items()}, {n: found[n] for n in program.outputs})


def hold(case: Case) -> None:
    """Every stage of a case agrees. Raises Wrong, or NoVerdict where the case says nothing."""
    model = case.model()
    program = check(model.program())
    wrt = names_of(program, case.wrt)
    values = values_of(program, case.sizes, case.seed)
    plain = check(gradient(program, wrt))
    want = interpreted(plain, values, case.sizes, wrt)
    numbers = [np.max(np.abs(a), initial=0) for _, a in want.rows()]
    if not all(n < GREATEST for n in numbers):
        raise NoVerdict("numbers too great")
    unit = max(1.0, *numbers)
    _adjoint_is_slope(program, values, case, want, unit)
    optimised = _rewrites(program, wrt, values, case, want, unit)
    _cuts(optimised, wrt, values, case, want, unit)
    options: dict[str, Any] = {"wrt": case.wrt, "dtype": "float64"}
    tangents = {"tangent": True, "hvp": True} if case.curved and wrt == tuple(t.name for t in program.parameters) else {}
    module = _compiled(model, **options, **tangents)
    params, batch = _emitted(module, program, values, wrt, want, unit, "emitted")
    # A second call with other numbers: what a first one left in kept memory must not show.
    others = values_of(program, case.sizes, case.seed + 10)
    other = interpreted(plain, others, case.sizes, wrt)
    if all(np.max(np.abs(a), initial=0) < GREATEST for _, a in other.rows()):
        _emitted(module, program, others, wrt, other, max(unit, *(np.max(np.abs(a), initial=0) for _, a in other.rows())),
                 "second call")
    if tangents:
        _curvature(module, plain, params, batch, values, case, want, unit)
    if case.unrolled:
        _unrolled(model, program, case, values, wrt, want, unit, options)


def _compiled(model: symbolic.Model, **options: Any) -> Any:
    try:
        (text,) = render(model, "numpy", Options(**options)).values()
    except ScheduleError as error:
        raise NoVerdict(f"no schedule: {error}") from error
    return checked_module(text)


def _compare(got: Run, want: Run, unit: float, where: str) -> None:
    for (what, a), (_, b) in zip(got.rows(), want.rows(), strict=True):
        same(a, b, f"{where}: {what}", unit)


def _adjoint_is_slope(program: Program, values: dict[str, Any], case: Case, want: Run, unit: float) -> None:
    rng = np.random.default_rng(case.seed + 1)
    for name, grad in want.grads.items():
        direction = rng.standard_normal(np.shape(values[name]))
        moved = {**values, name: values[name] + 1j * STEP * direction}
        slope = np.imag(evaluate(program, moved, case.sizes, [program.loss])[program.loss]) / STEP
        same(np.sum(grad * direction), slope, f"plain adjoint against the complex step: {name}", unit)


def _rewrites(
    program: Program, wrt: tuple[str, ...], values: dict[str, Any], case: Case, want: Run, unit: float
) -> Program:
    """The program through every rule, one after the other."""
    for phase in ("forward", "backward"):
        for rule in (rule for rule in RULES if rule.phase == phase):
            after = check(rule.run(program, promised(program)))
            if after is not program and after.equations != program.equations:
                run = (interpreted(gradient(after, wrt), values, case.sizes, wrt) if phase == "forward"
                       else interpreted(after, values, case.sizes, wrt))
                _compare(run, want, unit, f"after the rule '{rule.name}'")
            program = after
        if phase == "forward":
            program = gradient(program, wrt)
    return program


def _cuts(optimised: Program, wrt: tuple[str, ...], values: dict[str, Any], case: Case, want: Run, unit: float) -> None:
    apart = check(separate(optimised))
    if apart is not optimised:
        _compare(interpreted(apart, values, case.sizes, wrt), want, unit, "after separate")
    cut = demand(speakable(apart))
    _compare(interpreted(cut, values, case.sizes, wrt), want, unit, "after demand")
    for name, stage in (("pack", pack), ("part", part), ("shorten", shorten)):
        after = stage(cut)
        if after is not cut:
            _compare(interpreted(after, values, case.sizes, wrt), want, unit, f"after {name}")
        cut = after


def _emitted(
    module: Any, program: Program, values: dict[str, Any], wrt: tuple[str, ...], want: Run, unit: float, where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    params, batch = split(program, values)
    loss, grads, aux = module.value_and_grad(params, batch, aux=True)
    if list(grads) != list(wrt):
        raise Wrong(f"{where}: expected gradients of {wrt}, found {tuple(grads)}")
    shown = {name: aux[program.links.get(name, name)] for name in program.outputs}
    _compare(Run(loss, grads, shown), want, unit, where)
    same(module.loss(params, batch), want.loss, f"{where}: loss alone", unit)
    for name, array in module.predict(params, batch).items():
        same(array, aux[name], f"{where}: predicted {name}", unit)
    return params, batch


def _curvature(
    module: Any, plain: Program, params: dict[str, Any], batch: dict[str, Any], values: dict[str, Any], case: Case,
    want: Run, unit: float,
) -> None:
    """The slope along a direction, and the Hessian times it: the complex step through the plain adjoint."""
    rng = np.random.default_rng(case.seed + 2)
    direction = {name: rng.standard_normal(array.shape) for name, array in params.items()}
    loss, slope = module.jvp(params, batch, direction)
    same(loss, want.loss, "jvp: loss", unit)
    same(slope, sum(np.sum(want.grads[n] * direction[n]) for n in params), "jvp: slope", unit)
    moved = {**values, **{n: values[n] + 1j * STEP * direction[n] for n in params}}
    found = evaluate(plain, moved, case.sizes, [plain.gradients[n] for n in params])
    products = {n: np.imag(found[plain.gradients[n]]) / STEP for n in params}
    most = max(unit, *(np.max(np.abs(a), initial=0) for a in products.values()))
    if most < GREATEST:
        for name, array in module.hvp(params, batch, direction).items():
            same(array, products[name], f"hvp: {name}", most)


def _unrolled(
    model: symbolic.Model, program: Program, case: Case, values: dict[str, Any], wrt: tuple[str, ...], want: Run, unit: float,
    options: dict[str, Any],
) -> None:
    found = recurrent_sizes(program)
    if [str(s) for s in found] != ["T"]:
        return
    steps = {**program.sizes, **case.sizes}["T"]
    written = unroll(program, steps)
    _compare(interpreted(gradient(written, wrt), values, case.sizes, wrt), want, unit, "unrolled program")
    _emitted(_compiled(model, **options, unroll=steps), program, values, wrt, want, unit, "unrolled module")
