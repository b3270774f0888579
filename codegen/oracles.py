"""The oracles of ``check``, each a way to the same gradient that shares nothing with the others.

A ``Held`` is one module at one point; every oracle adds a ``Comparison`` to each gradient it has a word on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.nodes import freeze, frozen
from codegen.perturb import Slope, complex_slope, slope
from codegen.trial import Trial, instances

if TYPE_CHECKING:
    from symbolic.program import Program

    Array = np.ndarray[Any, Any]

__all__ = ["Comparison", "Held", "batch_of", "loss_of", "params_of"]

AGREE = {"perturbation": 1e-6, "complex step": 1e-9, "interpreter": 1e-9, "float32": 1e-4}
"""Greatest relative error of an array. Perturbation: half the digits of a double, and what Ridders' scheme always reaches
on a smooth loss. Complex step and interpreter: rounding alone, magnified by the conditioning of a deep recurrence. float32:
what is left of single precision after sums of a few hundred terms."""

DECISIVE = 1e-3
"""An oracle whose own error exceeds this part of the array's largest entry decides nothing."""

ZERO = 1e-14
"""A gradient below this part of the largest gradient of the model is rounding: a sum that cancels to nothing."""

ENTRIES = 64
"""A tensor of at most so many entries is perturbed entry by entry."""

SAMPLED = 4
DIRECTIONS = 2
"""Entries and random directions of a larger tensor."""

DOUBTS = 3
"""Disagreements of the complex step that are looked at for a kink, before the gradient is taken to be wrong."""

STEP_BUDGET = 600_000
"""Instances that the complex step may visit in all (about three seconds)."""


@dataclass(frozen=True)
class Comparison:
    """One oracle's word on one tensor: the greatest difference, and how far the oracle itself may be off.

    ``scale``: the largest entry that it is held against; ``floor``: what counts as zero at this point; ``own_error``: the
    oracle's; ``kink``: a kink lay under the perturbation, there is no word.
    """

    oracle: str
    error: float
    scale: float
    floor: float = 0.0
    own_error: float = 0.0
    kink: bool = False
    note: str = ""

    @property
    def digits(self) -> float:
        """Decimal digits that agree."""
        if self.error == 0 or (self.error <= self.floor and self.scale <= self.floor):
            return 16.0
        if not math.isfinite(self.error) or self.scale == 0:
            return 0.0
        return round(min(16.0, max(0.0, -math.log10(self.error / self.scale))), 1)

    @property
    def decides(self) -> bool:
        """Whether the oracle resolves the gradient at all; float32 is held against the module itself and proves nothing."""
        return self.oracle != "float32" and (self.own_error <= DECISIVE * self.scale or self.scale <= self.floor)

    @property
    def agrees(self) -> bool:
        """Whether the difference is within the oracle's tolerance."""
        return self.error <= max(AGREE[self.oracle] * self.scale, 4 * self.own_error, self.floor)

    @property
    def badness(self) -> float:
        """The relative error, for ordering."""
        return self.error / max(self.scale, 1e-300) if math.isfinite(self.error) else math.inf


def params_of(program: Program, trial: Trial, dtype: str = "float64") -> dict[str, Array]:
    """The ``params`` of a module at a trial."""
    return {t.name: trial.values[t.name].astype(dtype) for t in program.parameters}


def batch_of(program: Program, trial: Trial, dtype: str = "float64") -> dict[str, Array]:
    """The ``batch`` of a module at a trial."""
    return {t.name: trial.values[t.name] if t.is_index else trial.values[t.name].astype(dtype) for t in program.inputs}


def loss_of(module: Any, program: Program, trial: Trial) -> float:
    """The module's loss at a trial."""
    with np.errstate(all="ignore"):
        return float(module.loss(params_of(program, trial), batch_of(program, trial)))


def gradients_of(module: Any, program: Program, trial: Trial, dtype: str = "float64") -> tuple[float, dict[str, Array]]:
    """The module's loss and gradients at a trial, as float64."""
    with np.errstate(all="ignore"):
        loss, gradients = module.value_and_grad(params_of(program, trial, dtype), batch_of(program, trial, dtype))
    return float(loss), {name: np.asarray(value, dtype=np.float64) for name, value in gradients.items()}


