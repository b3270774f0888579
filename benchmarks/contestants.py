"""Who competes: each name, the process it runs in, and how it is built."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from benchmarks.contestant import Contestant, same
from benchmarks.rows import Arrays, Row

PROCESS: Mapping[str, str] = MappingProxyType(
    {
        "hand": "numpy",
        "tuned": "numpy",
        "chainrule": "numpy",
        "chainrule-c": "c",
        "torch": "torch",
        "jax": "jax",
        "autograd": "autograd",
    }
)
"""Contestants of one process share it and its arrays: the NumPy programs differ in nothing but their code."""

PEERS: Mapping[str, str] = MappingProxyType(
    {
        "hand": "benchmarks.hand",
        "tuned": "benchmarks.tuned",
        "torch": "benchmarks.peers.torch_eager",
        "jax": "benchmarks.peers.jax_jit",
        "autograd": "benchmarks.peers.autograd_numpy",
    }
)

TARGETS: Mapping[str, str] = MappingProxyType({"chainrule": "numpy", "chainrule-c": "c"})


class Missing(Exception):
    """A contestant that this installation does not have."""


def build(name: str, row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The contestant on these arrays. Raises `Missing` where its library, or Chainrule itself, cannot be imported."""
    if name in TARGETS:
        return _chainrule(TARGETS[name], row, params, batch)
    try:
        module = importlib.import_module(PEERS[name])
    except ImportError as error:
        raise Missing(str(error)) from error
    built: Contestant = module.build(row, params, batch)
    return built


def _chainrule(target: str, row: Row, params: Arrays, batch: Arrays) -> Contestant:
    """The module that Chainrule generates from the row's spec, called through its public door with all its checks."""
    try:
        codegen: Any = importlib.import_module("codegen")
        symbolic: Any = importlib.import_module("symbolic")
        load, compile_module = symbolic.load, codegen.compile
    except (ImportError, AttributeError, SyntaxError) as error:
        raise Missing(str(error)) from error
    if target not in importlib.import_module("codegen.pipeline").TARGETS:
        raise Missing(f"no target {target}")
    dtype = str(next(iter(params.values())).dtype)
    model = load(row.spec if dtype == "float32" else with_dtype(row, dtype))
    module = compile_module(model, target=target)
    return Contestant(partial(module.value_and_grad, params, batch), same)


def with_dtype(row: Row, dtype: str) -> dict[str, Any]:
    """The row's spec as a dict, in another dtype."""
    import yaml

    spec: dict[str, Any] = yaml.safe_load(row.spec.read_text(encoding="utf-8"))
    return spec | {"dtype": dtype}
