"""Holds a generated module's gradients against oracles that share nothing with it, and gives each parameter a verdict.

- perturbation: central differences of the module's own loss, in float64 (every entry of small tensors, random directions and
  some entries of large ones);
- complex step: the derivative of the forward program as the spec means it, by the interpreter, to the last digit;
- interpreter: the adjoint program by the interpreter, which knows no schedule and no rewrite;
- float32: where the module computes in float32, its gradient against that of the same text in float64.

Tensors that differentiation takes as constant (law 11) are frozen at their value in every perturbation, and the report says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.nodes import check_nodes, frozen
from codegen.perturb import Slope, complex_slope, slope
from codegen.trial import Trial, choose_sizes, draw, instances
from symbolic.errors import ChainruleError

if TYPE_CHECKING:
    from symbolic.model import Model
    from symbolic.program import Program

    Array = np.ndarray[Any, Any]

__all__ = ["Costs", "Report", "Verdict", "check"]

AGREE = {"perturbation": 1e-6, "complex step": 1e-9, "interpreter": 1e-9, "float32": 1e-4}
"""Greatest relative error of an array. Perturbation: half the digits of a double, and what Ridders' scheme always reaches
on a smooth loss. Complex step and interpreter: rounding alone, magnified by the conditioning of a deep recurrence. float32:
what is left of single precision after sums of a few hundred terms."""

DECISIVE = 1e-3
"""An oracle whose own error exceeds this part of the array's largest entry decides nothing."""

ZERO = 1e-14
"""A gradient below this part of the largest gradient of the model is rounding: a sum that cancels to nothing."""

ENTRIES = 64
"""A tensor of at most so many entries is perturbed entry by entry; of a larger one so many entries are sampled at most."""

SAMPLED = 8
DIRECTIONS = 3
FORWARD_BUDGET = 1_500_000
"""Instances that the complex step may visit (about five seconds)."""

GRADIENT_BUDGET = 1_500_000
"""Instances of an adjoint program that the interpreter evaluates at once; larger models are held without this oracle."""

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


Compile = Callable[..., Any]


