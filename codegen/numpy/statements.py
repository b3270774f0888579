"""Scheduled equations to lines of NumPy: one statement at a time, array-wide, in place where a buffer exists.

Each line stands under its equation and number. What kind of line it is depends on the equation alone: an element-wise body, a
sum of products, a maximum, a scatter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr

from codegen.block import Block, Carry
from codegen.lower import Storage, given
from codegen.numpy.blocks import bare, block_header, part_of_axis
from codegen.numpy.buffers import Mode
from codegen.numpy.layout import allocated_memory
from codegen.numpy.operands import outside
from codegen.numpy.printer import integer_text
from codegen.numpy.scatters import Scatters
from codegen.numpy.steps import Steps, loop_range
from codegen.numpy.stock import Stock
from codegen.numpy.values import INDENT
from codegen.numpy.windows import back
from codegen.schedule import Loop, Node, Statement, equations_of
from codegen.text import equation_text
from codegen.writes import may_be_empty, narrows, slack_of
from symbolic.analysis import affine, index_reads, is_nonnegative
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Program,
    Reduction,
    index_symbols,
    reads,
    tensor_of,
)

__all__ = ["Writer"]


class Writer(Scatters):
    """Writes the body of one function: loops, allocations, one statement after the other. ``lines`` is the result."""

    def write(self, nodes: Sequence[Node | Block]) -> list[str]:
        every = [inner for node in nodes for inner in (node.body if isinstance(node, Block) else (node,))]
        self.stepwise = {s.equation.name for node in every if isinstance(node, Loop) for s in equations_of([node])}
        for k, node in enumerate(nodes):
            self.top = k
            for name in self.plan.allocate_before.get(k, ()):
                if not (isinstance(node, Statement) and node.equation.name == name and self._takes_over(node)):
                    self._allocate(name)
            self._pad_inputs(node.image if isinstance(node, Block) else node)
            if isinstance(node, Block):
                self._block(node)
            else:
                self._node(node)
        return self.lines

    def _block(self, block: Block) -> None:
        """One block of steps after the other: its views of whole tensors, what the last block left, its body."""
        whole, stock, arguments = self.plan, self.stock, self.arguments
        self.plan, self.arguments = whole.blocks[id(block)], {}
        self.stock = Stock(self.emit, whole.fresh)
        for line in block_header(block):
            self.emit(line)
        self.depth += 1
        for view in block.windows:
            code, whole_code = self.storages[view.tensor].code, self.storages[view.whole].code
            self.emit(f"{code} = {part_of_axis(whole_code, view.axis, block.start + view.first, view.extent)}")
            if view.axis:
                self.parted.add(view.tensor)
        for k, node in enumerate(block.body):
            self.top = k
            for name in self.plan.allocate_before.get(k, ()):
                self._allocate(name)
                for carry in block.carries:
                    if carry.tensor == name:
                        self.emit(f"{self._carried(carry, block, 0 if not block.descending else block.extent)} = "
                                  f"{self.storages[carry.kept].code}")
            self._node(node)
        for carry in block.carries:
            code = self.storages[carry.kept].code
            self.emit(f"{code}[...] = {self._carried(carry, block, block.extent if not block.descending else 0)}")
        self.depth -= 1
        self.plan, self.stock, self.arguments = whole, stock, arguments

    def _carried(self, carry: Carry, block: Block, first: Expr | int) -> str:
        return part_of_axis(self.storages[carry.tensor].code, carry.axis, sp.sympify(first), sp.Integer(carry.count))

    def _node(self, node: Node) -> None:
        if isinstance(node, Statement):
            self._statement(node)
            return
        code = str(node.symbol)
        outer, self.lines = self.lines, []
        around, self.steps = self.steps, Steps(node, code, self.loops, self.program, self.plan.names)
        if not self.loops:
            self.written, self.fixed = frozenset(s.equation.name for s in equations_of([node])), {}
        self.depth += 1
        self.loops[node.symbol] = Index(node.symbol, node.lower, node.upper)
        for child in node.body:
            self._node(child)
        del self.loops[node.symbol]
        self.depth -= 1
        indent = INDENT * self.depth
        if any(isinstance(child, Loop) for child in node.body):
            body = [f"{indent}for {code} in {loop_range(node)}:", *self.steps.plain(self.lines)]
        else:
            body = self.steps.written(self.lines, indent)
        self.lines, self.steps = outer, around
        if not self.loops:
            for text, name in self.fixed.items():
                self.emit(f"{name} = np.ascontiguousarray({text})")
            for shape, name in self.scratch.items():
                extents = ", ".join(map(integer_text, shape)) + ("," if len(shape) == 1 else "")
                self.emit(f"{name} = np.empty(({extents}), DTYPE)")
            self.written, self.fixed, self.scratch = frozenset(), {}, {}
        self.lines += body

    def _allocate(self, name: str) -> None:
        storage = self.storages[name]
        old = self.plan.views.get(name)
        if old is not None:
            if old in self.memory:
                self.memory[name] = self.memory[old]
            array = self.storages[old]
            text = array.code if array.extents == storage.extents else bare(array)
            self.emit(f"{storage.code} = {text}  # in the array of {old}, which nothing reads from here on")
            return
        extents = [extent for axis, extent in enumerate(storage.extents) if axis != storage.absent]
        shape = ", ".join(map(integer_text, extents))
        comma = "," if len(extents) == 1 else ""
        margins = self._margins(storage) if self.plan.covered[name] and storage.padded else []
        kind = "np.empty" if self.plan.covered[name] and (margins or not storage.padded) else "np.zeros"
        dtype = "np.intp" if storage.tensor.is_index else "DTYPE"
        nowhere = any(e.reduction is Reduction.ARGMAX for e in self.program.writers.get(name, ()))
        if not storage.extents:
            self.emit(f"{storage.code} = {dtype}({-1 if nowhere else 0})")
            return
        if kind == "np.zeros" and nowhere:  # a maximum that is not taken has its argument nowhere
            self.emit(f"{storage.code} = np.full(({shape}{comma}), -1, {dtype})")
            return
        note = self._halo_note(storage)
        axes = () if storage.tensor.is_index or name in self.stepwise else allocated_memory(name, self.memory, self.program)
        if axes:
            self.memory[name] = axes
            shape = ", ".join(integer_text(storage.extents[axis]) for axis in axes)
            self.emit(f"{storage.code} = {kind}(({shape}), {dtype}).transpose({back(axes)}){note}")
        else:
            self.emit(f"{storage.code} = {kind}(({shape}{comma}), {dtype}){note}")
        for margin in margins:
            self.emit(f"{storage.code}[{margin}] = 0")

    def _margins(self, storage: Storage) -> list[str]:
        """The subscripts of what lies before and after an array along its first axis, where that is all that nothing fills: to
        set it to 0 takes no pass over the rest."""
        if storage.ring is not None or storage.tensor.is_index or any(e != 0 for e in (*storage.before[1:], *storage.after[1:])):
            return []
        before, after, extent = storage.before[0], storage.after[0], storage.extents[0]
        found = [] if before == 0 else ["0" if before == 1 else f":{integer_text(before)}"]
        if after != 0:
            start = integer_text(sp.expand(extent - after))
            found.append(start if after == 1 else f"{start}:")
        return found

    def allocate_zero(self, name: str) -> None:
        """A tensor that nothing writes is 0."""
        self.plan.covered[name] = False
        self._allocate(name)

    def _halo_note(self, storage: Storage) -> str:
        notes = [storage.tensor.note] if storage.tensor.note and not storage.tensor.is_index else []
        notes += [f"{name} stands in it first" for name, other in self.storages.items()
                  if other is storage and name != storage.tensor.name]
        for axis, (before, after) in enumerate(zip(storage.before, storage.after, strict=True)):
            sides = [f"{integer_text(n)} more {side}" for n, side in ((before, "before"), (after, "after")) if n != 0]
            if sides:
                notes.append(f"axis {axis} has {' and '.join(sides)}")
        if storage.ring is not None:
            notes.append("the last step alone" if storage.ring.slots == 1 else f"axis {storage.ring.axis} has the last "
                         f"{storage.ring.slots} steps, in turn")
        return f"  # {'; '.join(notes)}" if notes else ""

    def _pad_inputs(self, node: Node) -> None:
        """A padded copy of each input that this node reads outside its bounds."""
        statements = [node] if isinstance(node, Statement) else _statements(node)
        for statement in statements:
            for entry in statement.equation.reads:
                storage = self.storages[tensor_of(entry)]
                if storage.padded and given(storage.tensor) and storage.tensor.name not in self.padded:
                    self.padded.add(storage.tensor.name)
                    widths = ", ".join(
                        f"({integer_text(a)}, {integer_text(b)})"
                        for a, b in zip(storage.before, storage.after, strict=True)
                    )
                    comma = "," if len(storage.before) == 1 else ""
                    fill = f", constant_values={outside(storage.tensor)}" if storage.tensor.is_index else ""
                    self.emit(f"{storage.code} = np.pad({self.plan.codes[storage.tensor.name]}, ({widths}{comma}){fill})")

    def _statement(self, statement: Statement) -> None:
        equation = statement.equation
        there = self.plan.mode(statement) is Mode.THERE
        self.emit(f"# {comment(statement.origin.equation, self.program)}{': there already' if there else ''}")
        if there:
            return
        conditions = [self._condition(c) for c in statement.when]
        equation, scalar_guards = self._narrowed(equation)
        viewer = self._viewer(equation)
        conditions += [self._relation(g, viewer, ()) for g in scalar_guards]
        # A subscript such as 2:T-1 means something else where T is too small for it.
        conditions += [f"{integer_text(i.lower)} < {integer_text(i.upper)}"
                       for i, _ in may_be_empty(equation, self.loops, self.program)]
        conditions += [f"{integer_text(i.lower)} < {integer_text(i.upper)}" for i in self._without_instances(statement, equation)]
        depth, stock = self.depth, self.stock.copy()
        if conditions:
            self.emit(f"if {' and '.join(conditions)}:")
            self.depth += 1
        mode = self.plan.mode(statement)
        if equation.reduction is not Reduction.SUM:
            self._maximum(equation, viewer, mode)
        elif any(index_reads((s,)) for s in equation.target.indices):
            self._scatter(equation, viewer, mode)
        elif self._window_symbols(equation):
            self._scatter_windows(equation, viewer, mode)
        else:
            self._store(equation, viewer, mode)
        self.depth = depth
        if conditions:
            self.stock = stock  # what a condition kept from being written is not there

    def _without_instances(self, statement: Statement, narrowed: Equation) -> list[Index]:
        """The reduced indices that a guard may leave no value while a factor that stands outside of their sum need not be
        finite: 0 times that is no number, and an instance that does not exist adds nothing (law 3)."""
        if narrowed.reduction is not Reduction.SUM:
            return []
        factors = sp.Mul.make_args(narrowed.body)
        return [
            i for i in narrowed.reduced
            if i != statement.equation.index(i.symbol) and self._may_have_none(i)
            and any(i.symbol not in index_symbols(factor) and self._may_be_infinite(factor) for factor in factors)
        ]

    def _condition(self, condition: tuple[IndexName, Expr, Expr]) -> str:
        symbol, lower, upper = condition
        loop = self.loops[symbol]
        tests = []
        if sp.expand(lower - loop.lower) != 0:
            tests.append(f"{symbol} >= {integer_text(lower)}")
        if sp.expand(upper - loop.upper) != 0:
            tests.append(f"{symbol} < {integer_text(upper)}")
        return " and ".join(tests) or "True"

    def _narrowed(self, equation: Equation) -> tuple[Equation, list[Expr]]:
        """Guards on loop values become conditions; guards that bound one index by loop values narrow its range."""
        vector = {i.symbol: i for i in equation.indices}
        scalars, kept = [], []
        for guard in equation.guards:
            moving = {s for s in index_symbols(guard) if s in vector}
            if not moving and not any(index_symbols(r) & set(vector) for r in reads(guard)):
                scalars.append(guard)
                continue
            narrowed = self._bound(guard, vector) if narrows(guard, vector) else None
            if narrowed is None:
                kept.append(guard)
            else:
                vector[narrowed.symbol] = narrowed
        if not scalars and len(kept) == len(equation.guards):
            return equation, []
        return replace(equation, guards=tuple(kept), indices=tuple(vector.values())), scalars

    def _bound(self, guard: Expr, vector: Mapping[IndexName, Index]) -> Index:
        """The index range that ``k < t + 1`` or ``k >= 2`` leaves."""
        (symbol,) = (s for s in index_symbols(guard) if s in vector)
        slack = slack_of(guard)
        form = affine(slack)
        assert form is not None
        rest = sp.expand(slack - form.coefficient(symbol) * symbol)
        index = vector[symbol]
        if form.coefficient(symbol) == 1:  # symbol >= -rest
            return Index(symbol, self._extreme(index.lower, -rest, sp.Max), index.upper)
        return Index(symbol, index.lower, self._extreme(index.upper, sp.expand(rest + 1), sp.Min))

    def _extreme(self, a: Expr, b: Expr, kind: type) -> Expr:
        ranges = dict(self.loops)
        from symbolic.analysis import subscript_range

        found = subscript_range(sp.expand(b - a), ranges, self.program)
        if found is not None:
            if is_nonnegative(found[0], self.program):
                return b if kind is sp.Max else a
            if is_nonnegative(-found[1], self.program):
                return a if kind is sp.Max else b
        return kind(a, b)


def _statements(loop: Loop) -> list[Statement]:
    found: list[Statement] = []
    for node in loop.body:
        found += [node] if isinstance(node, Statement) else _statements(node)
    return found


def comment(equation: Equation, program: Program) -> str:
    """The equation as the derivation prints it, with its numbers."""
    return f"({', '.join(map(str, equation.numbers))}) {equation_text([equation], program)}"
