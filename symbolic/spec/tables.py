"""The tables that a spec's types come from: layers, losses, optimisers, clipping rules, initialisers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["clips", "is_activation", "is_function", "layers", "losses", "optimizers"]


def layers() -> Mapping[str, Any]:
    """Layer types: name -> LayerType."""
    from symbolic.layers import LAYERS

    return LAYERS


def losses() -> Mapping[str, Any]:
    """Loss types: name -> Loss."""
    from symbolic.losses import LOSSES

    return LOSSES


def optimizers() -> Mapping[str, Any]:
    """Optimisers: name -> row with its ``options``."""
    from symbolic.optimizers import OPTIMIZERS

    return OPTIMIZERS


def clips() -> Mapping[str, Any]:
    """Clipping rules: name -> row with its ``options``."""
    from symbolic.optimizers import CLIPS

    return CLIPS


def is_function(name: str, functions: Collection[str] = ()) -> str:
    """Why ``name`` cannot stand by itself in equation text (it is a function or a constant there), or an empty text.

    ``functions``: those of the spec itself.
    """
    from symbolic.functions import lookup

    if lookup(name) or name in ("sum", "mean", "max", "floor", "ceil", "pi"):
        known = "a function or constant of equation text"
        return f"expected a name of your own, found '{name}', which is {known}; choose another"
    if name in functions:
        return f"expected a name of its own, found '{name}', which is a function of the spec (key 'functions'); rename one"
    return ""


def is_activation(name: str) -> str:
    """Why ``name`` cannot be a function of the spec's own (``activation:`` would mean another one), or an empty text."""
    from symbolic.layers.activation import ACTIVATIONS

    if name in ACTIVATIONS:
        return f"expected a name of your own, found '{name}', which is an activation of the catalogue; choose another"
    return ""
