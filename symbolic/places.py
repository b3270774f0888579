"""Entries by their fixed places: two entries of a tensor that differ in a number on some axis never meet.

Unrolled programs write a tensor in one equation for each step (``h[0,n,i]``, ``h[1,n,i]``, ...). Who writes what a read
sees is then looked up by those numbers, not asked of every writer: what is linear in the steps stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from sympy import Indexed

from symbolic.entries import tensor_of

__all__ = ["Shelf", "fixed_places"]

Item = TypeVar("Item")


def fixed_places(entry: Indexed) -> tuple[int | None, ...]:
    """For each axis the number that stands there as a subscript, or ``None``."""
    return tuple(int(part) if part.is_Integer else None for part in entry.indices)


class Shelf(Generic[Item]):
    """Items that each have an entry; ``near(entry)`` are those of the same tensor whose entries do not differ from it in a
    number, in their order. What is left out provably never meets the entry; what is given may or may not.

    Cost: linear in the items to build; an answer costs its length.

    >>> from symbolic.program import Tensor, index
    >>> h, n = Tensor("h", (3, 4)), index("n")
    >>> shelf = Shelf([h[0, n], h[1, n], h[n, n]], lambda entry: entry)
    >>> shelf.near(h[1, 2])
    [h[1, n], h[n, n]]
    """

    def __init__(self, items: Iterable[Item], entry_of: Callable[[Item], Indexed]) -> None:
        self._items: list[Item] = list(items)
        self._kinds: dict[str, dict[tuple[bool, ...], list[int]]] = {}
        self._places: list[tuple[int | None, ...]] = []
        for k, item in enumerate(self._items):
            entry = entry_of(item)
            places = fixed_places(entry)
            self._places.append(places)
            self._kinds.setdefault(tensor_of(entry), {}).setdefault(tuple(p is not None for p in places), []).append(k)
        self._tables: dict[object, dict[tuple[int | None, ...], list[int]]] = {}

    def near(self, entry: Indexed) -> list[Item]:
        """The items whose entries may meet this one, as far as numbers tell."""
        name, asked = tensor_of(entry), fixed_places(entry)
        found: list[int] = []
        for kind, members in self._kinds.get(name, {}).items():
            axes = tuple(a for a, (theirs, mine) in enumerate(zip(kind, asked, strict=True)) if theirs and mine is not None)
            if not axes:
                found += members
                continue
            table = self._tables.get((name, kind, axes))
            if table is None:
                table = self._tables[name, kind, axes] = {}
                for k in members:
                    table.setdefault(tuple(self._places[k][a] for a in axes), []).append(k)
            found += table.get(tuple(asked[a] for a in axes), ())
        return [self._items[k] for k in sorted(found)]