class Held:
    """One module's gradients at one trial, and what the oracles say of them.

    ``found``: tensor -> comparisons. ``counts``: tensor -> (entries, directions) perturbed. ``notes``: what was left out.
    """

    def __init__(self, program: Program, module: Any, trial: Trial) -> None:
        self.program, self.module, self.trial = program, module, trial
        self.loss, self.gradients = gradients_of(module, program, trial)
        self.notes: list[str] = []
        self.doubts = 0
        self.may_have_kinks = bool(_rough_places(program))
        self.found: dict[str, list[Comparison]] = {name: [] for name in self.gradients}
        self.counts: dict[str, tuple[int, int]] = dict.fromkeys(self.gradients, (0, 0))
        largest = max((float(np.max(np.abs(g[np.isfinite(g)]), initial=0.0)) for g in self.gradients.values()), default=0.0)
        self.floor = ZERO * largest + 1e-15

    def perturb(self) -> None:
        """Central differences of the module's own loss."""
        if stopped := frozen(self.program):
            # The module's loss would move the frozen tensors too; only the interpreter can hold them still.
            self.notes.append(f"no central differences: {', '.join(stopped)} must stay frozen, the complex step holds it still")
            return
        for name, gradient in self.gradients.items():
            probes = _probes(gradient, np.random.default_rng([self.trial.seed, 2]))
            self._along(name, "perturbation", probes, self._difference)

    def _difference(self, name: str, direction: Array) -> Slope:
        base = self.trial.values[name]

        def moved(h: float) -> float:
            values = {**self.trial.values, name: base + h * direction}
            return loss_of(self.module, self.program, replace(self.trial, values=values))

        return slope(moved, math.sqrt(np.count_nonzero(direction)) * max(float(np.sqrt(np.mean(base**2))), 0.1))

    def complex_step(self) -> None:
        """The forward program as the spec means it, by the interpreter, with an imaginary perturbation."""
        if rough := _not_analytic(self.program):
            self.notes.append(f"no complex step: {', '.join(rough)} is not analytic in the table of functions")
            return
        program, values = _still(self.program, self.trial)
        visits = instances(program, self.trial.sizes)
        if visits * len(self.gradients) > STEP_BUDGET:
            self.notes.append(f"no complex step: the interpreter would visit {visits:,} instances for each step")
            return
        every = sum(min(g.size, ENTRIES) for g in self.gradients.values()) * visits <= STEP_BUDGET
        for name, gradient in self.gradients.items():
            rng = np.random.default_rng([self.trial.seed, 3])
            probes = _probes(gradient, rng) if every else _probes(gradient, rng, entries=0, directions=1)
            self._along(name, "complex step", probes, lambda n, d: self._step(program, values, n, d))

    def _step(self, program: Program, values: Mapping[str, Any], name: str, direction: Array) -> Slope:
        from symbolic.interpreter import evaluate

        def moved(h: complex) -> complex:
            point = {**values, name: values[name] + h * direction}
            return complex(evaluate(program, point, self.trial.sizes, [program.loss])[program.loss])

        found = complex_slope(moved)
        expected = self._expected(name, direction)
        if not abs(found.value - expected) > max(1e-6 * abs(expected), self.floor):
            return found
        # At a kink an imaginary step sees one side alone. Real steps see both; they are only taken where there is a doubt,
        # and where several doubts were none, the gradient is wrong and not the point unlucky.
        if self.doubts >= DOUBTS:
            return found
        kink = slope(lambda h: moved(h).real).kink
        self.doubts += not kink
        return replace(found, kink=kink)

    def _expected(self, name: str, direction: Array) -> float:
        """The slope along a direction that the module's gradient says."""
        moved = direction != 0
        return float(np.sum(self.gradients[name][moved] * direction[moved]))

    def interpret(self, adjoint: Program) -> None:
        """The loss of the forward program and the gradients of ``adjoint`` (made by the rule alone), by the interpreter."""
        from symbolic.interpreter import evaluate

        wanted = [adjoint.gradients[name] for name in self.gradients]
        values = evaluate(adjoint, self.trial.values, self.trial.sizes, [adjoint.loss, *wanted])
        meant = float(values[adjoint.loss])
        if not abs(meant - self.loss) <= AGREE["interpreter"] * abs(meant) + 1e-15:
            note = f"the loss itself is wrong: {self.loss:.12g}, the spec means {meant:.12g}"
            for rows in self.found.values():
                rows.append(Comparison("interpreter", math.inf, 1.0, note=note))
            return
        for name, adjoint_name in zip(self.gradients, wanted, strict=True):
            self._whole(name, "interpreter", self.gradients[name], values[adjoint_name])

    def single(self, module: Any, dtype: str) -> None:
        """The gradient of the same text in its own dtype."""
        _, gradients = gradients_of(module, self.program, self.trial, dtype)
        for name, want in self.gradients.items():
            self._whole(name, dtype, gradients[name], want)

    def _whole(self, name: str, oracle: str, got: Array, want: Array) -> None:
        if got.shape != want.shape:
            note = f"{name}: shape {list(got.shape)}, {oracle} {list(want.shape)}"
            self.found[name].append(Comparison(oracle, math.inf, 1.0, note=note))
            return
        if got.size:
            self.found[name].append(compare(oracle, got, want, self.floor, lambda place: f"{name}{place}"))

    def _along(
        self, name: str, oracle: str, probes: Sequence[tuple[str, Array]], measure: Callable[[str, Array], Slope]
    ) -> None:
        """Compare the slope along each probe; entries are held against the array's largest one, directions by themselves."""
        gradient = self.gradients[name]
        if not probes:
            return
        entries = sum(label.startswith("[") for label, _ in probes)
        self.counts[name] = max(self.counts[name], (entries, len(probes) - entries))
        finite = np.where(np.isfinite(gradient), gradient, 0.0)
        largest, typical = float(np.max(np.abs(finite))), float(np.sqrt(np.mean(finite**2)))
        rows, kinks = [], 0
        for label, direction in probes:
            got, want = self._expected(name, direction), measure(name, direction)
            if want.kink and self.may_have_kinks:
                kinks += 1
                continue
            error = abs(got - want.value) if math.isfinite(want.value) and math.isfinite(got) else math.inf
            scale = max(abs(want.value), largest if label.startswith("[") else typical)
            note = f"{name}{label}: {got:.9g}, {oracle} {want.value:.9g}"
            rows.append(Comparison(oracle, error, scale, self.floor, want.error, note=note))
        if rows:
            # The worst, but a word that decides before one that does not.
            self.found[name].append(max(rows, key=lambda c: (not c.agrees, c.decides, c.badness)))
        if kinks:
            note = f"{kinks} of {len(probes)} perturbations cross a kink of the loss"
            self.found[name].append(Comparison(oracle, 0.0, 1.0, kink=True, note=note))


