"""Entries of tensors as SymPy expressions: ``h[t-1,n,i]``, what may stand in subscripts, and what an expression reads.

Tensors, indices and sizes are three namespaces: their SymPy symbols are of three classes, so a gate ``i`` read at index ``i``
is no clash.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Expr, Indexed, IndexedBase

__all__ = [
    "IndexName",
    "Scalar",
    "Size",
    "TensorName",
    "base_of",
    "index",
    "index_symbols",
    "is_index_read",
    "operands",
    "read",
    "reads",
    "size",
    "tensor_of",
]


class _Label(sp.Symbol):  # type: ignore[misc]
    """A symbol whose ``str`` is its name, without a printer: names are compared and sorted everywhere."""

    __slots__ = ()

    def __str__(self) -> str:
        return str(self.name)


class TensorName(_Label):
    """The label of a tensor; never equal to an index or a size of the same name."""

    __slots__ = ()


class IndexName(_Label):
    """An iteration index: an integer of any sign."""

    __slots__ = ()


class Size(_Label):
    """A symbolic extent: an integer of at least 1."""

    __slots__ = ()


@lru_cache(maxsize=65536)
def index(name: str) -> IndexName:
    """The index symbol of this name."""
    return IndexName(name, integer=True)


@lru_cache(maxsize=65536)
def size(name: str) -> Size:
    """The size symbol of this name."""
    return Size(name, integer=True, positive=True)


@lru_cache(maxsize=65536)
def base_of(name: str, integer: bool) -> IndexedBase:
    """The SymPy base whose ``Indexed`` reads the tensor of this name."""
    return IndexedBase(TensorName(name, integer=True) if integer else TensorName(name))


# SymPy's Indexed refuses an empty subscript list, so an entry of a rank-0 tensor is read at a single dummy subscript-free
# class: ``Scalar`` is an Indexed with no subscripts.
class Scalar(Indexed):  # type: ignore[misc]
    """The read of a rank-0 tensor: an ``Indexed`` without subscripts."""

    def __new__(cls, base: IndexedBase, **_: Any) -> Scalar:
        obj: Scalar = Expr.__new__(cls, base)
        try:
            IndexedBase._set_assumptions(obj, base.assumptions0)
        except AttributeError:
            IndexedBase._set_assumptions(obj, {})
        return obj

    @property
    def indices(self) -> tuple[Expr, ...]:
        return ()

    def _sympystr(self, printer: Any) -> str:
        return f"{printer._print(self.base)}[]"


def read(name: str, subscripts: Sequence[Expr] = (), integer: bool = False) -> Indexed:
    """``name[subscripts]`` as a SymPy expression."""
    return _entry(name, tuple(map(sp.sympify, subscripts)), integer)


@lru_cache(maxsize=65536)
def _entry(name: str, subscripts: tuple[Expr, ...], integer: bool) -> Indexed:
    base = base_of(name, integer)
    return Indexed(base, *subscripts) if subscripts else Scalar(base)


def tensor_of(entry: Indexed) -> str:
    """The name of the tensor that a read or a target belongs to."""
    return str(entry.base.label.name)


def is_index_read(entry: Indexed) -> bool:
    """Whether the read is of an index tensor."""
    return bool(entry.base.label.is_integer)


@lru_cache(maxsize=65536)
def reads(expr: Any) -> tuple[Indexed, ...]:
    """The distinct reads in an expression, outermost first, each before the index reads in its own subscripts; ordered."""
    found: dict[Indexed, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Indexed):
            found.setdefault(node)
            for part in node.indices:
                walk(part)
        else:
            for part in node.args:
                walk(part)

    walk(expr)
    return tuple(sorted(found, key=_sort_key))


@lru_cache(maxsize=65536)
def operands(expr: Any) -> tuple[Indexed, ...]:
    """The distinct reads that are operands of an expression: not those that stand only inside the subscripts of others."""
    found: dict[Indexed, None] = {}

    def walk(node: Any) -> None:
        if isinstance(node, Indexed):
            found.setdefault(node)
        else:
            for part in node.args:
                walk(part)

    walk(expr)
    return tuple(sorted(found, key=_sort_key))


@lru_cache(maxsize=65536)
def _sort_key(expr: Any) -> Any:
    return sp.default_sort_key(expr)


@lru_cache(maxsize=65536)
def index_symbols(expr: Any) -> frozenset[IndexName]:
    """The iteration indices that occur in an expression."""
    return frozenset(expr.atoms(IndexName))
