"""Sums of products as matrix products: which axes are rows, columns, contracted, batched, and what needs no copy.

Given operands with labelled axes and the labels to keep, the text is built from ``@`` on two-dimensional reshapes where it
can be, ``np.matmul`` over leading batch axes, and ``np.einsum`` where neither fits. Axes are grouped so that a reshape of a
contiguous array stays a view: ``d_a.reshape(-1, H).T @ h.reshape(-1, H)``, never a transposed copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import sympy as sp
from sympy import Expr

from codegen.numpy.operands import Operand, aligned, transposed
from codegen.numpy.printer import Call, integer_text
from codegen.numpy.stock import Labels, Stock
from symbolic.program import IndexName

__all__ = ["Contractor"]


class Contractor:
    """Writes contractions; ``extent`` gives the extent of a label, ``estimate`` a number for it (for the order of products).

    ``binds``: the result becomes an array of its own, whose axes may lie in memory in any order; ``memory``: the order that
    suits its readers.
    """

    def __init__(
        self, extent: Callable[[IndexName], Expr], estimate: Callable[[IndexName], int],
        prelude: Callable[[str], str] | None = None, stock: Stock | None = None, binds: bool = False,
        memory: Labels = (),
    ) -> None:
        self.extent, self.estimate, self.prelude = extent, estimate, prelude
        self.stock = stock
        self.binds, self.memory = binds, memory

    def contract(self, operands: Sequence[Operand], kept: Labels) -> Operand:
        """The sum over all labels not kept of the product of the operands, axes in the order of ``kept`` where that is free."""
        parts = [self._presum(o, [p for p in operands if p is not o], kept) for o in operands]
        while len(parts) > 1:
            a, b = self._pair(parts, kept)
            rest = [p for p in parts if p is not a and p is not b]
            needed = set(kept).union(*(p.labels for p in rest))
            wanted = tuple(label for label in (*kept, *_extra(a, b, kept)) if label in needed)
            merged = self.product(a, b, tuple(label for label in wanted if label in {*a.labels, *b.labels}))
            parts = [*rest, merged]
            parts = [self._presum(o, [p for p in parts if p is not o], kept) for o in parts]
        return parts[0]

    def _presum(self, operand: Operand, others: Iterable[Operand], kept: Labels) -> Operand:
        """Sum out what only this operand carries."""
        elsewhere = {label for other in others for label in other.labels}
        gone = [label for label in operand.labels if label not in kept and label not in elsewhere]
        if not gone:
            return operand
        left = tuple(label for label in operand.labels if label not in gone)
        if left and operand.labels == (*gone, *left):
            # A sum over leading axes as a product with ones: the BLAS adds rows faster than np.sum.
            rows = self._size(tuple(gone))
            # Both sizes are written: where one may be 0, -1 would have no value.
            shape = f"{rows}, {self._size(left)}"
            matrix = operand.wrapped() if len(gone) == len(left) == 1 else f"{operand.wrapped()}.reshape({shape})"
            ones = f"np.ones({rows}, DTYPE)" if self.stock is None else self.stock.ones(rows)
            text = f"{ones}.dot({matrix})"
            if len(left) == 1:
                return Operand(text, left, False, True)
            shape = ", ".join(integer_text(self.extent(label)) for label in left)
            return Operand(f"{text}.reshape({shape})", left, True, True)
        return summed(operand, gone)

    def _pair(self, parts: Sequence[Operand], kept: Labels) -> tuple[Operand, Operand]:
        """The next two operands to multiply (opt_einsum's greedy order for three or more)."""
        if len(parts) == 2:
            return parts[0], parts[1]
        import opt_einsum

        letters: dict[IndexName, str] = {}
        for part in parts:
            for label in part.labels:
                letters.setdefault(label, opt_einsum.get_symbol(len(letters)))
        spec = ",".join("".join(letters[label] for label in part.labels) for part in parts)
        out = "".join(letters[label] for label in kept if label in letters)
        shapes = [tuple(self.estimate(label) for label in part.labels) for part in parts]
        path, _ = opt_einsum.contract_path(f"{spec}->{out}", *shapes, shapes=True, optimize="optimal"
                                           if len(parts) < 6 else "greedy")
        first, second = sorted(path[0])[:2]
        return parts[first], parts[second]

    def product(self, a: Operand, b: Operand, wanted: Labels) -> Operand:
        """One product of two operands, summed over the shared labels that are not wanted."""
        shared = set(a.labels) & set(b.labels)
        contracted = [label for label in a.labels if label in shared and label not in wanted]
        batch = tuple(label for label in wanted if label in shared)
        rows = tuple(label for label in a.labels if label not in shared)
        columns = tuple(label for label in b.labels if label not in shared)
        if not contracted:
            order = tuple(label for label in wanted if label in a.labels or label in b.labels)
            x, y = aligned(a, order), aligned(b, order)
            return Operand(f"{x.wrapped()} * {y.wrapped()}", order, False, True)
        if batch:
            return self._batched(a, b, batch, rows, columns, tuple(contracted), wanted)
        inner = self._inner_order(a, b, tuple(contracted))
        if not rows and not columns:
            x, y = transposed(a, inner), transposed(b, inner)
            return Operand(f"np.vdot({x.text}, {y.text})", (), True, True)
        first = [label for label in wanted if label in rows or label in columns]
        if columns and first and first[0] in columns:
            a, b, rows, columns = b, a, columns, rows
        lead = self._interleaved(first, rows, columns)
        if lead:
            return self._spread(a, b, lead, tuple(r for r in rows if r not in lead), columns, inner)
        folded = self._over_patches(a, b, rows, columns, tuple(contracted))
        if folded is not None:
            return folded
        left = self._flat(a, rows, inner)
        right = self._flat(b, inner, columns)
        text = f"{left}.dot({right})"
        if self.prelude is not None and max(len(rows), len(columns), len(inner)) == 1:
            # Inside a loop calls count: ndarray.dot costs a third of matmul's, and a transposed operand twice a plain one.
            left, right = (self.prelude(side) if operand.fixed and not side.isidentifier() else side
                           for side, operand in ((left, a), (right, b)))
            call = Call(f"{left}.dot", (right,))
            return Operand(str(call), (*rows, *columns), True, True, call=call)
        if len(rows) > 1 or len(columns) > 1:
            shape = ", ".join(integer_text(self.extent(label)) for label in (*rows, *columns))
            flat = ", ".join(self._size(group) for group in (rows, columns) if group)
            return Operand(f"{text}.reshape({shape})", (*rows, *columns), True, True, call=Call(f"{left}.dot", (right,), flat))
        # Of two stacks of rows the activations' transpose is free, and weights @ columns is the order that the BLAS does best.
        stacked = len(rows) == len(inner) == 1 and a.labels == (*rows, *inner) and b.labels == (*columns, *inner)
        if self.binds and (stacked or rows and columns and self.memory == (*columns, *rows)):
            left, right = self._flat(b, columns, inner), self._flat(a, inner, rows)
            return Operand(f"{left}.dot({right}).T", (*rows, *columns), True, True, memory=(*columns, *rows))
        return Operand(text, (*rows, *columns), False, True, call=Call("np.matmul", (left, right)))

    @staticmethod
    def _interleaved(first: Sequence[IndexName], rows: Labels, columns: Labels) -> Labels:
        """The leading rows, where the wanted order is rows, columns, rows (a convolution: n, o, u, v)."""
        sides = ["r" if label in rows else "c" for label in first]
        changes = sum(x != y for x, y in pairwise(sides))
        if changes != 2 or sides[0] != "r":
            return ()
        return tuple(first[: sides.index("c")])

    def _spread(self, a: Operand, b: Operand, lead: Labels, rows: Labels, columns: Labels, inner: Labels) -> Operand:
        """``b[columns, inner] @ a[lead, inner, rows]``: one product for each leading entry, no transpose of the result.

        Where there are several rows to slice (the u and v of an image) the lead (its samples) goes to the end, and the first
        rows lead: windows, maxima over them and their adjoints then run over the samples, not over pieces of a row.
        """
        wanted = (*lead, *columns, *rows)
        if self._goes_last(a, lead, rows):
            lead, rows = rows[:-1], (rows[-1], *lead)
        left = self._flat(b, columns, inner)
        order = (*lead, *inner, *rows)
        sizes = [integer_text(self.extent(label)) for label in lead]
        if a.window is None:
            text = transposed(a, order).wrapped()
        else:
            last = self.stock is not None and rows[-1] in wanted[:1]
            text = a.window.text(order, self.stock.turned(a.window, order) if self.stock is not None and last else "")
        if len(inner) > 1 or len(rows) > 1:
            text += f".reshape({', '.join([*sizes, self._size(inner), self._size(rows)])})"
        if a.window is not None and self.stock is not None:
            text = self.stock.lay_out(a.window, text, lead, inner, rows)
        result = f"{left} @ {text}"
        labels = (*lead, *columns, *rows)
        memory = labels if labels != wanted else ()
        if len(rows) > 1 or len(columns) > 1:
            shape = ", ".join(integer_text(self.extent(label)) for label in labels)
            return Operand(f"({result}).reshape({shape})", labels, True, True, memory=memory)
        return Operand(result, labels, False, True, memory=memory)

    def _goes_last(self, a: Operand, lead: Labels, rows: Labels) -> bool:
        """Whether the lead of a product had best lie innermost: there is more than one axis to slice, and it lies there
        already or patches are laid out anyway."""
        if self.stock is None or len(lead) != 1 or len(rows) < 2:
            return False
        return a.window.walked_alone(lead[0]) if a.window is not None else a.memory[-1:] == lead

    def _over_patches(
        self, a: Operand, b: Operand, rows: Labels, columns: Labels, contracted: Labels
    ) -> Operand | None:
        """A weight gradient over patches that the forward pass laid out: one product for each leading entry, then their sum."""
        found = self.stock.laid_out(b.window) if self.stock is not None and b.window is not None else None
        if found is None:
            return None
        name, lead, inner, window_rows = found
        if set(contracted) != {*lead, *window_rows} or set(columns) != set(inner) or not rows:
            return None
        ordered = transposed(a, (*lead, *rows, *window_rows))
        text = ordered.wrapped()
        if len(rows) > 1 or len(window_rows) > 1:
            sizes = [integer_text(self.extent(label)) for label in lead]
            text += f".reshape({', '.join([*sizes, self._size(rows), self._size(window_rows)])})"
        axes = "0" if len(lead) == 1 else f"({', '.join(str(k) for k in range(len(lead)))})"
        # Patches first: the longer side leads the product.
        total = f"({name} @ {text}.swapaxes(-1, -2)).sum(axis={axes}).T"
        shape = ", ".join(integer_text(self.extent(label)) for label in (*rows, *inner))
        return Operand(f"{total}.reshape({shape})", (*rows, *inner), True, True)

    def _inner_order(self, a: Operand, b: Operand, contracted: Labels) -> Labels:
        """The order of the contracted labels: as the larger operand holds them."""
        in_b = tuple(label for label in b.labels if label in contracted)
        return contracted if self._volume(a.labels) >= self._volume(b.labels) else in_b

    def _volume(self, labels: Labels) -> int:
        volume = 1
        for label in labels:
            volume *= self.estimate(label)
        return volume

    def _flat(self, operand: Operand, first: Labels, second: Labels) -> str:
        """The operand as a matrix ``first x second`` (a vector where one group is empty)."""
        if not first or not second:
            group = first or second
            ordered = transposed(operand, group)
            return ordered.wrapped() if len(group) == 1 else f"{ordered.wrapped()}.reshape(-1)"
        if operand.labels == (*first, *second):
            return self._matrix(operand, first, second)
        if operand.labels == (*second, *first):
            return f"{self._matrix(operand, second, first)}.T"
        return self._matrix(transposed(operand, (*first, *second)), first, second)

    def _matrix(self, operand: Operand, first: Labels, second: Labels) -> str:
        if len(first) == len(second) == 1:
            return operand.wrapped()
        # Beside an extent that may be 0, -1 would have no value.
        plain = all(self.extent(label).is_positive for label in second)
        if plain and (len(second) == 1 or self._volume(first) >= self._volume(second)):
            return f"{operand.wrapped()}.reshape(-1, {self._size(second)})"
        return f"{operand.wrapped()}.reshape({self._size(first)}, {self._size(second)})"

    def _size(self, labels: Labels) -> str:
        return integer_text(sp.Mul(*(self.extent(label) for label in labels)))

    def _batched(
        self, a: Operand, b: Operand, batch: Labels, rows: Labels, columns: Labels, inner: Labels, wanted: Labels
    ) -> Operand:
        """``np.matmul`` over leading batch axes, every other group of axes reshaped to one."""
        order = (*batch, *rows, *columns)
        if not rows or not columns:
            return self._einsum(a, b, tuple(label for label in wanted if label in order))
        sizes = [integer_text(self.extent(label)) for label in batch]
        texts = []
        for operand, first, second in ((a, rows, inner), (b, inner, columns)):
            text = transposed(operand, (*batch, *first, *second)).wrapped()
            if len(first) > 1 or len(second) > 1:
                text += f".reshape({', '.join([*sizes, self._size(first), self._size(second)])})"
            texts.append(text)
        result = " @ ".join(texts)
        if len(rows) > 1 or len(columns) > 1:
            shape = ", ".join(integer_text(self.extent(label)) for label in order)
            return Operand(f"({result}).reshape({shape})", order, True, True)
        return Operand(result, order, False, True)

    def _einsum(self, a: Operand, b: Operand, order: Labels) -> Operand:
        letters: dict[IndexName, str] = {}
        for label in (*a.labels, *b.labels):
            letters.setdefault(label, _letter(label, letters))
        spec = ",".join("".join(letters[label] for label in o.labels) for o in (a, b))
        out = "".join(letters[label] for label in order)
        return Operand(f'np.einsum("{spec}->{out}", {a.text}, {b.text}, optimize=True)', order, True, True)


def _letter(label: IndexName, used: Mapping[IndexName, str]) -> str:
    name = str(label)
    if len(name) == 1 and name.isascii() and name.isalpha() and name not in used.values():
        return name
    return next(c for c in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in used.values())


def _extra(a: Operand, b: Operand, kept: Labels) -> Labels:
    return tuple(dict.fromkeys(label for label in (*a.labels, *b.labels) if label not in kept))


def summed(operand: Operand, gone: Sequence[IndexName]) -> Operand:
    """The operand summed over some of its labels."""
    axes = [operand.labels.index(label) for label in gone]
    left = tuple(label for label in operand.labels if label not in gone)
    if not left:
        return Operand(f"{operand.wrapped()}.sum()", (), True, True)
    axis = f"axis={axes[0]}" if len(axes) == 1 else f"axis=({', '.join(map(str, sorted(axes)))})"
    return Operand(f"{operand.wrapped()}.sum({axis})", left, True, True)
