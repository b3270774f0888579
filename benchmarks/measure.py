"""The measurement of one row: reference, build, check, interleaved rounds, check again, fresh processes."""

from __future__ import annotations

import statistics
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks.contestants import ONLY, PROCESS, SLOW
from benchmarks.process import Process

REFERENCES = ("torch", "hand")

FRESH = 5
"""Fresh processes for the time to the first gradient; one alone where that takes over `FRESH_LIMIT` seconds."""
FRESH_LIMIT = 5.0

LONG_SAMPLE = 1.0
"""A contestant with longer samples, in seconds, takes part in every third round, the first among them: any two share it."""


@dataclass(frozen=True)
class Settings:
    """How a run measures: rounds, dtype, the cores to pin to, all the cores there are, the threads of a library, and the
    longest time in seconds from the start of a process that compiles to its first gradient."""

    rounds: int
    dtype: str
    cores: list[int]
    available: list[int]
    threads: int
    longest_build: float


@dataclass
class Measured:
    """One contestant on one row. `status` is ok, or why there are no figures.

    `samples`: seconds a call, by round. `first_seconds`: from the start of each fresh process to its first gradient.
    """

    status: str = "ok"
    error: float | None = None
    samples: dict[int, float] = field(default_factory=dict)
    first_seconds: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    before_mb: float | None = None

    def spread(self) -> dict[str, float]:
        """Median, smallest and largest sample, in milliseconds."""
        return _spread([1e3 * sample for sample in self.samples.values()])

    def ratio(self, other: Measured) -> dict[str, float]:
        """This one's time relative to another's, round by round."""
        both = self.samples.keys() & other.samples.keys()
        return _spread([self.samples[number] / other.samples[number] for number in sorted(both)])


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class RowBench:
    """The processes of one row, in a folder of its own; a context manager."""

    def __init__(self, row: str, settings: Settings) -> None:
        self.row, self.settings = row, settings
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self._number = 0
        self.processes: dict[str, Process] = {}
        self.measured: dict[str, Measured] = {}

    def __enter__(self) -> RowBench:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def start(self, cores: list[int] | None = None) -> Process:
        """A process with an empty scratch folder, on the cores of the measurement where no others are named."""
        with self._lock:
            self._number += 1
            scratch = self._folder / str(self._number)
        scratch.mkdir()
        own, reference = self.settings, self._folder / "reference.npz"
        return Process(self.row, own.dtype, reference, own.cores if cores is None else cores, own.threads, scratch)

    def make_reference(self) -> None:
        """The row in float64, by torch or, where that is missing, by the hand-written program."""
        for name in REFERENCES:
            with self.start() as process:
                answer = process.ask("reference", name)
            if "ok" in answer:
                return
        raise RuntimeError(f"no reference: {answer}")

    def build(self, names: list[str]) -> None:
        """Builds and checks every contestant; those that compile for long first, side by side on all cores."""
        self.measured = {name: Measured() for name in names}
        slow = [name for name in names if name in SLOW]
        width = max(1, len(self.settings.available) // self.settings.threads)
        free: SimpleQueue[list[int]] = SimpleQueue()
        for at in range(width):
            free.put(self.settings.available[at * self.settings.threads : (at + 1) * self.settings.threads])

        def build_slow(name: str) -> dict[str, Any]:
            cores = free.get()
            try:
                process = self.start(cores)
                with self._lock:
                    self.processes[PROCESS[name]] = self._stack.enter_context(process)
                answer = process.ask("build", name, until=self.settings.longest_build)
                self.measured[name].first_seconds.append(process.age())
                if "ok" in answer:
                    process.ask("pin", cores=self.settings.cores)
                return answer
            finally:
                free.put(cores)

        with ThreadPoolExecutor(width) as pool:
            answers = dict(zip(slow, pool.map(build_slow, slow), strict=True))
        for name in names:
            if name not in answers:
                if PROCESS[name] not in self.processes:
                    self.processes[PROCESS[name]] = self._stack.enter_context(self.start())
                answers[name] = self.processes[PROCESS[name]].ask("build", name)
            self._check(name, answers[name])

    def _check(self, name: str, built: dict[str, Any]) -> None:
        found = self.measured[name]
        checked = self.processes[PROCESS[name]].ask("check", name) if "ok" in built else built
        if "ok" in checked:
            found.error, found.before_mb = checked["ok"], built["ok"]
        else:
            found.status = _reason(checked)

    def rounds(self) -> None:
        """Turn by turn, in an order that rotates; checks again afterwards, and drops who spoiled its arrays."""
        running = [name for name, found in self.measured.items() if found.status == "ok"]
        last: dict[str, float] = {}
        for number in range(self.settings.rounds + 1):
            turn = number % len(running) if running else 0
            for name in running[turn:] + running[:turn]:
                if last.get(name, 0.0) > LONG_SAMPLE and number % 3 != 1:
                    continue
                answer = self.processes[PROCESS[name]].ask("sample", name)
                if "ok" in answer:
                    last[name] = answer["ok"]
                    if number:  # round 0 warms up and chooses the repeats
                        self.measured[name].samples[number] = answer["ok"]
        for name in running:
            again, found = self.processes[PROCESS[name]].ask("check", name), self.measured[name]
            if "ok" not in again:
                found.status = f"after timing: {_reason(again)}"
            elif not found.samples:
                found.status = "wrong: no samples"

    def fresh(self) -> None:
        """Seconds to the first gradient, and peak memory, of processes that only ran one contestant.

        One that was slow to build had its process to itself: that one tells.
        """
        for name, found in self.measured.items():
            if found.status != "ok":
                continue
            if name in SLOW:
                found.peak_mb = self.processes[PROCESS[name]].ask("peak", name).get("ok")
                continue
            while len(found.first_seconds) < FRESH and max(found.first_seconds, default=0.0) < FRESH_LIMIT:
                with self.start() as alone:
                    found.before_mb = alone.ask("build", name).get("ok")
                    found.first_seconds.append(alone.age())
                    if len(found.first_seconds) == 1:
                        found.peak_mb = alone.ask("peak", name).get("ok")


def measure_row(row: str, names: list[str], settings: Settings) -> dict[str, Measured]:
    """Every contestant of one row; those that are missing or wrong carry the reason and are not timed."""
    asked = [name for name in names if row in ONLY.get(name, (row,))]
    with RowBench(row, settings) as bench:
        bench.make_reference()
        bench.build(asked)
        bench.rounds()
        bench.fresh()
    left_out = {name: Measured(f"not run: only on {', '.join(ONLY[name])}") for name in names if name not in asked}
    return {name: bench.measured.get(name) or left_out[name] for name in names}


def _reason(answer: dict[str, Any]) -> str:
    if "over" in answer:
        return f"over {answer['over']} to build"
    return f"missing: {answer['missing']}" if "missing" in answer else f"wrong: {answer.get('wrong')}"
