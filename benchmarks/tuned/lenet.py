"""LeNet: two 5x5 convolutions by patches (im2col), each with 2x2 maximum and ReLU, then three dense layers.

Images are kept [rows, channels, columns, N]. A patch row then copies long contiguous runs, pooling and ReLU work on
contiguous vectors, and the product of a convolution splits into one small product for each output row (or piece of a
row): those stay in cache, and below the size up to which OpenBLAS skips packing.

Shapes: u rows, v columns of the output, p, q of the kernel; o output and c input channels; a row's v are in `pieces`.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.contestant import Result
from benchmarks.tuned.dense import classifier
from benchmarks.tuned.workspace import Workspace
from benchmarks.windows import Corners, pool, pool_adjoint

Array = np.ndarray
KERNEL = 5
SMALL_PRODUCT = 1_000_000
"""Multiply-adds up to which a product is small for OpenBLAS."""


def value_and_grad(params: dict[str, Array], batch: dict[str, Array], workspace: Workspace) -> Result:
    """Loss and gradients for `x` [N, 1, 28, 28], `y` [N]."""
    x = np.ascontiguousarray(batch["x"].transpose(2, 1, 3, 0))
    patches1, z1 = convolve(x, params["conv1.W"], params["conv1.b"], workspace)
    h1 = pool(corners(z1))
    patches2, z2 = convolve(as_image(h1), params["conv2.W"], params["conv2.b"], workspace)
    h2 = pool(corners(z2))
    flat = h2.transpose(2, 0, 1, 3, 4).reshape(-1, x.shape[-1])
    (loss, grads), d_fc1 = classifier(params, ("fc1", "fc2", "out"), flat, batch["y"], workspace)

    rows, pieces, channels, columns, samples = h2.shape
    d_h2 = params["fc1.W"].T.dot(d_fc1).reshape(channels, rows, pieces, columns, samples).transpose(1, 2, 0, 3, 4)
    pool_adjoint(d_h2, h2, corners(z2))
    grads["conv2.W"], grads["conv2.b"] = weight_adjoint(patches2, z2, params["conv2.W"])
    d_h1 = input_adjoint(z2, params["conv2.W"], as_image(h1).shape, workspace)
    pool_adjoint(d_h1.reshape(h1.shape), h1, corners(z1))
    grads["conv1.W"], grads["conv1.b"] = weight_adjoint(patches1, z1, params["conv1.W"])
    return loss, grads


def as_image(pooled: Array) -> Array:
    """[u, pieces, o, v in piece, N] -> [u, o, v, N]."""
    rows, pieces, channels, columns, samples = pooled.shape
    return pooled.swapaxes(1, 2).reshape(rows, channels, pieces * columns, samples)


def convolve(x: Array, weight: Array, bias: Array, workspace: Workspace) -> tuple[Array, Array]:
    """z[u, o, v, n] = b[o] + W[o, c, p, q] x[u+p, c, v+q, n], for x [rows, c, columns, N].

    Returns the patches [u, pieces, c*p*q, v in piece * N] and z [u, pieces, o, v in piece, N].
    """
    size, channels, _, samples = x.shape
    rows = size - KERNEL + 1
    pieces = 1
    while weight.size * (rows // pieces) * samples > SMALL_PRODUCT and rows % (4 * pieces) == 0:
        pieces *= 2
    width = rows // pieces
    windows = sliding_window_view(x, (KERNEL, KERNEL), axis=(0, 2))
    shape = (rows, pieces, channels, KERNEL, KERNEL, width, samples)
    patches = workspace.empty(f"patches of {channels}", shape, x.dtype)
    for piece in range(pieces):
        patches[:, piece] = windows[:, :, piece * width : (piece + 1) * width].transpose(0, 1, 4, 5, 2, 3)
    patches = patches.reshape(rows, pieces, -1, width * samples)
    z = workspace.empty(f"z of {channels}", (rows, pieces, len(weight), width * samples), x.dtype)
    np.matmul(weight.reshape(len(weight), -1), patches, out=z)
    z += bias[:, None]
    return patches, z.reshape(rows, pieces, len(weight), width, samples)


def corners(z: Array) -> Corners:
    """The four views of a 2x2 window, in row-major order, each [u/2, pieces, o, v/2, N]."""
    return z[::2, ..., ::2, :], z[::2, ..., 1::2, :], z[1::2, ..., ::2, :], z[1::2, ..., 1::2, :]


def weight_adjoint(patches: Array, d_z: Array, weight: Array) -> tuple[Array, Array]:
    """dL/dW [o, c, p, q] and dL/db [o]: the small products of all rows, then their sum."""
    rows, pieces, channels, width, samples = d_z.shape
    d_rows = d_z.reshape(rows, pieces, channels, width * samples)
    d_weight = np.matmul(patches, d_rows.swapaxes(2, 3)).sum(axis=(0, 1))
    d_bias = d_rows.dot(np.ones(width * samples, d_z.dtype)).sum(axis=(0, 1))
    return np.ascontiguousarray(d_weight.T).reshape(weight.shape), d_bias


def input_adjoint(d_z: Array, weight: Array, shape: tuple[int, ...], workspace: Workspace) -> Array:
    """dL/dx [rows, c, columns, N]: the adjoint of every patch, added where the patch was read."""
    rows, pieces, channels, width, samples = d_z.shape
    d_rows = d_z.reshape(rows, pieces, channels, width * samples)
    d_patches = workspace.empty("d_patches", (rows, pieces, weight[0].size, width * samples), d_z.dtype)
    np.matmul(weight.reshape(channels, -1).T, d_rows, out=d_patches)
    d_patches = d_patches.reshape(rows, pieces, shape[1], KERNEL, KERNEL, width, samples)
    d_x = workspace.zeros("d_x", shape, d_z.dtype)
    for piece in range(pieces):
        for p in range(KERNEL):
            for q in range(KERNEL):
                start = piece * width + q
                d_x[p : p + rows, :, start : start + width] += d_patches[:, piece, :, p, q]
    return d_x
