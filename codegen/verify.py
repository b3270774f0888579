"""Holds a generated module's gradients against oracles that share nothing with it, and gives each parameter a verdict.

- perturbation: central differences of the module's own loss, in float64 (every entry of small tensors, random directions and
  some entries of large ones);
- complex step: the derivative of the forward program as the spec means it, by the interpreter, to the last digit;
- interpreter: the adjoint program by the interpreter, which knows no schedule and no rewrite;
- float32: where the module computes in float32, its gradient against that of the same text in float64.

The interpreter visits every instance by itself, so its two oracles work at smaller sizes; sizes that the spec names and fixes
are made smaller too where that is needed. Tensors that differentiation takes as constant (law 11) are frozen at their value
in every perturbation, and the report says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.nodes import check_nodes, frozen
from codegen.oracles import Comparison, Held, batch_of, compare, loss_of, params_of
from codegen.trial import OTHERS, Trial, choose_sizes, draw, instances, moved_to, sizes_of
from symbolic.adjoint import gradient
from symbolic.errors import ChainruleError

if TYPE_CHECKING:
    from symbolic.model import Model
    from symbolic.program import Program

__all__ = ["Costs", "Report", "Verdict", "check"]

VERY_SMALL = {"T": 3, "N": 2}
"""Sizes at which the interpreter works; fewer steps would hide a broken recurrence."""

BUDGET = 2_000_000
"""Instances of an adjoint program that the interpreter evaluates at most (about ten seconds)."""

NODE_BUDGET = 600_000
"""Instances that nudging the intermediates may visit."""

OK, WRONG, KINK, UNDECIDED = "OK", "WRONG", "KINK", "UNDECIDED"


@dataclass(frozen=True)
class Verdict:
    """What the oracles say about one tensor's gradient.

    ``entries`` and ``directions``: how many were perturbed. ``digits``: oracle -> decimal digits that agree. ``note``: why a
    verdict is not OK, with the worst entry's two values.
    """

    name: str
    shape: tuple[int, ...]
    entries: int
    directions: int
    digits: Mapping[str, float]
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Costs:
    """Perturbation takes ``forward_passes`` evaluations of the loss; backpropagation the time of ``ratio`` of them."""

    forward_passes: int
    forward_seconds: float
    both_seconds: float

    @property
    def ratio(self) -> float:
        """(Forward and backward) over forward, in time."""
        return self.both_seconds / self.forward_seconds


@dataclass(frozen=True)
class Report:
    """The outcome of ``check``; it prints as a table in the command line and as JSON with ``--json``."""

    name: str
    target: str
    dtype: str
    sizes: Mapping[str, int]
    seed: int
    loss: float
    parameters: tuple[Verdict, ...]
    nodes: tuple[Verdict, ...] = ()
    frozen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    costs: Costs | None = field(default=None, compare=False)
    node_sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The worst of all verdicts."""
        found = {v.verdict for v in (*self.parameters, *self.nodes)}
        return next((verdict for verdict in (WRONG, KINK, UNDECIDED) if verdict in found), OK)

    @property
    def exit_status(self) -> int:
        """1 where a gradient is wrong; a kink, where there is no verdict, is 0."""
        return 1 if self.verdict == WRONG else 0

    def as_data(self) -> dict[str, Any]:
        """The report as plain data."""
        data = asdict(self)
        data["verdict"] = self.verdict
        if self.costs is not None:
            data["costs"]["ratio"] = self.costs.ratio
        return data


def check(
    model: Model,
    target: str = "numpy",
    dtype: str | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    nodes: bool = False,
    wrt: str = "params",
    build: Callable[..., Any] | None = None,
    progress: Callable[[str], None] = lambda what: None,
    point: Mapping[str, Any] | None = None,
) -> Report:
    """Generate and import the module of a model and hold its gradients against the oracles.

    ``sizes`` gives values to free sizes; the others get small distinct ones. ``dtype`` is the module's, by default the spec's;
    perturbation is always in float64. ``build(model, target=, dtype=, wrt=)`` gives a module (default: ``codegen.compile``).
    ``point``: arrays of parameters and inputs by name, in place of random ones; they tell their sizes, and all oracles keep to
    these. Raises ChainruleError for unknown sizes or names, or where no random point has a finite loss.
    """
    if build is None:
        from codegen.pipeline import compile as build
    assert build is not None
    program, dtype, point = model.program(), dtype or model.dtype, point or {}
    sizes = sizes_of(program, sizes or {}, point)
    progress("generate")
    module = build(model, target=target, dtype="float64", wrt=wrt)
    held = Held(program, module, _trial(program, module, choose_sizes(program, sizes), seed, point))
    progress("perturb")
    held.perturb()
    if dtype != "float64":
        progress(dtype)
        held.single(build(model, target=target, dtype=dtype, wrt=wrt), dtype)

    small, notes = _small(model, module, held, sizes, lambda m: build(m, target=target, dtype="float64", wrt=wrt), point)
    adjoints: tuple[Verdict, ...] = ()
    if small is not None:
        progress("complex step")
        small.complex_step()
        progress("interpret")
        small.interpret(gradient(small.program, list(small.gradients)))
        if nodes:
            progress("nodes")
            adjoints = _nodes(small, notes)
    progress("time")
    every = [held] if small is None else [held, small]
    return Report(
        model.name, target, dtype, held.trial.sizes, seed, held.loss, _verdicts(every), adjoints, tuple(frozen(program)),
        (*(note for each in every for note in each.notes), *notes),
        _costs(module, program, held.trial, sum(g.size for g in held.gradients.values())),
        small.trial.sizes if small is not None and adjoints else {},
    )


