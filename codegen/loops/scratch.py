"""How many entries the helpers of an emitted file say that they need, here in Python: the ``#define`` of a workspace whose sizes
are all fixed, and what ``show`` prints. A test holds both against what the C says (codegen/c/templates/products.c).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

__all__ = ["entries"]


def entries(name: str, sizes: tuple[int, ...], real_bytes: int) -> int:
    """The entries of ``name(sizes)``."""
    return _NEEDS[name](*sizes, real_bytes)


def _packed(inner: int, columns: int, real_bytes: int) -> int:
    line = 64 // real_bytes
    return inner * (-(-columns // line) * line)


def _product(rows: int, columns: int, inner: int, real_bytes: int) -> int:
    return min(inner, 256) * (min(_packed(1, columns, real_bytes), 2048 // real_bytes) + min((rows + 7) // 8 * 8, 256))


def _product_at(rows: int, columns: int, inner: int, real_bytes: int) -> int:
    patches = min(inner * min(columns, 1024 // real_bytes), 262144 // real_bytes)
    return patches + _product(rows, columns, inner, real_bytes)


def _product_scatter(rows: int, columns: int, inner: int, real_bytes: int) -> int:
    return min(inner, 32) * min(columns, 1024 // real_bytes) + _product(inner, columns, rows, real_bytes)


_NEEDS: Mapping[str, Callable[..., int]] = {
    "packed_size": _packed, "product_scratch": _product, "product_at_scratch": _product_at,
    "product_scatter_scratch": _product_scatter,
}
