"""One process of the benchmark: builds, checks and times contestants as the driver asks, by JSON lines.

Commands: `build`, `check`, `sample`, `peak`, `pin`, `rate`, `reference`; each takes `name` where it concerns a contestant,
and is answered by one line, `{"ok": ...}` or `{"missing": why}` or `{"wrong": why}`.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import contestants
from benchmarks.checks import Wrong, worst_error
from benchmarks.contestant import Contestant, Missing
from benchmarks.machine import peak_memory_mb, pin
from benchmarks.rows import ROWS

SAMPLE_SECONDS = 0.02
"""Shortest sample: a call is repeated until it takes that long, so that the clock and the switch between processes
do not show."""
SILENCE = 0.15
"""Seconds before a sample on several cores: threads that wait for work spin for a while, and would take a core from the next
contestant. An untimed call then wakes its own."""
RATE_SIZE = 1024


class Worker:
    """Contestants of one row, on arrays that they share."""

    def __init__(self, row: str, dtype: str, reference: Path) -> None:
        self.row = ROWS[row]
        self.dtype = dtype
        self.reference = reference
        self.params = self.row.parameters(dtype)
        self.batch = self.row.batch(dtype)
        self.built: dict[str, Contestant] = {}
        self.repeats: dict[str, int] = {}

    def build(self, name: str) -> float | None:
        """Builds a contestant and calls it once; returns the peak memory in MB before that call."""
        contestant = contestants.build(name, self.row, self.params, self.batch)
        before = peak_memory_mb()
        contestant.call()
        self.built[name] = contestant
        return before

    def check(self, name: str) -> float:
        """The worst error against the reference; raises `Wrong` where it is too large."""
        contestant = self.built[name]
        with np.load(self.reference) as reference:
            return worst_error(contestant.read(contestant.call()), dict(reference), self.dtype)

    def sample(self, name: str) -> float:
        """Seconds a call, over enough calls for one sample."""
        if int(os.environ.get("OMP_NUM_THREADS", "1")) > 1:
            time.sleep(SILENCE)
            self.built[name].call()
        repeats = self.repeats.get(name) or self._calibrate(name)
        gc.collect()
        gc.disable()
        seconds = self._seconds(name, repeats)
        gc.enable()
        return seconds / repeats

    def _seconds(self, name: str, repeats: int) -> float:
        """Seconds of that many calls, by the contestant's own loop in C where it has one."""
        contestant = self.built[name]
        if contestant.timed is not None:
            return contestant.timed(repeats)
        call = contestant.call
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - start

    def _calibrate(self, name: str) -> int:
        repeats = 1
        while (seconds := self._seconds(name, repeats)) < SAMPLE_SECONDS:
            repeats = max(repeats + 1, int(repeats * min(10.0, 1.2 * SAMPLE_SECONDS / seconds)))
        self.repeats[name] = repeats
        return repeats

    def peak(self, name: str) -> float | None:
        """Peak memory in MB after two more calls."""
        for _ in range(2):
            self.built[name].call()
        return peak_memory_mb()

    def save_reference(self, name: str) -> str:
        """Writes loss and gradients of a contestant in float64 as the reference of the row."""
        params, batch = self.row.parameters("float64"), self.row.batch("float64")
        contestant = contestants.build(name, self.row, params, batch)
        loss, grads = contestant.read(contestant.call())
        arrays: dict[str, Any] = {"loss": np.float64(loss), **grads}
        np.savez(self.reference, **arrays)
        return name

    def rate(self) -> float:
        """GFLOP/s of NumPy's product of two square matrices: what the processor and its BLAS can do, the best of 5."""
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((RATE_SIZE, RATE_SIZE)).astype(self.dtype) for _ in range(2))
        out = np.empty_like(a)
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            a.dot(b, out)
            best = min(best, time.perf_counter() - start)
        return 2 * RATE_SIZE**3 / best / 1e9

    def answer(self, command: str, name: str, cores: list[int]) -> Any:
        """Runs one command."""
        if command == "rate":
            return self.rate()
        if command == "pin":
            return pin(cores)
        actions = {
            "build": self.build,
            "check": self.check,
            "sample": self.sample,
            "peak": self.peak,
            "reference": self.save_reference,
        }
        return actions[command](name)


def main() -> None:
    """Serves commands from standard input; what libraries print goes to standard error."""
    row, dtype, reference, cores = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    pin([int(core) for core in cores.split(",") if core])
    worker = Worker(row, dtype, Path(reference))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"ok": worker.answer(request["command"], request.get("name", ""), request.get("cores", []))}
        except Missing as missing:
            reply = {"missing": str(missing)}
        except Wrong as wrong:
            reply = {"wrong": str(wrong)}
        except Exception as failure:  # noqa: BLE001  (a contestant's own failure: the others still run)
            reason = traceback.format_exception_only(failure)[-1].strip()
            reply = {"wrong": reason.replace(tempfile.gettempdir() + os.sep, "")}
        answers.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