def _trial(program: Program, module: Any, sizes: Mapping[str, int], seed: int, point: Mapping[str, Any]) -> Trial:
    """A point where the loss is finite: what is not given of the inputs from the normal distribution, or else between 0 and 1."""
    needed = {str(symbol) for t in program.parameters for extent in t.shape for symbol in extent.free_symbols}
    start = module.init(seed, **{n: value for n, value in sizes.items() if n in needed and program.sizes.get(n) is None})
    for positive in (False, True):
        trial = moved_to(draw(program, sizes, start, seed, positive), program, point)
        if math.isfinite(loss_of(module, program, trial)):
            return trial
    if point:
        given = ", ".join(point)
        raise ChainruleError(f"{program.name}: the loss is not finite at the given {given}; there is no slope to check")
    raise ChainruleError(f"{program.name}: the loss is not finite at random inputs, normal or between 0 and 1; "
                         "try another --seed or other sizes, or give a point with --params")


def _small(
    model: Model, module: Any, held: Held, given: Mapping[str, int], build: Callable[[Model], Any],
    point: Mapping[str, Any],
) -> tuple[Held | None, list[str]]:
    """The same model at sizes for the interpreter: free sizes very small, and fixed ones too where that is not enough."""
    program = model.program()
    sizes = choose_sizes(program, given, VERY_SMALL)
    visits = instances(gradient(program, list(held.gradients)), sizes)
    if visits > BUDGET and not point and (shrunk := _shrunk(model)) is not None:
        model, program = shrunk, shrunk.program()
        sizes = choose_sizes(program, given, VERY_SMALL)
        visits = instances(gradient(program, list(held.gradients)), sizes)
        if visits <= BUDGET:
            module = build(model)
    if visits > BUDGET:
        return None, [f"no interpreter and no complex step: they would visit {visits:,} instances"]
    shown = ", ".join(f"{name}={value}" for name, value in sizes.items())
    notes = [f"complex step and interpreter at {shown}"] if sizes != held.trial.sizes else []
    return Held(program, module, _trial(program, module, sizes, held.trial.seed, point)), notes


def _shrunk(model: Model) -> Model | None:
    """The model of the same spec with its fixed sizes made small, where the spec allows it."""
    from symbolic.model import load

    fixed = [name for name, value in model.program().sizes.items() if value is not None]
    numbers = dict(zip(fixed, OTHERS, strict=False))
    try:
        return load({**model.spec.document.data, "sizes": {**model.spec.sizes, **numbers}}) if fixed else None
    except ChainruleError:
        return None  # the sizes hang together in a way of the spec's own


def _nodes(held: Held, notes: list[str]) -> tuple[Verdict, ...]:
    """Verdicts on the adjoints of named intermediates."""
    rows = check_nodes(held.program, list(held.gradients), held.trial, NODE_BUDGET)
    if rows is None:
        notes.append("no intermediates: nudging them would visit too many instances")
        return ()
    return tuple(
        _verdict(row.name, row.shape, len(row.places), 0,
                 [compare("complex step", row.derived, row.measured, held.floor,
                          lambda place, row=row: f"{row.name}: entry {row.places[int(place[1:-1])]}")])  # type: ignore[misc]
        for row in rows
    )


def _verdicts(every: Sequence[Held]) -> tuple[Verdict, ...]:
    """One verdict a tensor from all that was found, in the order of the gradients."""
    first = every[0]
    return tuple(
        _verdict(name, value.shape, *max(held.counts[name] for held in every), [c for held in every for c in held.found[name]])
        for name, value in first.gradients.items()
    )


def _verdict(name: str, shape: tuple[int, ...], entries: int, directions: int, found: Sequence[Comparison]) -> Verdict:
    plain, kinks = [c for c in found if not c.kink], [c for c in found if c.kink]
    digits = {c.oracle: c.digits for c in plain}
    if wrong := [c for c in plain if not c.agrees]:
        return Verdict(name, shape, entries, directions, digits, WRONG, max(wrong, key=lambda c: c.badness).note)
    if kinks:
        return Verdict(name, shape, entries, directions, digits, KINK, kinks[0].note)
    if math.prod(shape) and not any(c.decides for c in plain):
        return Verdict(name, shape, entries, directions, digits, UNDECIDED,
                       "the gradient is smaller than what a perturbation of the loss can resolve")
    return Verdict(name, shape, entries, directions, digits, OK)


def _costs(module: Any, program: Program, trial: Trial, entries: int) -> Costs:
    params, batch = params_of(program, trial), batch_of(program, trial)

    def seconds(call: Callable[[], Any]) -> float:
        """The median of eleven calls."""
        taken = []
        for _ in range(11):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return sorted(taken)[5]

    with np.errstate(all="ignore"):
        return Costs(2 * entries, seconds(lambda: module.loss(params, batch)),
                     seconds(lambda: module.value_and_grad(params, batch)))
