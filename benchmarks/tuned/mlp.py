"""Multi-layer perceptrons: `mlp_small`, `mlp_large`."""

from __future__ import annotations

import numpy as np

from benchmarks.contestant import Result
from benchmarks.tuned.dense import classifier
from benchmarks.tuned.workspace import Workspace

Array = np.ndarray


def value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x` [N, 784], `y` [N]; `x.T` is a view, so the first product reads `x` in place."""
    result, _ = classifier(params, ("fc1", "fc2", "out"), batch["x"].T, batch["y"], workspace)
    return result