def check(
    model: Model,
    target: str = "numpy",
    dtype: str | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    nodes: bool = False,
    wrt: str = "params",
    compile: Compile | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Report:
    """Generate and import the module of a model and hold its gradients against the oracles.

    ``sizes`` gives values to free sizes; the others get small distinct ones. ``dtype`` is the module's, by default the spec's;
    perturbation is always in float64. ``compile(model, target=, dtype=, wrt=)`` gives a module (default: ``codegen.compile``).
    """
    if compile is None:
        from codegen import compile
    program = model.program()
    dtype = dtype or model.dtype or "float32"
    chosen = choose_sizes(program, sizes or {})
    progress("generate")
    module = compile(model, target=target, dtype="float64", wrt=wrt)
    trial = _trial(program, module, chosen, seed)
    loss, gradients = _value_and_grad(module, program, trial)
    notes: list[str] = []
    held = _Held(program, module, trial, gradients, notes)

    progress("perturb")
    held.perturb()
    progress("complex step")
    held.complex_step(loss)
    progress("interpret")
    held.interpret(loss)
    if dtype != "float64":
        progress(dtype)
        held.single(compile(model, target=target, dtype=dtype, wrt=wrt), dtype)
    verdicts = held.verdicts()
    adjoints: tuple[Verdict, ...] = ()
    if nodes:
        progress("nodes")
        adjoints = tuple(_node_verdict(*row) for row in check_nodes(program, _names(gradients), trial, FORWARD_BUDGET))
    progress("time")
    return Report(
        model.name, target, dtype, chosen, seed, loss, verdicts, adjoints, tuple(frozen(program)), tuple(notes),
        _costs(module, program, trial, sum(g.size for g in gradients.values())),
    )


def _names(gradients: Mapping[str, Array]) -> list[str]:
    return list(gradients)


def _trial(program: Program, module: Any, sizes: Mapping[str, int], seed: int) -> Trial:
    """A point where the loss is finite: inputs from the normal distribution, or else between 0 and 1."""
    free = {name: value for name, value in sizes.items() if program.sizes.get(name) is None}
    needed = {name for t in program.parameters for extent in t.shape for name in map(str, extent.free_symbols)}
    start = module.init(seed, **{name: value for name, value in free.items() if name in needed})
    for positive in (False, True):
        trial = draw(program, sizes, start, seed, positive)
        if math.isfinite(_loss(module, program, trial)):
            return trial
    raise ChainruleError(f"{program.name}: the loss is not finite at random inputs, normal or between 0 and 1; "
                         "try another --seed or other sizes")


def _params(program: Program, trial: Trial, dtype: str = "float64") -> dict[str, Array]:
    return {t.name: trial.values[t.name].astype(dtype) for t in program.parameters}


def _batch(program: Program, trial: Trial, dtype: str = "float64") -> dict[str, Array]:
    return {t.name: trial.values[t.name] if t.is_index else trial.values[t.name].astype(dtype) for t in program.inputs}


def _loss(module: Any, program: Program, trial: Trial) -> float:
    with np.errstate(all="ignore"):
        return float(module.loss(_params(program, trial), _batch(program, trial)))


def _value_and_grad(module: Any, program: Program, trial: Trial, dtype: str = "float64") -> tuple[float, dict[str, Array]]:
    with np.errstate(all="ignore"):
        loss, gradients = module.value_and_grad(_params(program, trial, dtype), _batch(program, trial, dtype))
    return float(loss), {name: np.asarray(value, dtype=np.float64) for name, value in gradients.items()}


@dataclass(frozen=True)
class _Comparison:
    """One oracle's word on one tensor: the greatest difference, where, and how far the oracle itself may be off."""

    oracle: str
    error: float
    scale: float
    own_error: float = 0.0
    kink: bool = False
    note: str = ""

    def digits(self) -> float:
        if self.error == 0:
            return 16.0
        if not math.isfinite(self.error) or self.scale == 0:
            return 0.0
        return round(min(16.0, max(0.0, -math.log10(self.error / self.scale))), 1)

    def decisive(self) -> bool:
        return self.own_error <= DECISIVE * self.scale

    def agrees(self, floor: float) -> bool:
        return self.error <= max(AGREE[self.oracle] * self.scale, 4 * self.own_error, floor)


class _Held:
    """The comparisons of one module at one trial, gathered tensor by tensor."""

    def __init__(self, program: Program, module: Any, trial: Trial, gradients: Mapping[str, Array], notes: list[str]) -> None:
        self.program, self.module, self.trial, self.gradients, self.notes = program, module, trial, gradients, notes
        self.found: dict[str, list[_Comparison]] = {name: [] for name in gradients}
        self.counts: dict[str, tuple[int, int]] = {name: (0, 0) for name in gradients}
        self.largest = max((float(np.max(np.abs(g), initial=0.0)) for g in gradients.values()), default=0.0)

    def perturb(self) -> None:
        """Central differences of the module's loss."""
        if stopped := frozen(self.program):
            # The module's loss would move the frozen tensors too; the interpreter can hold them still.
            self.notes.append(f"perturbation with {', '.join(stopped)} frozen: by the complex step alone")
            return
        for name in self.gradients:
            rng = np.random.default_rng([self.trial.seed, 2])
            self._along(name, "perturbation", _probes(self.gradients[name], rng), self._difference)

    def _difference(self, name: str, direction: Array) -> Slope:
        base = self.trial.values[name]

        def moved(h: float) -> float:
            return _loss(self.module, self.program, _moved(self.trial, name, base + h * direction))

        scale = math.sqrt(np.count_nonzero(direction)) * max(float(np.sqrt(np.mean(base**2))), 0.1)
        return slope(moved, scale)

    def complex_step(self, loss: float) -> None:
        """The forward program by the interpreter, with an imaginary perturbation."""
        from symbolic.functions import FUNCTIONS

        program = _freeze(self.program, self.trial)
        names = {type(f).__name__ for e in program.equations for f in e.body.atoms() | set(_functions(e.body))}
        if rough := sorted(n for n in names if n in FUNCTIONS and not FUNCTIONS[n].analytic):
            self.notes.append(f"no complex step: {', '.join(rough)} is not analytic in the table of functions")
            return
        visits = instances(program, self.trial.sizes)
        if visits * len(self.gradients) > FORWARD_BUDGET:
            self.notes.append(f"no complex step: the interpreter would visit {visits:,} instances for each step; "
                              "give smaller sizes with --size")
            return
        passes = FORWARD_BUDGET // max(visits, 1)
        for name, gradient in self.gradients.items():
            rng = np.random.default_rng([self.trial.seed, 3])
            every = sum(min(g.size, ENTRIES) for g in self.gradients.values()) <= passes
            probes = _probes(gradient, rng) if every else _probes(gradient, rng, entries=0, directions=1)
            self._along(name, "complex step", probes, lambda n, d: self._step(program, n, d))

    def _step(self, program: Program, name: str, direction: Array) -> Slope:
        from symbolic.interpreter import evaluate

        values = dict(self.trial.values)

        def moved(h: complex) -> complex:
            values[name] = self.trial.values[name] + h * direction
            return complex(evaluate(program, values, self.trial.sizes, [program.loss])[program.loss])

        return complex_slope(moved)

    def interpret(self, loss: float) -> None:
        """The loss of the forward program, and the adjoint program, by the interpreter."""
        from symbolic.adjoint import gradient
        from symbolic.interpreter import evaluate

        adjoint = gradient(self.program, list(self.gradients))
        visits = instances(adjoint, self.trial.sizes)
        if visits > GRADIENT_BUDGET:
            self.notes.append(f"no interpreter: it would visit {visits:,} instances; give smaller sizes with --size")
            return
        wanted = [adjoint.gradients[name] for name in self.gradients]
        values = evaluate(adjoint, self.trial.values, self.trial.sizes, [adjoint.loss, *wanted])
        meant = float(values[adjoint.loss])
        if not abs(meant - loss) <= AGREE["interpreter"] * abs(meant) + 1e-15:
            self.notes.append(f"the module's loss is {loss:.12g}, the spec means {meant:.12g}")
            for name in self.found:
                self.found[name].append(_Comparison("interpreter", math.inf, 1.0, note="the loss itself is wrong"))
            return
        for name, adjoint_name in zip(self.gradients, wanted, strict=True):
            self._whole(name, "interpreter", values[adjoint_name])

    def single(self, module: Any, dtype: str) -> None:
        """The gradient of the module in its own dtype."""
        _, gradients = _value_and_grad(module, self.program, self.trial, dtype)
        for name, want in self.gradients.items():
            self._whole(name, "float32", want, gradients[name])

    def _whole(self, name: str, oracle: str, want: Array, got: Array | None = None) -> None:
        got = self.gradients[name] if got is None else got
        off = np.abs(got - want)
        scale = float(np.max(np.abs(want), initial=0.0))
        if off.size == 0:
            return
        worst = np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), off.shape)
        note = f"{name}{_at(worst)}: {got[worst]:.9g}, {oracle} {want[worst]:.9g}"
        error = float(off[worst])
        self.found[name].append(_Comparison(oracle, error if not math.isnan(error) else math.inf, scale, note=note))

    def _along(
        self, name: str, oracle: str, probes: Sequence[tuple[str, Array]], measure: Callable[[str, Array], Slope]
    ) -> None:
        """Compare the slope along each probe; entries are held against the array's largest one, directions by themselves."""
        gradient = self.gradients[name]
        if not probes:
            return
        entries = sum(1 for label, _ in probes if label.startswith("["))
        self.counts[name] = max(self.counts[name], (entries, len(probes) - entries))
        largest = float(np.max(np.abs(gradient)))
        typical = float(np.sqrt(np.sum(gradient**2) / gradient.size))
        worst: _Comparison | None = None
        kinks = 0
        for label, direction in probes:
            got, want = float(np.sum(gradient * direction)), measure(name, direction)
            if want.kink:
                kinks += 1
                continue
            error = abs(got - want.value) if math.isfinite(want.value) and math.isfinite(got) else math.inf
            scale = max(abs(want.value), largest if label.startswith("[") else typical)
            found = _Comparison(oracle, error, scale, want.error,
                                note=f"{name}{label}: {got:.9g}, {oracle} {want.value:.9g}")
            if worst is None or _badness(found) > _badness(worst):
                worst = found
        if worst is not None:
            self.found[name].append(worst)
        if kinks:
            note = f"{kinks} of {len(probes)} perturbations cross a kink of the loss"
            self.found[name].append(_Comparison(oracle, 0.0, 1.0, kink=True, note=note))

    def verdicts(self) -> tuple[Verdict, ...]:
        """One verdict a tensor."""
        floor = ZERO * self.largest + 1e-15
        return tuple(
            _verdict(name, gradient.shape, *self.counts[name], self.found[name], floor)
            for name, gradient in self.gradients.items()
        )


