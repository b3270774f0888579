"""Optimisers and clipping against torch: trajectories of a few steps over fixed gradients."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["CLIPPED", "UPDATES", "Clipped", "Update"]

STEPS, ENTRIES = 6, 7


@dataclass(frozen=True)
class Update:
    """``kind`` and ``options`` as in a spec; ``torch``: class of torch.optim and its options."""

    name: str
    kind: str
    options: Mapping[str, Any]
    torch: tuple[str, Mapping[str, Any]]

    def arrays(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The parameter before the first step, and the gradient of each step."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return rng.standard_normal(ENTRIES), rng.standard_normal((STEPS, ENTRIES)) * np.array(
            [1e-4, 1e-2, 1, 1, 3, 10, 0]
        )


@dataclass(frozen=True)
class Clipped:
    """A clipping of two gradients of different shapes."""

    name: str
    kind: str
    limit: float
    scale: float = 1.0
    shapes: tuple[tuple[int, ...], ...] = field(default=((3, 2), (5,)))

    def arrays(self) -> list[np.ndarray[Any, Any]]:
        """The gradients."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        return [self.scale * rng.standard_normal(shape) for shape in self.shapes]


UPDATES = [
    Update("sgd", "sgd", {"rate": 0.1}, ("SGD", {"lr": 0.1})),
    Update("sgd_default", "sgd", {}, ("SGD", {})),
    Update("sgd_decay", "sgd", {"rate": 0.1, "weight_decay": 0.05}, ("SGD", {"lr": 0.1, "weight_decay": 0.05})),
    Update("momentum", "momentum", {"rate": 0.1}, ("SGD", {"lr": 0.1, "momentum": 0.9})),
    Update(
        "momentum_decay",
        "momentum",
        {"rate": 0.1, "momentum": 0.5, "weight_decay": 0.05},
        ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.05}),
    ),
    Update(
        "nesterov", "momentum", {"rate": 0.1, "nesterov": True}, ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True})
    ),
    Update("adagrad", "adagrad", {"rate": 0.1}, ("Adagrad", {"lr": 0.1})),
    Update("adagrad_default", "adagrad", {}, ("Adagrad", {})),
    Update(
        "adagrad_initial",
        "adagrad",
        {"rate": 0.1, "initial": 0.3},
        ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3}),
    ),
    Update("rmsprop", "rmsprop", {"rate": 0.05, "alpha": 0.9}, ("RMSprop", {"lr": 0.05, "alpha": 0.9})),
    Update("rmsprop_default", "rmsprop", {}, ("RMSprop", {})),
    Update(
        "adam",
        "adam",
        {"rate": 0.05, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6},
        ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6}),
    ),
    Update("adam_default", "adam", {}, ("Adam", {})),
    Update("adamw", "adamw", {"rate": 0.05, "weight_decay": 0.1}, ("AdamW", {"lr": 0.05, "weight_decay": 0.1})),
    Update("adamw_default", "adamw", {}, ("AdamW", {})),
]

CLIPPED = [
    Clipped("clip_value", "value", 0.5),
    Clipped("clip_value_none", "value", 50.0),
    Clipped("clip_global_norm", "global_norm", 1.5),
    Clipped("clip_global_norm_none", "global_norm", 100.0),
    Clipped("clip_norm", "norm", 1.5),
]
