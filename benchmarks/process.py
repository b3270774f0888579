"""A worker process, seen from the driver."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import worker_environment

ROOT = Path(__file__).resolve().parent.parent


class Process:
    """A child that runs `benchmarks.worker`, in a stripped environment, on the given cores; a context manager."""

    def __init__(self, row: str, dtype: str, reference: Path, cores: list[int], threads: int) -> None:
        arguments = [row, dtype, str(reference), ",".join(map(str, cores))]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *arguments],
            cwd=ROOT,
            env=worker_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, command: str, name: str = "") -> dict[str, Any]:
        """One command, one answer; a worker that died answers `wrong`."""
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("the worker has no pipes")
        try:
            self._child.stdin.write(json.dumps({"command": command, "name": name}) + "\n")
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"wrong": f"the process ended (status {self._child.wait()})"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._child.stdin:
            self._child.stdin.close()
        self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()
