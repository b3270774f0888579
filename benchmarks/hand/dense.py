"""Dense layers with ReLU and softmax cross-entropy: `mlp_small`, `mlp_large`, and the end of `lenet`."""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.hand.losses import softmax_cross_entropy

Array = np.ndarray


def classifier(params: dict[str, Array], x: Array, y: Array) -> tuple[Result, Array]:
    """Layers fc1, fc2, out for `x` [N, D], `y` [N]: (loss, gradients), and the adjoint of fc1's pre-activation."""
    layers = ("fc1", "fc2", "out")
    inputs = [x]
    for layer in layers:
        z = params[f"{layer}.W"].dot(inputs[-1].T).T  # of the two orders OpenBLAS' faster one
        z += params[f"{layer}.b"]
        inputs.append(z if layer == "out" else np.maximum(z, 0, out=z))
    loss, d = softmax_cross_entropy(inputs.pop(), y)
    grads: dict[str, Array] = {}
    for layer, h in zip(reversed(layers), reversed(inputs), strict=True):
        grads[f"{layer}.W"] = d.T.dot(h)
        grads[f"{layer}.b"] = d.sum(axis=0)
        if layer != "fc1":
            d = params[f"{layer}.W"].T.dot(d.T).T
            d *= h > 0
    return (loss, grads), d


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [N, D], `y` [N]."""
    result, _ = classifier(params, batch["x"], batch["y"])
    return result
