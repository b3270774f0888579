"""Tools outside pip, how often they were missing, and the fixtures that several files of tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before NumPy is loaded, and for every process that a test starts: the arrays are small, and threads only wait for each other.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = {"chromium": "chromium", "clang": "clang", "gcc": "gcc", "latex": "pdflatex", "network": None, "valgrind": "valgrind"}
"""Marker -> the program it needs; ``network`` finds out by trying."""

# Scripts and helpers, not tests: record.py needs torch, which the tests do without.
collect_ignore_glob = ["oracle/*.py"]

_ran: Counter[str] = Counter()
_skipped: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, program in TOOLS.items():
            if program and item.get_closest_marker(marker) and shutil.which(program) is None:
                item.add_marker(pytest.mark.skip(reason=f"{program} is not installed"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and not report.skipped:
        return
    for marker in TOOLS:
        if marker in report.keywords:
            (_skipped if report.skipped else _ran)[marker] += 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for marker in TOOLS:
        if _ran[marker] or _skipped[marker]:
            terminalreporter.write_line(f"tool {marker}: {_ran[marker]} run, {_skipped[marker]} skipped")


@pytest.fixture(autouse=True)
def _narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same width and colours on every machine."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture
def dirty_memory() -> Iterator[None]:
    """``np.empty`` gives what nobody may read: NaN."""
    from tests.emitting import dirty

    with dirty():
        yield


@pytest.fixture(scope="session")
def specs() -> Path:
    return ROOT / "specs"


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def chainrule(tmp_path: Path) -> Run:
    """Run the command in a process of its own, in an empty folder."""

    def run(*arguments: str | Path, cwd: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-m", "codegen.cli", *map(str, arguments)], cwd=cwd, text=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": paths, **environment}, timeout=300, check=False,
        )

    return run