def _verdict(
    name: str, shape: tuple[int, ...], entries: int, directions: int, found: Sequence[_Comparison], floor: float
) -> Verdict:
    plain = [c for c in found if not c.kink]
    digits = {c.oracle: c.digits() if c.error > floor or c.scale > floor else 16.0 for c in plain}
    wrong = [c for c in plain if not c.agrees(floor)]
    kinks = [c for c in found if c.kink]
    if wrong:
        return Verdict(name, shape, entries, directions, digits, WRONG, max(wrong, key=_badness).note)
    if kinks:
        return Verdict(name, shape, entries, directions, digits, KINK, kinks[0].note)
    decided = [c for c in plain if c.oracle != "float32" and (c.decisive() or c.scale <= floor)]
    if not decided:
        return Verdict(name, shape, entries, directions, digits, UNDECIDED,
                       "the gradient is smaller than what a perturbation of the loss can resolve")
    return Verdict(name, shape, entries, directions, digits, OK)


def _node_verdict(name: str, shape: tuple[int, ...], entries: int, got: Array, want: Array, floor: float) -> Verdict:
    """The verdict on the adjoint of a named intermediate, from perturbed entries."""
    off, scale = np.abs(got - want), float(np.max(np.abs(want), initial=0.0))
    worst = int(np.argmax(np.where(np.isnan(off), np.inf, off))) if off.size else 0
    error = float(off[worst]) if off.size else 0.0
    note = f"d_{name}: {got[worst]:.9g}, perturbation {want[worst]:.9g}" if off.size else ""
    found = _Comparison("complex step", error if not math.isnan(error) else math.inf, scale, note=note)
    return _verdict(name, shape, entries, 0, [found], floor)


