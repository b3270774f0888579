"""The machine of a measurement: its processor, its versions, and an environment that does not bend the figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

STRIPPED_PREFIXES = (
    "OPENBLAS", "GOTO", "NVPL", "BLIS", "ATLAS", "MKL", "KMP", "OMP", "GOMP", "VECLIB", "NUMEXPR", "NPY", "NUMPY",
    "XLA", "JAX", "TORCH", "PYTORCH", "ONEDNN", "DNNL", "PYTENSOR", "NUMBA", "CASADI", "CHAINRULE", "CFLAGS",
    "CXXFLAGS", "LDFLAGS", "MALLOC", "GLIBC_TUNABLES", "LD_PRELOAD", "PYTHONMALLOC", "PYTHONDEVMODE",
)  # fmt: skip
"""Variables that begin so choose kernels, threads, caches, flags or allocators; a contestant must not meet them by
chance."""

PACKAGES = ("numpy", "torch", "jax", "jaxlib", "pytensor", "numba", "autograd", "casadi", "sympy", "chainrule")


def is_stripped(name: str) -> bool:
    """Whether a variable is kept from the workers."""
    return name.startswith(STRIPPED_PREFIXES)


def stripped(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of `environment` that workers do not get."""
    return {name: value for name, value in sorted(environment.items()) if is_stripped(name)}


def thread_settings(cores: int) -> dict[str, str]:
    """What the harness sets instead: the number of threads, and JAX on the processor."""
    count = str(cores)
    settings = {"OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    settings["JAX_PLATFORMS"] = "cpu"
    if cores == 1:
        settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    return settings


def worker_environment(cores: int, scratch: Path) -> dict[str, str]:
    """The caller's environment without what would bend the figures, with the thread settings, and with every cache and
    temporary file in `scratch`."""
    kept = {name: value for name, value in os.environ.items() if not is_stripped(name)}
    caches = {
        "TMPDIR": str(scratch),
        "XDG_CACHE_HOME": str(scratch),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "torch"),
        "PYTENSOR_FLAGS": f"base_compiledir={scratch / 'pytensor'}",
        "NUMBA_CACHE_DIR": str(scratch / "numba"),
    }
    return kept | thread_settings(cores) | caches


def processor() -> str:
    """The processor's name as the kernel tells it, with its vector extension."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    vector = next((name for name in ("avx512f", "avx2", "avx", "asimd") if name in flags), "")
    family = f"family {facts['cpu family']} model {facts['model']}" if "cpu family" in facts else ""
    return " ".join(part for part in (facts.get("model name", platform.machine()), family, vector) if part)


def versions() -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float | None:
    """This process's peak resident memory, VmHWM, in MB (`ru_maxrss` would carry the parent's); None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("VmHWM")), None)
    return None if kilobytes is None else int(kilobytes) / 1024


def pin(cores: list[int]) -> None:
    """Keeps this process, every thread it has, on the given cores, where the system can."""
    if cores and hasattr(os, "sched_setaffinity"):
        threads = Path("/proc/self/task")
        for thread in [int(path.name) for path in threads.iterdir()] if threads.is_dir() else [0]:
            try:
                os.sched_setaffinity(thread, cores)
            except ProcessLookupError:  # it ended meanwhile
                continue


def available_cores() -> list[int]:
    """The cores this process may run on, last first: the first one takes most interrupts."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0), reverse=True)
    return []
