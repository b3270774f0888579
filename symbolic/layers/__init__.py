"""The catalogue of layers: an explicit table from type name to the module that has the equations, loaded when asked
for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symbolic.layers.base import LayerType

__all__ = ["LAYERS", "SUMMARIES"]

SUMMARIES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "dense": ("dense", "affine map of the last axis: W x + b"),
        "one_hot": ("one_hot", "integers to rows of zeros with a single one"),
        "embedding": ("embedding", "integers to rows of a trained table"),
        "identity": ("activation", "x"),
        "sigmoid": ("activation", "1 / (1 + exp(-x))"),
        "tanh": ("activation", "hyperbolic tangent"),
        "relu": ("activation", "max(x, 0)"),
        "leaky_relu": ("activation", "x, or slope*x below 0"),
        "prelu": ("activation", "x, or a trained slope times x below 0"),
        "elu": ("activation", "x, or alpha*(exp(x) - 1) below 0"),
        "selu": ("activation", "self-normalising elu"),
        "celu": ("activation", "elu with a continuous slope for every alpha"),
        "gelu": ("activation", "x times the normal distribution function (erf or tanh form)"),
        "silu": ("activation", "x*sigmoid(x)"),
        "mish": ("activation", "x*tanh(softplus(x))"),
        "softplus": ("activation", "log(1 + exp(x))"),
        "softsign": ("activation", "x / (1 + |x|)"),
        "hard_sigmoid": ("activation", "straight line between 0 and 1"),
        "hard_tanh": ("activation", "straight line between -1 and 1"),
        "hard_swish": ("activation", "x*hard_sigmoid(x)"),
        "thresholded_relu": ("activation", "x above a threshold, else a value"),
        "softmax": ("activation", "exp(x) / sum(exp(x))"),
        "log_softmax": ("activation", "x - log(sum(exp(x)))"),
        "glu": ("activation", "one half times the sigmoid of the other"),
        "rnn": ("rnn", "Elman network: h[t] = tanh(W x[t] + U h[t-1] + b)"),
        "lstm": ("lstm", "long short-term memory"),
        "gru": ("gru", "gated recurrent unit, reset before or after the product"),
        "conv1d": ("convolution", "convolution over one axis"),
        "conv2d": ("convolution", "convolution over two axes"),
        "max_pool1d": ("pooling", "maximum of windows over one axis"),
        "max_pool2d": ("pooling", "maximum of windows over two axes"),
        "avg_pool1d": ("pooling", "average of windows over one axis"),
        "avg_pool2d": ("pooling", "average of windows over two axes"),
        "global_max_pool": ("pooling", "maximum of each channel"),
        "global_avg_pool": ("pooling", "average of each channel"),
        "flatten": ("flatten", "several axes as one"),
        "reshape": ("reshape", "the same entries in another shape"),
        "transpose": ("transpose", "axes in another order"),
        "add": ("merge", "sum of its inputs (residual)"),
        "multiply": ("merge", "product of its inputs"),
        "concat": ("merge", "inputs side by side on one axis"),
        "equations": ("equations", "your own index equations"),
    }
)
"""Type name -> (module in this folder, one line about it)."""


def __getattr__(name: str) -> Mapping[str, LayerType]:
    """``LAYERS``: type name -> LayerType, built on first use so that listing the names costs no import of SymPy."""
    if name != "LAYERS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from symbolic.layers.base import LayerType

    table = MappingProxyType(
        {kind: LayerType(kind, f"{__name__}.{module}", summary) for kind, (module, summary) in SUMMARIES.items()}
    )
    globals()["LAYERS"] = table
    return table