def _badness(found: _Comparison) -> float:
    return found.error / max(found.scale, 1e-300) if math.isfinite(found.error) else math.inf


def _probes(
    gradient: Array, rng: np.random.Generator, entries: int = ENTRIES, directions: int = DIRECTIONS
) -> list[tuple[str, Array]]:
    """Directions to perturb along: each entry of a small array; of a large one random signs, and a few entries, the one with
    the largest gradient among them."""
    shape, size = gradient.shape, gradient.size
    if size == 0:
        return []
    if size <= entries:
        chosen: Iterable[int] = range(size)
        directions = 0
    elif entries:
        largest = int(np.argmax(np.abs(gradient)))
        chosen = sorted({largest, *map(int, rng.choice(size, SAMPLED, replace=False))})
    else:
        chosen = ()
    probes = []
    for flat in chosen:
        unit = np.zeros(size)
        unit[flat] = 1.0
        probes.append((_at(np.unravel_index(flat, shape)), unit.reshape(shape)))
    for k in range(directions):
        signs = rng.choice([-1.0, 1.0], size=shape) / math.sqrt(size)
        probes.append((f" along random direction {k + 1}", signs))
    return probes


def _at(place: Sequence[Any]) -> str:
    return f"[{','.join(str(int(part)) for part in place)}]"


def _moved(trial: Trial, name: str, value: Array) -> Trial:
    return replace(trial, values={**trial.values, name: value})


def _functions(body: Any) -> Iterable[Any]:
    import sympy as sp

    found: set[Any] = body.atoms(sp.Function)
    return found


def _freeze(program: Program, trial: Trial) -> Program:
    """The program with its constant tensors as inputs; their values at the trial are added to it."""
    names = frozen(program)
    if not names:
        return program
    from codegen.nodes import freeze

    from symbolic.interpreter import evaluate

    values = evaluate(program, trial.values, trial.sizes, names)
    trial.values.update(values)  # type: ignore[attr-defined]
    return freeze(program, names)


def _costs(module: Any, program: Program, trial: Trial, entries: int) -> Costs:
    params, batch = _params(program, trial), _batch(program, trial)

    def seconds(call: Callable[[], Any]) -> float:
        """Median of eleven; a call below a tenth of a millisecond is repeated."""
        taken = []
        for _ in range(11):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        return sorted(taken)[5]

    with np.errstate(all="ignore"):
        forward = seconds(lambda: module.loss(params, batch))
        both = seconds(lambda: module.value_and_grad(params, batch))
    return Costs(2 * entries, forward, both)
