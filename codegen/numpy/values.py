"""The values of equations as operands: element-wise expressions, sums of products, masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage
from codegen.numpy.buffers import Plan
from codegen.numpy.contraction import Contractor
from codegen.numpy.layout import common_memory, partner_memory
from codegen.numpy.operands import Operand, aligned
from codegen.numpy.pieces import is_atom
from codegen.numpy.printer import NumPyPrinter, Text, integer_text
from codegen.numpy.steps import Steps
from codegen.numpy.stock import Stock
from codegen.numpy.views import Viewer
from symbolic.analysis import index_reads
from symbolic.functions import row_of
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Program,
    Role,
    index_symbols,
    operands,
    reads,
    size,
    tensor_of,
)

__all__ = ["INDENT", "Values"]

FREE_SIZE_ESTIMATE = 32
UNBOUNDED = frozenset({"exp", "expm1", "log", "log1p", "sinh", "cosh", "tan"})
"""Functions that may be infinite where their argument is not."""
INDENT = "    "


class Values:
    """What an equation adds, as NumPy text; holds the state of the function that is written."""

    def __init__(self, program: Program, storages: Mapping[str, Storage], plan: Plan) -> None:
        self.program, self.storages, self.plan = program, storages, plan
        self.printer = NumPyPrinter()
        self.lines: list[str] = []
        self.depth = self.top = 0
        self.loops: dict[IndexName, Index] = {}
        self.values = {size(n): v for n, v in program.sizes.items() if v is not None}
        self.arguments: dict[object, str] = {}
        self.padded: set[str] = set()
        self.written: frozenset[str] = frozenset()
        self.fixed: dict[str, str] = {}
        self.steps: Steps | None = None
        self.scratch: dict[tuple[Expr, ...], str] = {}
        self.stock = Stock(self.emit, plan.fresh)
        self.memory: dict[str, tuple[int, ...]] = {}
        self.stepwise: set[str] = set()  # tensors that loops write step by step: the steps lie one after the other
        self.parted: set[str] = set()  # tensors of which a block sees a part along a later axis: it is not in one piece
        self.over: set[str] = set()  # tensors that are written over another one's array

    def emit(self, text: str) -> None:
        self.lines.append(f"{INDENT * self.depth}{text}")

    def _viewer(self, equation: Equation) -> Viewer:
        viewer = Viewer(self.program, self.storages, {i.symbol: i for i in equation.indices}, self.loops, self.written,
                        self.steps)
        viewer.first, viewer.memory = frozenset(i.symbol for i in equation.free), self.memory
        viewer.stock, viewer.parted = None if self.loops else self.stock, self.parted
        return viewer

    def _relation(self, guard: Expr, viewer: Viewer, order: Sequence[IndexName]) -> str:
        """A guard as a boolean expression whose axes follow ``order``."""
        left, right = (self._side(side, viewer, order) for side in (guard.lhs, guard.rhs))
        tests = [f"({left} {guard.rel_op} {right})"]
        for entry in index_reads((guard.lhs, guard.rhs)):
            tensor = self.program.tensor(tensor_of(entry))
            if tensor.ignore is None or guard != sp.Ne(entry, tensor.ignore):  # which says so itself
                tests += viewer.somewhere(entry, order)
        return " & ".join(dict.fromkeys(tests))

    def _side(self, side: Expr, viewer: Viewer, order: Sequence[IndexName]) -> str:
        real = [r for r in reads(side) if not self.program.tensor(tensor_of(r)).is_index]
        if real:
            return self._scalar_text(side, viewer, order)
        return viewer.index_array(sp.expand(side), order)

    def _scalar_text(self, body: Expr, viewer: Viewer, order: Sequence[IndexName]) -> str:
        """An element-wise expression over views aligned to ``order``."""
        return str(self.printer.doprint(self._with_views(body, viewer, order)))

    def _with_views(self, body: Expr, viewer: Viewer, order: Sequence[IndexName]) -> Expr:
        rule: dict[Expr, Expr] = {}
        for entry in operands(body):
            operand = aligned(viewer.view(entry), order)
            text = operand.wrapped()
            if self.program.tensor(tensor_of(entry)).is_index:
                text = f"{text}.astype(DTYPE)"
            rule[entry] = Text.placed(self.program.position(entry), text)
        replaced = body.xreplace(rule)
        values = {}
        for symbol in sorted(index_symbols(replaced), key=str):
            if symbol in viewer.vector:
                arange = viewer.arange(symbol)
                text = arange.text[:-1] + ", dtype=DTYPE)"
                values[symbol] = Text(aligned(Operand(text, arange.labels), order).text)
        return replaced.xreplace(values)

    def _labels(self, expr: Expr, viewer: Viewer) -> frozenset[IndexName]:
        return frozenset(s for s in index_symbols(expr) if s in viewer.vector)

    def _elementwise(self, body: Expr, viewer: Viewer, order: Sequence[IndexName]) -> Operand:
        """The body as one operand with the labels it has, in the given order."""
        mine = self._labels(body, viewer)
        labels = tuple(label for label in order if label in mine)
        if isinstance(body, Indexed) and not self.program.tensor(tensor_of(body)).is_index:
            return viewer.view(body)
        text = self._scalar_text(body, viewer, labels)
        memory = common_memory(map(viewer.view, operands(body)), labels) if self.memory else ()
        return Operand(text, labels, is_atom(text), True, memory=memory)

    def _contraction(
        self, equation: Equation, viewer: Viewer, kept: tuple[IndexName, ...], binds: bool = False
    ) -> Operand:
        """A sum of products: factors grouped by their labels, then products in the best order."""
        order = (*kept, *(i.symbol for i in equation.reduced))
        groups: dict[frozenset[IndexName], Expr] = {}
        for factor in sorted(sp.Mul.make_args(equation.body), key=self._position):
            labels = self._labels(factor, viewer)
            groups[labels] = groups.get(labels, sp.Integer(1)) * factor
        scalar = groups.pop(frozenset(), sp.Integer(1))
        if not kept and len(groups) == 1 and not equation.guards:
            ((labels, square),) = groups.items()
            if square.is_Pow and square.exp == 2 and isinstance(square.base, Indexed):
                operand = viewer.view(square.base)
                if operand.labels and set(operand.labels) == {i.symbol for i in equation.reduced}:
                    value = Operand(f"np.vdot({operand.text}, {operand.text})", (), True, True)
                    return Operand(self._scaled(value, scalar, viewer), (), False, True) if scalar != 1 else value
        mask_labels = frozenset().union(*(self._labels(g, viewer) for g in equation.guards)) if equation.guards else None
        covering = {i.symbol for i in equation.reduced}
        if mask_labels is not None and not any(mask_labels <= labels for labels in groups):
            wide = frozenset(mask_labels).union(*(labels for labels in groups if labels & mask_labels))
            merged = sp.Mul(*(groups.pop(labels) for labels in list(groups) if labels & mask_labels))
            groups[wide] = merged
        partly = self._join_under_mask(groups, mask_labels) if mask_labels is not None else []
        missing = covering - frozenset().union(*groups, frozenset()) if groups else covering
        factors = []
        for labels, expr in groups.items():
            operand = self._elementwise(expr, viewer, order)
            if mask_labels is not None and mask_labels <= labels:
                operand = self._masked(equation, viewer, operand, tuple(s for s in order if s in labels))
            elif labels in partly:
                operand = self._masked_somewhere(equation, viewer, operand, order)
            factors.append(operand)
        if not factors:
            factors = [Operand("1", (), True)]
        contractor = Contractor(viewer.extent, lambda s: self._estimate(viewer.extent(s)),
                                self._fix if self.loops else None, None if self.loops else self.stock, binds,
                                partner_memory(equation.name, kept, self.memory, self.program) if binds else ())
        result = contractor.contract(factors, kept)
        for label in missing:
            scalar = scalar * viewer.extent(label)
        if scalar != 1:
            text = self._scaled(result, scalar, viewer)
            result = Operand(text, result.labels, False, True, memory=result.memory)
        return result

    def _join_under_mask(
        self, groups: dict[frozenset[IndexName], Expr], mask: frozenset[IndexName]
    ) -> list[frozenset[IndexName]]:
        """What the mask keeps out may be infinite or no number, in any factor, and 0 times that is no number (law 3).

        Factors with all labels of the mask are masked one by one. Another one that may not be finite joins one of these, so
        that their product is masked: where that has no more labels, or the factor is a function that overflows. What is left
        (a read that would make the product larger) is returned: it is masked wherever no instance at all reads it.
        """
        partly = []
        for labels in list(groups):
            if not labels & mask or mask <= labels or not self._may_be_infinite(groups[labels]):
                continue
            hosts = sorted((h for h in groups if mask <= h), key=lambda h: len(h | labels))
            if not labels <= hosts[0] and not self._may_overflow(groups[labels]):
                partly.append(labels)
                continue
            merged = groups.pop(hosts[0]) * groups.pop(labels)
            groups[hosts[0] | labels] = groups.get(hosts[0] | labels, sp.Integer(1)) * merged
        return partly

    def _position(self, factor: Expr) -> tuple[int, Any]:
        """Where a factor stands: by the first declared tensor that it reads."""
        first = min(map(self.program.position, operands(factor)), default=-1)
        return first, sp.default_sort_key(factor)

    def _may_be_infinite(self, expr: Expr) -> bool:
        """Whether an expression is more than parameters, which are finite, and indices."""
        tensors = (self.program.tensor(tensor_of(entry)) for entry in operands(expr))
        return self._may_overflow(expr) or any(t.role is not Role.PARAMETER and not t.is_index for t in tensors)

    def _may_overflow(self, expr: Expr, deep: bool = True) -> bool:
        """Whether an expression is more than sums, products and bounded functions of what it reads; a tensor that holds the
        values of one function counts as that function."""
        for node in sp.preorder_traversal(expr):
            row = row_of(node)
            if node.is_Pow and not (node.exp.is_Integer and node.exp > 0) or row is not None and row.name in UNBOUNDED:
                return True
        return deep and any(self._may_overflow(e.body, False) for r in operands(expr)
                            for e in self.program.writers.get(tensor_of(r), ()) if not e.reduced)

    def _scaled(self, operand: Operand, scalar: Expr, viewer: Viewer) -> str:
        marker = Text(operand.text if operand.atom else f"({operand.text})")
        above, below = sp.fraction(scalar)
        if not operand.labels and above == 1 and not operands(scalar):
            bottom = integer_text(below)
            return f"{marker.shown}/({bottom})" if "*" in bottom else f"{marker.shown}/{bottom}"
        return str(self.printer.doprint(sp.Mul(self._with_views(scalar, viewer, ()), marker)))

    def _masked(self, equation: Equation, viewer: Viewer, operand: Operand, order: tuple[IndexName, ...]) -> Operand:
        """The operand where the guards hold, else 0; it has the axes of the operand and of the guards, in the given order."""
        mine = frozenset(operand.labels).union(*(self._labels(g, viewer) for g in equation.guards))
        order = tuple(label for label in order if label in mine)
        tests = [self._relation(g, viewer, order) for g in equation.guards]
        text = aligned(operand, order).text
        other = "0"
        if not operand.labels:  # two Python numbers would make a float64 or an integer array
            text, other = f"DTYPE({text})", "DTYPE(0)"
        return Operand(f"np.where({' & '.join(tests)}, {text}, {other})", order, True, True)

    def _masked_somewhere(
        self, equation: Equation, viewer: Viewer, operand: Operand, order: tuple[IndexName, ...]
    ) -> Operand:
        """The operand where the guards hold for some value of the labels that it does not have, else 0."""
        mask = frozenset().union(*(self._labels(g, viewer) for g in equation.guards))
        axes = tuple(label for label in order if label in mask)
        tests = " & ".join(self._relation(g, viewer, axes) for g in equation.guards)
        over = ", ".join(str(k) for k, label in enumerate(axes) if label not in operand.labels)
        some = Operand(f"({tests}).any(axis=({over},))", tuple(label for label in axes if label in operand.labels), True)
        labels = tuple(label for label in order if label in operand.labels)
        return Operand(f"np.where({aligned(some, labels).text}, {aligned(operand, labels).text}, 0)", labels, True, True)

    def _estimate(self, extent: Expr) -> int:
        fixed = extent.xreplace({s: sp.Integer(v) for s, v in self.values.items()})
        value = fixed.xreplace({s: sp.Integer(FREE_SIZE_ESTIMATE) for s in fixed.free_symbols})
        return max(1, int(value)) if value.is_number else FREE_SIZE_ESTIMATE

    def _fix(self, text: str) -> str:
        """A name for what stays the same in every step, computed before the loop."""
        if text not in self.fixed:
            self.fixed[text] = self.plan.fresh(text.replace(".T", "_T"))
        return self.fixed[text]