def compare(oracle: str, got: Array, want: Array, floor: float, name: Callable[[str], str]) -> Comparison:
    """The comparison of two arrays at the entry where they differ most."""
    with np.errstate(invalid="ignore"):
        off = np.where(np.isnan(got - want), np.inf, np.abs(got - want))
    worst = np.unravel_index(int(np.argmax(off)), off.shape)
    note = f"{name(_at(worst))}: {got[worst]:.9g}, {oracle} {want[worst]:.9g}"
    return Comparison(oracle, float(off[worst]), float(np.max(np.abs(want))), floor, note=note)


def _probes(
    gradient: Array, rng: np.random.Generator, entries: int = ENTRIES, directions: int = DIRECTIONS
) -> list[tuple[str, Array]]:
    """Directions to perturb along: each entry of a small array; of a large one random signs, and a few entries, the one with
    the largest gradient among them."""
    shape, size = gradient.shape, gradient.size
    if size == 0:
        return []
    chosen: Iterable[int] = ()
    if size <= entries:
        chosen, directions = range(size), 0
    elif entries:
        chosen = sorted({int(np.argmax(np.abs(gradient))), *map(int, rng.choice(size, SAMPLED, replace=False))})
    probes = []
    for flat in chosen:
        unit = np.zeros(size)
        unit[flat] = 1.0
        probes.append((_at(np.unravel_index(flat, shape)), unit.reshape(shape)))
    for k in range(directions):
        probes.append((f" along random direction {k + 1}", rng.choice([-1.0, 1.0], size=shape) / math.sqrt(size)))
    return probes


def _at(place: Sequence[Any]) -> str:
    return f"[{','.join(str(int(part)) for part in place)}]"


def _not_analytic(program: Program) -> list[str]:
    """The functions of a program through which no complex number can pass."""
    import sympy as sp

    from symbolic.functions import FUNCTIONS

    names = {type(f).__name__ for equation in program.equations for f in equation.body.atoms(sp.Function)}
    return sorted(n for n in names if n in FUNCTIONS and not FUNCTIONS[n].analytic)


def _rough_places(program: Program) -> list[str]:
    """What a program has that may have kinks: functions of the table, maxima, roots, guards on real numbers. Where there is none,
    two sides of a point that differ are no kink but a wrong gradient, or one that perturbation cannot resolve."""
    import sympy as sp

    from symbolic.functions import FUNCTIONS
    from symbolic.program import Reduction, is_index_read, reads

    kinked = {name for name, row in FUNCTIONS.items() if row.kinks} | {"where"}
    found: set[str] = set()
    for equation in program.equations:
        found |= {type(f).__name__ for f in equation.body.atoms(sp.Function)} & kinked
        if equation.reduction is not Reduction.SUM:
            found.add("max")
        if any(power.exp.is_Integer is not True for power in equation.body.atoms(sp.Pow)):
            found.add("power")
        if any(not is_index_read(entry) for guard in equation.guards for entry in reads(guard)):
            found.add("guard")
    return sorted(found)


def _still(program: Program, trial: Trial) -> tuple[Program, dict[str, Any]]:
    """The program with its constant tensors frozen at their values (law 11), and the values."""
    from symbolic.interpreter import evaluate

    names = frozen(program)
    if not names:
        return program, dict(trial.values)
    return freeze(program, names), {**trial.values, **evaluate(program, trial.values, trial.sizes, names)}
