"""Where each array of a routine lies in its workspace: arrays that are never needed at once share their place.

An array is needed from the first top-level node that touches it to the last. Arrays are placed one after the other; each lies
above all those it meets in time that were placed before it, so the layout holds for every value of the sizes. In which order
they are placed is tried out at likely sizes, and the order with the least total is kept.

Requires: a routine. Ensures: two arrays whose times meet have no byte in common, for all sizes. Cost: quadratic in the arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import sympy as sp
from sympy import Expr

from codegen.loops.ir import Buffer, Call, Place, Routine
from codegen.loops.scratch import entries
from codegen.loops.uses import touched
from symbolic.program import Program, size

__all__ = ["Slot", "bound", "lives", "plan_memory", "total"]

_Layout = list[tuple[str, tuple[str, ...]]]
"""Each array, and those that it lies above, in the order of placing."""
TRIES = 40
"""How often an order of placing may be made better: each try is quadratic in the arrays."""
LIKELY = 48
"""A free size where an order of placing is tried out."""
ALIGNED = 64
"""Every array begins at a multiple of so many bytes: a cache line, and the widest vector."""


@dataclass(frozen=True)
class Slot:
    """One array of the workspace. ``above``: the arrays on top of which it lies; none: it begins at 0."""

    buffer: Buffer
    above: tuple[str, ...]
    life: tuple[int, int]


def lives(routine: Routine) -> dict[str, tuple[int, int]]:
    """For each array of the workspace the first and the last top-level node that touches it."""
    found: dict[str, tuple[int, int]] = {}
    for top, node in enumerate(routine.body):
        for name in touched((node,)):
            buffer = routine.buffers[name]
            if buffer.place.is_scratch or buffer.place is Place.OUTPUT and not buffer.optional:
                found[name] = (found.get(name, (top, top))[0], top)
    for name in found:
        if routine.buffers[name].place is Place.OUTPUT:  # where the caller does not want it, it lies here to the end
            found[name] = (found[name][0], len(routine.body))
    return found


def plan_memory(routine: Routine, program: Program, real_bytes: int) -> tuple[Slot, ...]:
    """The slots, in an order in which each comes after those that it lies above."""
    times = lives(routine)
    weights = {name: weight(routine.buffers[name], program, real_bytes) for name in times}
    orders: list[Callable[[str], tuple[int, ...]]] = [
        lambda n: (-weights[n], times[n][0]),
        lambda n: (times[n][0] - times[n][1], -weights[n]),
        lambda n: (times[n][0], -weights[n]),
        lambda n: (-times[n][1], -weights[n]),
        lambda n: ((times[n][0] - times[n][1] - 1) * weights[n], times[n][0]),
    ]
    names = list(times)
    layouts = [_stacked(sorted(names, key=key), times) for key in orders]
    best = _moved(min(layouts, key=lambda layout: _total(layout, weights)), times, weights)
    return tuple(Slot(routine.buffers[name], above, times[name]) for name, above in best)


def _moved(layout: _Layout, times: Mapping[str, tuple[int, int]], weights: Mapping[str, int]) -> _Layout:
    """The layout with one array after the other of the highest pile placed first or last, as long as that makes it smaller."""
    best, least = layout, _total(layout, weights)
    bound = max((sum(weights[n] for n, (a, b) in times.items() if a <= top <= b) for top, _ in times.values()), default=0)
    for _ in range(TRIES):
        if least <= bound:
            break
        names = [name for name, _ in best]
        for name, end in product(_highest(best, weights), (False, True)):
            rest = [other for other in names if other != name]
            found = _stacked([*rest, name] if end else [name, *rest], times)
            if _total(found, weights) < least:
                best, least = found, _total(found, weights)
                break
        else:
            break
    return best


def _highest(layout: _Layout, weights: Mapping[str, int]) -> list[str]:
    """The pile of arrays that makes the total, from the top down."""
    end: dict[str, int] = {}
    for name, above in layout:
        end[name] = max((end[other] for other in above), default=0) + weights[name]
    below = dict(layout)
    pile = [max(end, key=lambda name: end[name])]
    while below[pile[-1]]:
        pile.append(max(below[pile[-1]], key=lambda name: end[name]))
    return pile


def total(slots: Sequence[Slot], program: Program, real_bytes: int, values: Mapping[str, int] | None = None) -> int:
    """The bytes of all slots together, at these sizes."""
    end: dict[str, int] = {}
    for slot in slots:
        start = max((end[other] for other in slot.above), default=0)
        end[slot.buffer.name] = start + weight(slot.buffer, program, real_bytes, values)
    return max(end.values(), default=0)


def bound(routine: Routine, program: Program, real_bytes: int, values: Mapping[str, int] | None = None) -> int:
    """The greatest sum of the bytes that are needed at once: no layout can do with less."""
    times = lives(routine)
    weights = {name: weight(routine.buffers[name], program, real_bytes, values) for name in times}
    tops = range(len(routine.body) + 1)
    return max(sum(weights[n] for n, (a, b) in times.items() if a <= top <= b) for top in tops)


def weight(buffer: Buffer, program: Program, real_bytes: int, values: Mapping[str, int] | None = None) -> int:
    """The bytes of an array at these sizes, or at likely ones."""
    each = 8 if buffer.tensor.is_index else real_bytes
    return ALIGNED * -(-int(number(buffer.entries, program, values, real_bytes)) * each // ALIGNED)


def number(expr: Expr, program: Program, values: Mapping[str, int] | None = None, real_bytes: int = 4) -> Expr:
    """An integer expression at these sizes, or at likely ones."""
    given = {n: (values or {}).get(n, LIKELY if v is None else v) for n, v in program.sizes.items()}
    found = sp.sympify(expr).xreplace({size(n): sp.Integer(v) for n, v in given.items()})
    calls = {call: sp.Integer(entries(call.name, tuple(map(int, call.sizes)), real_bytes)) for call in found.atoms(Call)}
    return found.xreplace(calls) if calls else found


def _stacked(order: Sequence[str], times: Mapping[str, tuple[int, int]]) -> _Layout:
    """Each array above those that it meets and that were placed before it; of these not those that others of them lie above.
    Sets of arrays are the bits of numbers."""
    placed: list[tuple[int, int, int, int]] = []  # begin, end, own bit, the bits of all below
    found: _Layout = []
    for k, name in enumerate(order):
        begin, end = times[name]
        below = [row for row in placed if row[0] <= end and begin <= row[1]]
        hidden = 0
        for row in below:
            hidden |= row[3]
        above = [row for row in below if not row[2] & hidden]
        found.append((name, tuple(order[row[2].bit_length() - 1] for row in above)))
        bits = hidden
        for row in above:
            bits |= row[2]
        placed.append((begin, end, 1 << k, bits))
    return found


def _total(layout: _Layout, weights: Mapping[str, int]) -> int:
    end: dict[str, int] = {}
    for name, above in layout:
        end[name] = max((end[other] for other in above), default=0) + weights[name]
    return max(end.values(), default=0)
