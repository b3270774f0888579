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

_Times = Mapping[str, tuple[int, int]]
TRIES = 60_000
"""How many orders of placing are tried, times the arrays: a try is linear in the arrays, times how long they live."""
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
    keys: list[Callable[[str], tuple[int, ...]]] = [
        lambda n: (-weights[n], times[n][0]),
        lambda n: (times[n][0] - times[n][1], -weights[n]),
        lambda n: (times[n][0], -weights[n]),
        lambda n: (-times[n][1], -weights[n]),
        lambda n: ((times[n][0] - times[n][1] - 1) * weights[n], times[n][0]),
    ]
    names = list(times)
    orders = [sorted(names, key=key) for key in keys]
    best = _moved(min(orders, key=lambda order: _total(order, times, weights)), times, weights)
    return tuple(Slot(routine.buffers[name], above, times[name]) for name, above in _stacked(best, times))


def _moved(order: Sequence[str], times: _Times, weights: Mapping[str, int]) -> Sequence[str]:
    """The order with one array after the other of the highest pile placed first or last, as long as that makes it smaller."""
    best, least = order, _total(order, times, weights)
    tops = {begin for begin, _ in times.values()}
    bound = max((sum(weights[n] for n, (a, b) in times.items() if a <= top <= b) for top in tops), default=0)
    left = TRIES // max(1, len(order))
    while least > bound and left > 0:
        for name, last in product(_highest(best, times, weights), (False, True)):
            rest = [other for other in best if other != name]
            found = [*rest, name] if last else [name, *rest]
            left -= 1
            if (size := _total(found, times, weights)) < least:
                best, least = found, size
                break
        else:
            break
    return best


def _placed(order: Sequence[str], times: _Times, weights: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Where each array begins and ends when one after the other is put on top of those that it meets in time."""
    height = [0] * (1 + max((end for _, end in times.values()), default=0))
    found = {}
    for name in order:
        begin, end = times[name]
        low = max(height[begin : end + 1])
        height[begin : end + 1] = [low + weights[name]] * (end + 1 - begin)
        found[name] = low, low + weights[name]
    return found


def _total(order: Sequence[str], times: _Times, weights: Mapping[str, int]) -> int:
    return max((top for _, top in _placed(order, times, weights).values()), default=0)


def _highest(order: Sequence[str], times: _Times, weights: Mapping[str, int]) -> list[str]:
    """The pile of arrays that makes the total, from the top down."""
    places = _placed(order, times, weights)
    rank = {name: k for k, name in enumerate(order)}
    pile = [max(places, key=lambda name: places[name][1])] if places else []
    while pile and (low := places[pile[-1]][0]) > 0:
        begin, end = times[pile[-1]]
        pile.append(next(n for n in order[: rank[pile[-1]]]
                         if places[n][1] == low and times[n][0] <= end and begin <= times[n][1]))
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


def _stacked(order: Sequence[str], times: _Times) -> list[tuple[str, tuple[str, ...]]]:
    """Each array above those that it meets and that were placed before it; of these not those that others of them lie above.
    Sets of arrays are the bits of numbers."""
    placed: list[tuple[int, int, int, int]] = []  # begin, end, own bit, the bits of all below
    found: list[tuple[str, tuple[str, ...]]] = []
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
