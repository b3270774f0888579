"""The measurement of one row: reference, build, check, interleaved rounds, check again, peak memory."""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contestants import PROCESS
from benchmarks.process import Process

BASELINES = ("torch", "hand")


@dataclass(frozen=True)
class Settings:
    """How a run measures: rounds, dtype, the cores to pin to, and the number of threads each library may use."""

    rounds: int
    dtype: str
    cores: list[int]
    threads: int


@dataclass
class Measured:
    """One contestant on one row. `status` is ok, or why there are no figures; `samples` are seconds a call."""

    status: str
    first_seconds: float | None = None
    error: float | None = None
    samples: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    before_mb: float | None = None

    def spread(self) -> dict[str, float]:
        """Median, smallest and largest sample, in milliseconds."""
        scaled = [1e3 * sample for sample in self.samples]
        return {"median": statistics.median(scaled), "min": min(scaled), "max": max(scaled)}

    def ratio(self, other: Measured) -> dict[str, float]:
        """This one's time relative to another's, round by round."""
        ratios = [mine / theirs for mine, theirs in zip(self.samples, other.samples, strict=True)]
        return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def measure_row(row: str, names: list[str], settings: Settings) -> dict[str, Measured]:
    """Every contestant of one row; those that are missing or wrong carry the reason and are not timed."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        reference = Path(folder) / "reference.npz"

        def start() -> Process:
            return Process(row, settings.dtype, reference, settings.cores, settings.threads)

        make_reference(start)
        groups = dict.fromkeys(PROCESS[name] for name in names)
        processes = {group: stack.enter_context(start()) for group in groups}
        measured = {name: _prepare(processes[PROCESS[name]], name) for name in names}
        running = [name for name, found in measured.items() if found.status == "ok"]
        for number in range(settings.rounds + 1):
            turn = number % len(running) if running else 0
            for name in running[turn:] + running[:turn]:
                answer = processes[PROCESS[name]].ask("sample", name)
                if number and "ok" in answer:  # round 0 warms up and chooses the repeats
                    measured[name].samples.append(answer["ok"])
        for name in running:
            _confirm(processes[PROCESS[name]], name, measured[name], settings.rounds)
        for name in running:
            with start() as alone:
                answer = alone.ask("peak", name).get("ok", {})
            measured[name].peak_mb, measured[name].before_mb = answer.get("peak"), answer.get("before")
        return measured


def make_reference(start: Any) -> str:
    """The row in float64, by torch or, where that is missing, by the hand-written program."""
    for name in BASELINES:
        with start() as process:
            answer = process.ask("reference", name)
        if "ok" in answer:
            return name
    raise RuntimeError(f"no reference: {answer}")


def _prepare(process: Process, name: str) -> Measured:
    built = process.ask("build", name)
    if "ok" not in built:
        return Measured(status=_reason(built))
    checked = process.ask("check", name)
    if "ok" not in checked:
        return Measured(status=_reason(checked))
    return Measured(status="ok", first_seconds=built["ok"], error=checked["ok"])


def _confirm(process: Process, name: str, found: Measured, rounds: int) -> None:
    """Checks again after timing; a contestant that spoiled its arrays has no figures."""
    again = process.ask("check", name)
    if "ok" not in again:
        found.status = f"after timing: {_reason(again)}"
    elif len(found.samples) != rounds:
        found.status = "wrong: lost samples"


def _reason(answer: dict[str, Any]) -> str:
    return f"missing: {answer['missing']}" if "missing" in answer else f"wrong: {answer.get('wrong')}"
