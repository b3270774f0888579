"""What a figure is held against: the best peer of the row, when hand-written NumPy is one, and the bar of the C target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from benchmarks.rows import HAND_TO_TORCH

LIBRARIES = ("torch", "torch-compiled", "jax", "pytensor", "autograd", "casadi")
"""Peers without a condition."""

HAND_SLACK = 1.15
"""Hand-written NumPy is a peer where its time relative to torch is at most this times the reference of the row: slower,
and it would be a straw man."""

NUMPY_BAR = 1.05
"""The NumPy target's time relative to hand-written NumPy."""


@dataclass(frozen=True)
class Bar:
    """Largest time of the C function relative to the best peer: good enough to ship, and the goal."""

    ship: float
    goal: float


BAR: Mapping[str, Bar] = MappingProxyType(
    {
        "mlp_small": Bar(0.70, 0.60),
        "mlp_large": Bar(1.00, 0.88),
        "lenet": Bar(0.60, 0.45),
        "rnn_char": Bar(0.35, 0.25),
        "rnn_small": Bar(0.60, 0.45),
        "lstm_small": Bar(0.70, 0.58),
        "gru_small": Bar(0.60, 0.45),
        "lstm_lm": Bar(0.80, 0.68),
        "rnn_long": Bar(0.25, 0.12),
        "lstm_tiny": Bar(0.25, 0.15),
    }
)

Entries = Mapping[str, Any]
"""One row of a report: the entry of each contestant, as `report.row_report` makes it."""


def judge(row: str, entries: Entries) -> dict[str, Any]:
    """The best peer of a row, whether `hand` may be it, and what the C function reached.

    `best` is empty where no peer was timed; `met` is goal, ship, missed, or empty where the C function was not timed.
    """
    hand = hand_standing(row, entries)
    peers = [*LIBRARIES, *(["hand"] if hand["counts"] else [])]
    timed = [name for name in peers if _timed(entries, name)]
    best = min(timed, key=lambda name: entries[name]["ms"]["median"], default="")
    reached = ratio(entries, "c", best)
    bar = BAR[row]
    met = "" if reached is None else "goal" if reached <= bar.goal else "ship" if reached <= bar.ship else "missed"
    return {"best": best, "hand": hand, "c": reached, "c-door": ratio(entries, "c-door", best), "met": met,
            "ship": bar.ship, "goal": bar.goal}  # fmt: skip


def hand_standing(row: str, entries: Entries) -> dict[str, Any]:
    """The ratio of `hand` to torch, the largest that counts, and whether it does; it does not where one was not timed."""
    found, bound = ratio(entries, "hand", "torch"), HAND_SLACK * HAND_TO_TORCH[row]
    return {"ratio": found, "bound": bound, "counts": found is not None and found <= bound}


def ratio(entries: Entries, name: str, base: str) -> float | None:
    """The median ratio, round by round; None where one of the two was not timed."""
    if not (_timed(entries, name) and _timed(entries, base)):
        return None
    return 1.0 if name == base else float(entries[name]["ratio"][base]["median"])


def _timed(entries: Entries, name: str) -> bool:
    return entries.get(name, {}).get("status") == "ok"
