"""A worker process, seen from the driver."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import worker_environment

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 5.0
"""Seconds that a worker has to end by itself."""


class Process:
    """A child that runs `benchmarks.worker`, in a stripped environment, on the given cores; a context manager.

    `scratch` is its folder for temporary files and compilers' caches: empty, so that nothing was compiled before.
    """

    def __init__(self, row: str, dtype: str, reference: Path, cores: list[int], threads: int, scratch: Path) -> None:
        arguments = [row, dtype, str(reference), ",".join(map(str, cores))]
        self._born = time.perf_counter()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            cwd=ROOT,
            env=worker_environment(threads, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that compilers it started end with it
        )

    def age(self) -> float:
        """Seconds since it was started."""
        return time.perf_counter() - self._born

    def ask(self, command: str, name: str = "", until: float | None = None, **more: Any) -> dict[str, Any]:
        """One command, one answer; a worker that died answers `wrong`. One older than `until` seconds is ended, and
        answers `over`."""
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("the worker has no pipes")
        try:
            self._child.stdin.write(json.dumps({"command": command, "name": name, **more}) + "\n")
            self._child.stdin.flush()
            if until is not None and not select.select([self._child.stdout], [], [], max(0.0, until - self.age()))[0]:
                self._end()
                return {"over": f"{until:.0f} s"}
            line = self._child.stdout.readline()
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            return {"wrong": f"the process ended (status {self._child.wait()})"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._child.stdin:
                self._child.stdin.close()
        except BrokenPipeError:
            pass
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._end()
        if self._child.stdout:
            self._child.stdout.close()
