"""Dense layers with the samples as last axis: activations are [units, N], and no product needs a transposed copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.contestant import Result
from benchmarks.tuned.losses import softmax_cross_entropy
from benchmarks.tuned.workspace import Workspace

Array = np.ndarray


def classifier(params: dict[str, Array], layers: Sequence[str], x: Array, y: Array, workspace: Workspace) -> tuple[Result, Array]:
    """Dense layers with ReLU between them and softmax cross-entropy, for `x` [D, N], `y` [N].

    Returns (loss, gradients of these layers) and the adjoint [H, N] of the first layer's pre-activation.
    """
    inputs = [x]
    for layer in layers:
        weight = params[f"{layer}.W"]
        z = weight.dot(inputs[-1], workspace.empty(layer, (len(weight), y.size), x.dtype))
        z += params[f"{layer}.b"][:, None]
        if layer != layers[-1]:
            inputs.append(np.maximum(z, 0, out=z))
    loss, d = softmax_cross_entropy(z, y)
    ones = np.ones(y.size, x.dtype)
    grads: dict[str, Array] = {}
    for layer, h in zip(reversed(layers), reversed(inputs), strict=True):
        grads[f"{layer}.W"] = d.dot(h.T)
        grads[f"{layer}.b"] = d.dot(ones)
        if layer != layers[0]:
            d = params[f"{layer}.W"].T.dot(d, workspace.empty(f"d_{layer}", h.shape, x.dtype))
            d *= h > 0
    return (loss, grads), d
