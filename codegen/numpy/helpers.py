"""The few functions an emitted module may need beside NumPy; each is emitted only where it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["HELPERS", "needed"]

HELPERS: Mapping[str, str] = MappingProxyType({
    "_sigmoid": '''
def _sigmoid(x, out=None):
    """1/(1 + exp(-x)); exp may overflow to inf, which gives the right 0."""
    out = np.negative(x, out=np.empty_like(x) if out is None else out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)
''',
    "_softplus": '''
def _softplus(x):
    """log(1 + exp(x)) without overflow."""
    return np.logaddexp(x, DTYPE(0))
''',
    "_log_sigmoid": '''
def _log_sigmoid(x):
    """log(1/(1 + exp(-x))) without overflow."""
    return -np.logaddexp(-x, DTYPE(0))
''',
    "_erf": '''
def _erf(x):
    """The error function: its Maclaurin series (DLMF 7.6.2) below 3, erfc's continued fraction (DLMF 7.9.2) above."""
    x = np.asarray(x)
    z = np.minimum(np.abs(x).astype(np.float64), 6.0)
    small = np.minimum(z, 3.0)
    term = np.ones_like(small)
    total = np.ones_like(small)
    for k in range(1, 60):
        term *= 2 * small * small / (2 * k + 1)
        total += term
    series = total * small * np.exp(-small * small) * (2 / np.sqrt(np.pi))
    large = np.maximum(z, 3.0)
    fraction = large
    for k in range(60, 0, -1):
        fraction = large + (k / 2) / fraction
    tail = 1 - np.exp(-large * large) / (fraction * np.sqrt(np.pi))
    return np.copysign(np.where(z < 3.0, series, tail), x).astype(x.dtype)
''',
    "_windows": '''
def _windows(x, shape, steps):
    """A view of x whose axis k walks along axis steps[k][0] of x by steps[k][1] entries: windows may overlap. Read only."""
    reach = [1] * x.ndim
    for extent, (axis, step) in zip(shape, steps):
        reach[axis] += (extent - 1) * step
    assert all(r <= n for r, n in zip(reach, x.shape)), "a window leaves its array"
    strides = tuple(step * x.strides[axis] for axis, step in steps)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
''',
    "_finite": '''
def _finite(x):
    """A maximum over nothing is 0."""
    return np.where(x == -np.inf, DTYPE(0), x)
''',
    "_first_maximum": '''
def _first_maximum(x):
    """The position of the first maximum on the last axis, -1 where there was nothing to compare."""
    if not x.shape[-1]:
        return np.full(x.shape[:-1], -1)
    return np.where((x == -np.inf).all(axis=-1), -1, x.argmax(axis=-1))
''',
    "_sum_rows": '''
def _sum_rows(at, rows, count):
    """total[k] = the sum of all rows[i] where at[i] is k, for k < count: one product where it is small, else runs of one k."""
    if not at.size:
        return np.zeros((count, int(np.prod(rows.shape[at.ndim:]))), rows.dtype)
    at, rows = at.reshape(-1), rows.reshape(at.size, -1)
    if count * at.size <= 1_000_000:
        hot = np.zeros((at.size, count), rows.dtype)
        hot[np.arange(at.size), at] = 1
        return hot.T.dot(rows)
    total = np.zeros((count, rows.shape[1]), rows.dtype)
    order = at.argsort(kind="stable")
    at = at[order]
    first = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1])))
    total[at[first]] = np.add.reduceat(rows[order], first)
    return total
''',
    "_in_range": '''
def _in_range(array, low, below):
    """Whether every entry lies in low <= entry < below (argmin and argmax take a third of the time of min and max)."""
    return not array.size or low <= array.item(array.argmin()) and array.item(array.argmax()) < below
''',
})
"""Name -> source, in the order in which they are emitted."""


def needed(lines: Iterable[str]) -> list[str]:
    """The sources of the helpers that the lines call."""
    text = "\n".join(lines)
    return [source.strip("\n") + "\n" for name, source in HELPERS.items() if f"{name}(" in text]
