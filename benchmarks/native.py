"""C on this machine: the compiler, a shared library of some files, and the rate of the core in multiply-adds."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.contestant import Missing

SOURCES = Path(__file__).parent / "c"
OPTIMISED = ("-O3", "-march=native", "-ffp-contract=fast")
"""What every contestant in C is compiled with; -std=c99 alone would forbid GCC to contract a*b + c."""
REAL = {"float32": "float", "float64": "double"}


@cache
def compiler() -> tuple[str, ...]:
    """The C compiler: `CC`, else one on the path, else the one in the wheel `ziglang`. Raises `Missing`."""
    if os.environ.get("CC"):
        return tuple(shlex.split(os.environ["CC"]))
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            return (name,)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "cc")
    raise Missing("no C compiler")


def compiler_version() -> str:
    """The first line of what the compiler says of itself; empty where there is none."""
    try:
        told = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    except (Missing, OSError, subprocess.CalledProcessError):
        return ""
    return told.splitlines()[0] if told else ""


def compile_c(sources: Sequence[Path], output: Path, *flags: str) -> Path:
    """Compiles and links the sources, each by itself, so that a caller's loop never sees into what it calls."""
    objects = []
    for number, source in enumerate(sources):
        objects.append(output.with_name(f"{output.stem}-{number}.o"))
        _run([*compiler(), "-std=c99", *OPTIMISED, "-fPIC", *flags, "-c", str(source), "-o", str(objects[-1])])
    shared = ["-shared"] if output.suffix == ".so" else []
    _run([*compiler(), *shared, *(f for f in flags if f == "-fopenmp"), *map(str, objects), "-o", str(output), "-lm"])
    return output


def shared_library(sources: Sequence[Path], output: Path, *flags: str) -> ctypes.CDLL:
    """The same, loaded."""
    return ctypes.CDLL(str(compile_c(sources, output, *flags)))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise RuntimeError(f"the C compiler refused: {first}")


def multiply_add_rate(dtype: str, cores: list[int], folder: Path) -> float:
    """GFLOP/s of `c/rate.c`, one copy on each of the cores at once, added up. Raises `Missing` without a compiler."""
    program = compile_c([SOURCES / "rate.c"], folder / "rate", f"-DREAL={REAL[dtype]}")

    def start(core: int | None) -> subprocess.Popen[str]:
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        return subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True, preexec_fn=pin)  # noqa: PLW1509

    copies = [start(core) for core in cores or [None]]
    return sum(float(copy.communicate()[0]) for copy in copies)
