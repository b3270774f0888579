"""LeNet: two 5x5 convolutions by patches (im2col), each with ReLU and 2x2 maximum, then three dense layers.

Shapes: images [N, c, rows, columns]; u rows and v columns of an output, o its channels; p, q of the kernel.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.contestant import Result
from benchmarks.hand.block import block
from benchmarks.hand.dense import classifier
from benchmarks.windows import Corners, pool, pool_adjoint

Array = np.ndarray
KERNEL = 5


def value_and_grad(params: dict[str, Array], batch: dict[str, Array]) -> Result:
    """Loss and gradients for `x` [N, 1, 28, 28], `y` [N]."""
    x = batch["x"]
    patches1, patches2 = block(x.dtype, (len(x), 1, KERNEL, KERNEL, 24, 24), (len(x), 6, KERNEL, KERNEL, 8, 8))
    z1 = convolve(x, params["conv1.W"], params["conv1.b"], patches1)
    h1 = pool(corners(z1))
    z2 = convolve(h1, params["conv2.W"], params["conv2.b"], patches2)
    h2 = pool(corners(z2))
    (loss, grads), d_fc1 = classifier(params, h2.reshape(len(h2), -1), batch["y"])
    pool_adjoint(d_fc1.dot(params["fc1.W"]).reshape(h2.shape), h2, corners(z2))  # z holds its adjoint from here on
    grads["conv2.W"], grads["conv2.b"] = weight_adjoint(patches2, z2, params["conv2.W"])
    pool_adjoint(input_adjoint(z2, params["conv2.W"], patches2), h1, corners(z1))
    grads["conv1.W"], grads["conv1.b"] = weight_adjoint(patches1, z1, params["conv1.W"])
    return loss, grads


def convolve(x: Array, weight: Array, bias: Array, patches: Array) -> Array:
    """z[n, o, u, v] = b[o] + W[o, c, p, q] x[n, c, u+p, v+q]; fills the patches [N, c, p, q, u, v]."""
    patches[...] = sliding_window_view(x, (KERNEL, KERNEL), axis=(2, 3)).transpose(0, 1, 4, 5, 2, 3)
    z: Array = np.matmul(weight.reshape(len(weight), -1), as_matrices(patches))
    z += bias[:, None]
    return z.reshape(*z.shape[:2], *patches.shape[4:])


def as_matrices(patches: Array) -> Array:
    """[N, c, p, q, u, v] -> [N, c*p*q, u*v]."""
    samples, channels, _, _, rows, columns = patches.shape
    return patches.reshape(samples, channels * KERNEL * KERNEL, rows * columns)


def corners(z: Array) -> Corners:
    """The four views of the 2x2 windows, in row-major order."""
    return z[:, :, ::2, ::2], z[:, :, ::2, 1::2], z[:, :, 1::2, ::2], z[:, :, 1::2, 1::2]


def weight_adjoint(patches: Array, d_z: Array, weight: Array) -> tuple[Array, Array]:
    """dL/dW and dL/db: a product for each image, then their sum."""
    d_rows = d_z.reshape(*d_z.shape[:2], -1)
    d_weight = np.matmul(as_matrices(patches), d_rows.transpose(0, 2, 1)).sum(axis=0)
    return np.ascontiguousarray(d_weight.T).reshape(weight.shape), d_rows.sum(axis=(0, 2))


def input_adjoint(d_z: Array, weight: Array, patches: Array) -> Array:
    """dL/dx: the adjoint of every patch, written over `patches`, added where the patch was read."""
    samples, channels, _, _, rows, columns = patches.shape
    d_rows = d_z.reshape(*d_z.shape[:2], -1)
    np.matmul(weight.reshape(len(weight), -1).T, d_rows, out=as_matrices(patches))
    d_x = np.zeros((samples, channels, rows + KERNEL - 1, columns + KERNEL - 1), patches.dtype)
    for p in range(KERNEL):
        for q in range(KERNEL):
            d_x[:, :, p : p + rows, q : q + columns] += patches[:, :, p, q]
    return d_x
