"""Perturbs entries of named intermediates: the adjoint of a tensor is what the loss gains when one of its entries is nudged.

For each intermediate ``a`` the forward program gets an input ``e_a`` of a's shape and the equation ``a[...] += e_a[...]``. At
``e_a = 0`` nothing changes, and the derivative by an entry of ``e_a`` is the adjoint of that entry of ``a``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from codegen.perturb import complex_slope
from codegen.trial import Trial, instances, shape_of
from symbolic.adjoint import active, gradient, reaching
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Index, Names, Origin, Program, Reduction, Role, Tensor

__all__ = ["Row", "check_nodes", "freeze", "frozen", "nudged"]

MOST = 5
"""Entries of a node that are nudged."""


def frozen(program: Program) -> list[str]:
    """The computed tensors that differentiation takes as constant."""
    return [t.name for t in program.tensors if t.constant and t.name in program.writers]


def freeze(program: Program, names: Iterable[str]) -> Program:
    """The program with some of its tensors as inputs instead of computed."""
    names = set(names)
    tensors = tuple(replace(t, role=Role.INPUT, constant="") if t.name in names else t for t in program.tensors)
    return program.with_equations([e for e in program.equations if e.name not in names], tensors)


def nudged(program: Program, names: Sequence[str]) -> tuple[Program, dict[str, str]]:
    """The program with a nudge added to each named tensor, and node -> name of its nudge.

    A maximum cannot take a further term: it moves to a tensor of its own, of which the node becomes a copy.
    """
    supply = Names.of(program)
    tensors, equations = list(program.tensors), list(program.equations)
    nudges: dict[str, str] = {}
    number = program.next_number
    for name in names:
        tensor = program.tensor(name)
        nudges[name] = supply.fresh(f"e_{name}")
        places = [supply.index("q") for _ in tensor.shape]
        indices = tuple(Index.over(symbol, extent) for symbol, extent in zip(places, tensor.shape, strict=True))
        sources = [Tensor(nudges[name], tensor.shape, Role.INPUT)]
        if program.writers[name][0].reduction is not Reduction.SUM:
            clean = replace(tensor, name=supply.fresh(f"{name}_clean"), role=Role.INTERMEDIATE)
            equations = [replace(e, target=clean.at(e.target.indices)) if e.name == name else e for e in equations]
            tensors.append(clean)
            sources.append(clean)
        tensors.append(sources[0])
        for source in sources:
            equations.append(Equation(tensor.at(places), source.at(places), indices, numbers=(number,), origin=Origin("nudge")))
            number += 1
    return program.with_equations(equations, tensors), nudges


@dataclass(frozen=True)
class Row:
    """One intermediate: which of its entries (by flat position) were nudged, the derived and the measured adjoints."""

    name: str
    shape: tuple[int, ...]
    places: tuple[int, ...]
    derived: Any
    measured: Any


def check_nodes(program: Program, wrt: Sequence[str], trial: Trial, budget: int) -> list[Row] | None:
    """A row for each real intermediate between ``wrt`` and the loss, in the order of the program.

    ``budget``: instances that may be visited; ``None`` where a single entry of each is beyond it.
    """
    live = active(program, wrt) & reaching(program, program.loss)
    names = [
        t.name for t in program.tensors
        if t.name in live and t.name in program.writers and not t.constant and not t.is_index and t.name != program.loss
    ]
    visits = instances(program, trial.sizes)
    if visits * len(names) > 3 * budget:
        return None
    derived = gradient(program, wrt)
    adjoints = evaluate(derived, trial.values, trial.sizes, [derived.gradients[n] for n in names])
    stopped = frozen(program)
    moved, nudges = nudged(freeze(program, stopped), names)
    most = max(1, min(MOST, budget // (max(visits, 1) * max(len(names), 1))))
    still = {nudges[n]: np.zeros(shape_of(program.tensor(n), trial.sizes)) for n in names}
    values = {**trial.values, **still, **evaluate(program, trial.values, trial.sizes, stopped)}
    rng = np.random.default_rng([trial.seed, 4])
    rows = []
    for name in names:
        adjoint = adjoints[derived.gradients[name]]
        places = tuple(sorted(map(int, rng.choice(adjoint.size, min(most, adjoint.size), replace=False))))
        measured = np.array([_nudge(moved, trial, values, nudges[name], place) for place in places])
        rows.append(Row(name, adjoint.shape, places, adjoint.reshape(-1)[list(places)], measured))
    return rows


def _nudge(program: Program, trial: Trial, values: dict[str, Any], nudge: str, place: int) -> float:
    shape = values[nudge].shape

    def loss(h: complex) -> complex:
        step = np.zeros(values[nudge].size, dtype=complex)
        step[place] = h
        found = evaluate(program, {**values, nudge: step.reshape(shape)}, trial.sizes, [program.loss])
        return complex(found[program.loss])

    return complex_slope(loss).value

