"""The workloads: one frozen `Row` each, with seeded makers of its parameters and its batch.

Names and layouts follow the specs in `benchmarks/specs`: weights are [out, in], an LSTM packs its gates i f g o in
[4H, .], a GRU packs r z n in [3H, .] and has the reset-after bias `bn` [H] of the candidate's recurrent product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np

Arrays = dict[str, np.ndarray]

SPECS = Path(__file__).parent / "specs"


@dataclass(frozen=True)
class Input:
    """One input array: real and standard normal, or, where `below` is given, integers in 0..below-1."""

    shape: tuple[int, ...]
    below: int | None = None


@dataclass(frozen=True)
class Row:
    """One workload: what is computed (`family`, `cell`), its sizes, its parameters and its inputs.

    `flops` counts the matrix products of forward and backward pass alone, as everybody counts them: 2 M N K each, three
    for a weight, two where no input's gradient is asked; every step of a recurrence counts, and a one-hot product none.

    `seed` is fixed for each row such that no ReLU and no maximum lies within rounding of its kink: there the float32
    gradient and the float64 gradient of the same model differ by a whole sample, and no tolerance could compare them.
    """

    name: str
    family: str
    sizes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Input]
    flops: int
    cell: str = ""
    seed: int = 0

    @property
    def spec(self) -> Path:
        """The model spec that describes this row to Chainrule."""
        return SPECS / f"{self.name}.yaml"

    def parameters(self, dtype: str = "float32") -> Arrays:
        """Fresh parameters, uniform in +-1/sqrt(fan-in); biases small and not zero, so that a lost bias shows."""
        rng = np.random.default_rng(self.seed)
        made: Arrays = {}
        for name, shape in self.shapes.items():
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
            bound = fan_in**-0.5
            made[name] = rng.uniform(-bound, bound, shape).astype(dtype)
        return made

    def batch(self, dtype: str = "float32") -> Arrays:
        """Fresh inputs: standard normal reals, uniform integers (int64)."""
        rng = np.random.default_rng(self.seed + 1)
        made: Arrays = {}
        for name, kind in self.inputs.items():
            if kind.below is None:
                made[name] = rng.standard_normal(kind.shape).astype(dtype)
            else:
                made[name] = rng.integers(0, kind.below, kind.shape)
        return made


def _row(
    name: str,
    family: str,
    sizes: dict[str, int],
    shapes: dict[str, tuple[int, ...]],
    inputs: dict[str, Input],
    flops: int,
    cell: str = "",
    seed: int = 0,
) -> Row:
    frozen = MappingProxyType
    return Row(name, family, frozen(sizes), frozen(shapes), frozen(inputs), flops, cell, seed)


def _products(points: int, fan_in: int, fan_out: int, first: bool = False) -> int:
    """Operations of a weight [fan_out, fan_in] at that many points, both passes; `first`: its input has no gradient."""
    return (2 if first else 3) * 2 * points * fan_in * fan_out


def _mlp(name: str, widths: tuple[int, ...], samples: int, seed: int = 0) -> Row:
    """Dense layers with ReLU between them, softmax cross-entropy over the last width."""
    shapes: dict[str, tuple[int, ...]] = {}
    flops = 0
    for number, (fan_in, fan_out) in enumerate(pairwise(widths), start=1):
        layer = "out" if number == len(widths) - 1 else f"fc{number}"
        shapes[f"{layer}.W"] = (fan_out, fan_in)
        shapes[f"{layer}.b"] = (fan_out,)
        flops += _products(samples, fan_in, fan_out, first=number == 1)
    inputs = {"x": Input((samples, widths[0])), "y": Input((samples,), below=widths[-1])}
    return _row(name, "mlp", {"N": samples}, shapes, inputs, flops, seed=seed)


def _lenet(name: str, samples: int, seed: int = 0) -> Row:
    """Two 5x5 convolutions without padding, each with ReLU and 2x2 maximum, then dense 120, 84, 10."""
    shapes = {
        "conv1.W": (6, 1, 5, 5), "conv1.b": (6,),
        "conv2.W": (16, 6, 5, 5), "conv2.b": (16,),
        "fc1.W": (120, 256), "fc1.b": (120,),
        "fc2.W": (84, 120), "fc2.b": (84,),
        "out.W": (10, 84), "out.b": (10,),
    }  # fmt: skip
    inputs = {"x": Input((samples, 1, 28, 28)), "y": Input((samples,), below=10)}
    flops = _products(24 * 24 * samples, 25, 6, first=True) + _products(8 * 8 * samples, 6 * 25, 16)
    flops += sum(_products(samples, fan_in, fan_out) for fan_in, fan_out in pairwise((256, 120, 84, 10)))
    return _row(name, "lenet", {"N": samples}, shapes, inputs, flops, seed=seed)


def _cell(cell: str, features: int, units: int) -> dict[str, tuple[int, ...]]:
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
    shapes: dict[str, tuple[int, ...]] = {
        f"{cell}.W": (gates * units, features),
        f"{cell}.U": (gates * units, units),
        f"{cell}.b": (gates * units,),
    }
    if cell == "gru":
        shapes["gru.bn"] = (units,)
    return shapes


def _cell_flops(shapes: Mapping[str, tuple[int, ...]], cell: str, points: int, first: bool) -> int:
    """Products of W and U; `first`: the layer reads the input."""
    (rows, features), (_, units) = shapes[f"{cell}.W"], shapes[f"{cell}.U"]
    return _products(points, features, rows, first) + _products(points, units, rows)


def _recurrent(name: str, cell: str, features: int, units: int, steps: int, samples: int, seed: int = 0) -> Row:
    """One recurrent layer on real inputs; mean squared error of its states against targets at every step."""
    inputs = {"x": Input((steps, samples, features)), "y": Input((steps, samples, units))}
    sizes = {"T": steps, "N": samples, "D": features, "H": units}
    shapes = _cell(cell, features, units)
    flops = _cell_flops(shapes, cell, steps * samples, first=True)
    return _row(name, "recurrent", sizes, shapes, inputs, flops, cell, seed)


def _language(name: str, cell: str, vocabulary: int, width: int, units: int, steps: int, samples: int) -> Row:
    """A language model: one-hot (width 0) or embedding, a recurrent layer, dense, cross-entropy at every step."""
    shapes: dict[str, tuple[int, ...]] = {"embed.E": (vocabulary, width)} if width else {}
    shapes |= _cell(cell, width or vocabulary, units)
    shapes |= {"out.W": (vocabulary, units), "out.b": (vocabulary,)}
    tokens = Input((steps, samples), below=vocabulary)
    sizes = {"T": steps, "N": samples, "V": vocabulary, "E": width, "H": units}
    points = steps * samples
    flops = _cell_flops(shapes, cell, points, first=False) + _products(points, units, vocabulary)
    if not width:  # a one-hot product is a choice of columns
        flops -= _products(points, vocabulary, shapes[f"{cell}.b"][0])
    return _row(name, "language", sizes, shapes, {"x": tokens, "y": tokens}, flops, cell)


ROWS: Mapping[str, Row] = MappingProxyType(
    {
        row.name: row
        for row in (
            _mlp("mlp_small", (784, 128, 64, 10), samples=32),
            _mlp("mlp_large", (784, 1024, 1024, 10), samples=256),
            _lenet("lenet", samples=64),
            _language("rnn_char", "rnn", vocabulary=65, width=0, units=100, steps=25, samples=1),
            _recurrent("rnn_small", "rnn", features=32, units=64, steps=50, samples=32),
            _recurrent("lstm_small", "lstm", features=32, units=64, steps=50, samples=32),
            _recurrent("gru_small", "gru", features=32, units=64, steps=50, samples=32),
            _language("lstm_lm", "lstm", vocabulary=65, width=128, units=256, steps=100, samples=32),
            _recurrent("rnn_long", "rnn", features=4, units=16, steps=10_000, samples=1),
            _recurrent("lstm_tiny", "lstm", features=4, units=8, steps=20, samples=1),
        )
    }
)

HAND_TO_TORCH: Mapping[str, float] = MappingProxyType(
    {
        "mlp_small": 0.488,
        "mlp_large": 0.490,
        "lenet": 1.91,
        "rnn_char": 0.193,
        "rnn_small": 0.406,
        "lstm_small": 1.36,
        "lstm_lm": 1.06,
        "gru_small": 0.515,
        "rnn_long": 0.126,
        "lstm_tiny": 0.944,
    }
)
"""Reference of the rule in `bar.py`: time of good hand-written NumPy relative to eager torch, one core, float32."""
