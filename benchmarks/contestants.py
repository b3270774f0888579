"""Who competes: each name, the process it runs in, and how it is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from benchmarks import targets
from benchmarks.contestant import Contestant, Missing
from benchmarks.rows import Arrays, Row

PROCESS: Mapping[str, str] = MappingProxyType(
    {
        "hand": "numpy",
        "tuned": "numpy",
        "chainrule": "numpy",
        "c": "c",
        "c-door": "c-door",
        "torch": "torch",
        "torch-compiled": "torch-compiled",
        "jax": "jax",
        "pytensor": "pytensor",
        "autograd": "autograd",
        "casadi": "casadi",
    }
)
"""Contestants of one process share it and its arrays: the NumPy programs differ in nothing but their code."""

PEERS: Mapping[str, str] = MappingProxyType(
    {
        "hand": "benchmarks.hand",
        "tuned": "benchmarks.tuned",
        "torch": "benchmarks.peers.torch_eager",
        "torch-compiled": "benchmarks.peers.torch_compiled",
        "jax": "benchmarks.peers.jax_jit",
        "pytensor": "benchmarks.peers.pytensor_scan",
        "autograd": "benchmarks.peers.autograd_numpy",
        "casadi": "benchmarks.peers.casadi_c",
    }
)

TARGETS: Mapping[str, Callable[[Row, Arrays, Arrays], Contestant]] = MappingProxyType(
    {"chainrule": targets.numpy_module, "c": targets.c_function, "c-door": targets.c_door}
)

SLOW = ("torch-compiled", "pytensor", "casadi")
"""Those that compile for long: built side by side, once, each in a process of its own, within `--longest-build`."""

ONLY: Mapping[str, tuple[str, ...]] = MappingProxyType({"casadi": ("rnn_char", "lstm_tiny")})
"""Contestants that are made for small rows."""


def build(name: str, row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The contestant on these arrays. Raises `Missing` where its library, or Chainrule itself, cannot be imported."""
    if name in TARGETS:
        return TARGETS[name](row, params, batch)
    try:
        module = importlib.import_module(PEERS[name])
    except ImportError as error:
        raise Missing(str(error)) from error
    built: Contestant = module.build(row, params, batch)
    return built
