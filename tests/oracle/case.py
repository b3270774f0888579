"""What a case is: a spec, the arrays it is fed, and the same computation in torch. Needs NumPy alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["TABLES", "Case", "Recorded", "load_table", "recorded"]

TABLES = Path(__file__).parent
INDICES = "tnmijkpq"


@dataclass(frozen=True)
class Case:
    """One comparison.

    ``layers``, ``inputs``, ``loss``: as in a spec; without a loss the last layer's output is weighted by a random
    cotangent ``cotangent`` and summed. ``shapes``: the shape of each real array that is fed, parameters (``rnn.W``) and
    inputs; they are drawn from a normal distribution. ``given``: arrays with stated entries (integers are index
    tensors). ``torch(torch, v)`` computes the output (or the loss) from tensors ``v``; it may return (output, {name:
    further output}). ``constant``: arrays that are not differentiated. ``rank``: of the output, for the cotangent's
    subscripts.
    """

    name: str
    layers: list[dict[str, Any]]
    inputs: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    torch: Callable[[Any, Any], Any]
    output: tuple[str | int, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] | None = None
    constant: tuple[str, ...] = ()
    scale: float = 1.0

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Every array the case is fed: the same on each call and machine."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        drawn = {name: self.scale * rng.standard_normal(shape) for name, shape in self.shapes.items()}
        return {**drawn, **{name: np.asarray(value) for name, value in self.given.items()}}

    def cotangent(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """The random weights of the output."""
        return np.random.default_rng(zlib.crc32(f"{self.name} cotangent".encode())).standard_normal(shape)

    def spec(self) -> dict[str, Any]:
        """The spec, with the cotangent where there is no loss."""
        base: dict[str, Any] = {"name": self.name, "dtype": "float64", "inputs": dict(self.inputs)}
        if self.sizes:
            base["sizes"] = dict(self.sizes)
        if self.loss is not None:
            return {**base, "layers": self.layers, "loss": dict(self.loss)}
        last = self.layers[-1]["name"]
        base["inputs"]["cotangent"] = list(self.output)
        subscripts = ",".join(INDICES[: len(self.output)])
        weigh = {
            "name": "weigh",
            "type": "equations",
            "from": {"out": last},
            "equations": f"value = cotangent[{subscripts}]*out[{subscripts}]"
            if self.output
            else "value = cotangent*out",
        }
        return {**base, "layers": [*self.layers, weigh], "loss": {"prediction": "weigh"}, "outputs": [last]}


@dataclass(frozen=True)
class Recorded:
    """What torch computed for a case: ``given`` (every array fed), ``value`` (loss), ``outputs``, ``gradients``."""

    given: Mapping[str, np.ndarray[Any, Any]]
    value: float
    outputs: Mapping[str, np.ndarray[Any, Any]]
    gradients: Mapping[str, np.ndarray[Any, Any]]


@cache
def load_table(family: str) -> dict[str, np.ndarray[Any, Any]]:
    """All arrays of a recorded table, ``case/kind/name`` -> array."""
    with np.load(TABLES / f"{family}.npz") as table:
        return {key: table[key] for key in table.files}


def recorded(family: str, case: Case) -> Recorded:
    """What torch said of a case. Raises KeyError where it was never recorded."""
    table = load_table(family)

    def group(kind: str) -> dict[str, np.ndarray[Any, Any]]:
        prefix = f"{case.name}/{kind}/"
        return {key.removeprefix(prefix): array for key, array in table.items() if key.startswith(prefix)}

    return Recorded(group("given"), float(table[f"{case.name}/value"]), group("output"), group("gradient"))
