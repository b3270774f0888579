"""Scheduled equations to lines of NumPy: one statement at a time, array-wide, in place where a buffer exists.

Each line stands under its equation and number. What kind of line it is depends on the equation alone: an element-wise body, a
sum of products, a maximum, a scatter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage, clip, given
from codegen.numpy.buffers import Mode, Plan, may_be_empty, narrows, slack_of
from codegen.numpy.contraction import Contractor, Patches
from codegen.numpy.maxima import argument_key as _argument_key
from codegen.numpy.maxima import is_window_maximum
from codegen.numpy.printer import NumPyPrinter, Text, integer_text, ordered_terms
from codegen.numpy.steps import iterate, loop_range
from codegen.numpy.views import Operand, Viewer, aligned
from codegen.schedule import Loop, Node, Statement, equations_of
from codegen.text import equation_text
from symbolic.analysis import affine, index_reads, is_nonnegative
from symbolic.functions import row_of
from symbolic.program import (
    Equation,
    Index,
    IndexName,
    Program,
    Reduction,
    index_symbols,
    operands,
    reads,
    size,
    tensor_of,
)

__all__ = ["Writer"]

FREE_SIZE_ESTIMATE = 32
INDENT = "    "
UNBOUNDED = frozenset({"exp", "expm1", "log", "log1p", "sinh", "cosh", "tan"})
"""Functions that may be infinite where their argument is not."""
_PLAIN_CALL = re.compile(r"^((?:np\.(?!where)\w+|_sigmoid)\(.*)\)$")
"""Calls that take ``out`` as a last argument."""


class Writer:
    """Writes the body of one function. ``lines`` is the result."""

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
        self.scratch: dict[tuple[Expr, ...], str] = {}
        self.patches = Patches(self.emit, plan.fresh)

    def write(self, nodes: Sequence[Node]) -> list[str]:
        for k, node in enumerate(nodes):
            self.top = k
            for name in self.plan.allocate_before.get(k, ()):
                self._allocate(name)
            self._pad_inputs(node)
            self._node(node)
        return self.lines

    # ---- frame -----------------------------------------------------------------------------------------------------

    def emit(self, text: str) -> None:
        self.lines.append(f"{INDENT * self.depth}{text}")

    def _node(self, node: Node) -> None:
        if isinstance(node, Statement):
            self._statement(node)
            return
        code = self.plan.codes[str(node.symbol)]
        outer, self.lines = self.lines, []
        if not self.loops:
            self.written, self.fixed = frozenset(s.equation.name for s in equations_of([node])), {}
        self.depth += 1
        self.loops[node.symbol] = Index(node.symbol, node.lower, node.upper)
        for child in node.body:
            self._node(child)
        del self.loops[node.symbol]
        self.depth -= 1
        if any(isinstance(child, Loop) for child in node.body):
            body = [f"{INDENT * self.depth}for {code} in {loop_range(node)}:", *self.lines]
        else:
            by_code = {storage.code: storage for storage in self.storages.values()}
            body = iterate(self.lines, node, code, INDENT * self.depth, by_code, self.program, self.plan.fresh)
        self.lines = outer
        if not self.loops:
            for text, name in self.fixed.items():
                self.emit(f"{name} = np.ascontiguousarray({text})")
            for shape, name in self.scratch.items():
                extents = ", ".join(map(integer_text, shape)) + ("," if len(shape) == 1 else "")
                self.emit(f"{name} = np.empty(({extents}), DTYPE)")
            self.written, self.fixed, self.scratch = frozenset(), {}, {}
        self.lines += body

    def _fix(self, text: str) -> str:
        """A name for what stays the same in every step, computed before the loop."""
        if text not in self.fixed:
            self.fixed[text] = self.plan.fresh(text.replace(".T", "_T"))
        return self.fixed[text]

    def _allocate(self, name: str) -> None:
        storage = self.storages[name]
        shape = ", ".join(map(integer_text, storage.extents))
        comma = "," if len(storage.extents) == 1 else ""
        kind = "np.empty" if self.plan.covered[name] and not storage.padded else "np.zeros"
        dtype = "np.intp" if storage.tensor.is_index else "DTYPE"
        if not storage.extents:
            self.emit(f"{storage.code} = {dtype}(0)")
            return
        note = self._halo_note(storage)
        self.emit(f"{storage.code} = {kind}(({shape}{comma}), {dtype}){note}")

    def allocate_zero(self, name: str) -> None:
        """A tensor that nothing writes is 0."""
        self.plan.covered[name] = False
        self._allocate(name)

    def _halo_note(self, storage: Storage) -> str:
        notes = [storage.tensor.note] if storage.tensor.note and not storage.tensor.is_index else []
        for axis, (before, after) in enumerate(zip(storage.before, storage.after, strict=True)):
            sides = [f"{integer_text(n)} more {side}" for n, side in ((before, "before"), (after, "after")) if n != 0]
            if sides:
                notes.append(f"axis {axis} has {' and '.join(sides)}")
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
                    self.emit(f"{storage.code} = np.pad({self.plan.codes[storage.tensor.name]}, ({widths}{comma}))")

    # ---- one statement -----------------------------------------------------------------------------------------------

    def _statement(self, statement: Statement) -> None:
        equation = statement.equation
        self.emit(f"# {comment(equation, self.program)}")
        conditions = [self._condition(c) for c in statement.when]
        equation, scalar_guards = self._narrowed(equation)
        viewer = self._viewer(equation)
        conditions += [self._relation(g, viewer, ()) for g in scalar_guards]
        # A subscript such as 2:T-1 means something else where T is too small for it.
        conditions += [f"{integer_text(i.lower)} < {integer_text(i.upper)}"
                       for i, _ in may_be_empty(equation, self.loops, self.program)]
        depth = self.depth
        if conditions:
            self.emit(f"if {' and '.join(conditions)}:")
            self.depth += 1
        mode = self.plan.mode(statement)
        if equation.reduction is not Reduction.SUM:
            self._maximum(equation, viewer, mode)
        elif any(index_reads((s,)) for s in equation.target.indices):
            self._scatter(equation, viewer)
        elif self._window_symbols(equation):
            self._scatter_windows(equation, viewer, mode)
        else:
            self._store(equation, viewer, mode)
        self.depth = depth

    def _viewer(self, equation: Equation) -> Viewer:
        viewer = Viewer(self.program, self.storages, {i.symbol: i for i in equation.indices}, self.loops, self.written)
        viewer.first = frozenset(i.symbol for i in equation.free)
        return viewer

    def _condition(self, condition: tuple[IndexName, Expr, Expr]) -> str:
        symbol, lower, upper = condition
        loop = self.loops[symbol]
        tests = []
        if sp.expand(lower - loop.lower) != 0:
            tests.append(f"{self.plan.codes[str(symbol)]} >= {integer_text(lower)}")
        if sp.expand(upper - loop.upper) != 0:
            tests.append(f"{self.plan.codes[str(symbol)]} < {integer_text(upper)}")
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

    def _relation(self, guard: Expr, viewer: Viewer, order: Sequence[IndexName]) -> str:
        """A guard as a boolean expression whose axes follow ``order``."""
        left, right = (self._side(side, viewer, order) for side in (guard.lhs, guard.rhs))
        return f"({left} {guard.rel_op} {right})"

    def _side(self, side: Expr, viewer: Viewer, order: Sequence[IndexName]) -> str:
        real = [r for r in reads(side) if not self.program.tensor(tensor_of(r)).is_index]
        if real:
            return self._scalar_text(side, viewer, order)
        return viewer.index_array(sp.expand(side), order)

    # ---- values -------------------------------------------------------------------------------------------------------

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
            rule[entry] = Text(text)
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
        return Operand(text, labels, _is_atom(text), True)

    def _contraction(
        self, equation: Equation, viewer: Viewer, kept: tuple[IndexName, ...], binds: bool = False
    ) -> Operand:
        """A sum of products: factors grouped by their labels, then products in the best order."""
        order = (*kept, *(i.symbol for i in equation.reduced))
        groups: dict[frozenset[IndexName], Expr] = {}
        for factor in sp.Mul.make_args(equation.body):
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
        if mask_labels is not None:
            risky = [labels for labels, expr in groups.items()
                     if labels & mask_labels and not mask_labels <= labels and self._may_overflow(expr)]
            if risky:  # what the mask keeps out may be infinite, and 0 times inf is no number: mask the product instead
                joined = [*risky, *(labels for labels in groups if mask_labels <= labels)]
                merged = sp.Mul(*(groups.pop(labels) for labels in joined))
                groups[frozenset().union(*joined)] = merged
        missing = covering - frozenset().union(*groups, frozenset()) if groups else covering
        operands = []
        for labels, expr in groups.items():
            operand = self._elementwise(expr, viewer, order)
            if mask_labels is not None and mask_labels <= labels:
                operand = self._masked(equation, viewer, operand, tuple(s for s in order if s in labels))
            operands.append(operand)
        if not operands:
            operands = [Operand("1", (), True)]
        contractor = Contractor(viewer.extent, lambda s: self._estimate(viewer.extent(s)),
                                self._fix if self.loops else None, None if self.loops else self.patches, binds)
        result = contractor.contract(operands, kept)
        for label in missing:
            scalar = scalar * viewer.extent(label)
        if scalar != 1:
            text = self._scaled(result, scalar, viewer)
            result = Operand(text, result.labels, False, True)
        return result

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
            return f"{marker.name}/({bottom})" if "*" in bottom else f"{marker.name}/{bottom}"
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

    def _estimate(self, extent: Expr) -> int:
        fixed = extent.xreplace({s: sp.Integer(v) for s, v in self.values.items()})
        value = fixed.xreplace({s: sp.Integer(FREE_SIZE_ESTIMATE) for s in fixed.free_symbols})
        return max(1, int(value)) if value.is_number else FREE_SIZE_ESTIMATE

    # ---- storing ------------------------------------------------------------------------------------------------------

    def _store(self, equation: Equation, viewer: Viewer, mode: Mode) -> None:
        target = viewer.view(equation.target, writing=True)
        order = target.labels
        if equation.reduced:
            value = self._contraction(equation, viewer, order, mode is Mode.BIND)
            self._put(target, value, mode, equation, viewer)
            return
        if equation.guards:
            value = self._masked(equation, viewer, self._elementwise(equation.body, viewer, order), order)
            self._put(target, value, mode, equation, viewer)
            return
        if mode is Mode.ASSIGN and order and viewer.is_view(equation.target) and self._into(equation.body, viewer, target):
            return
        if mode is Mode.BIND and order and self._bind_in_place(equation, viewer, target):
            return
        negative = _negated(equation.body) if mode is Mode.ADD and order else None
        if negative is not None:
            value = self._elementwise(negative, viewer, order)
            self.emit(f"{_place(target, adding=True)} -= {aligned(value, order).text}")
            return
        self._put(target, self._elementwise(equation.body, viewer, order), mode, equation, viewer)

    def _bind_in_place(self, equation: Equation, viewer: Viewer, target: Operand) -> bool:
        """Give the result the array of an operand that nobody reads any more, or compute a function in its own result."""
        code = self.storages[equation.name].code
        for entry in operands(equation.body):
            storage = self.storages[tensor_of(entry)]
            dead = self.plan.last_use.get(storage.tensor.name) == self.top and not given(storage.tensor)
            if dead and not storage.padded and not storage.tensor.is_index:
                view = viewer.view(entry)
                if view.text == storage.code and view.labels == target.labels:
                    return self._into(equation.body, viewer, replace(target, text=view.text), f"{code} = ")
        row = row_of(equation.body)
        if row is not None and row.arity == 1 and _PLAIN_CALL.match(row.numpy) and not isinstance(
            equation.body.args[0], Indexed
        ):
            inner = self._elementwise(equation.body.args[0], viewer, target.labels)
            if set(inner.labels) == set(target.labels) and inner.fresh:
                self.emit(f"{code} = {aligned(inner, target.labels).text}")
                self.emit(f"{row.numpy.format(code)[:-1]}, out={code})")
                return True
        return False

    def _into(self, body: Expr, viewer: Viewer, target: Operand, head: str = "") -> bool:
        """``np.tanh(a, out=h)``: compute straight into an existing buffer where the outermost operation allows it."""
        order = target.labels
        if self._labels(body, viewer) != frozenset(order):
            return False
        expr = self._with_views(body, viewer, order)
        row = row_of(expr)
        if row is not None and row.arity == 1 and not head and _PLAIN_CALL.match(row.numpy) and (
            expr.args[0].is_Mul or expr.args[0].is_Add
        ) and self._into(body.args[0], viewer, target):
            self.emit(f"{row.numpy.format(target.text)[:-1]}, out={target.text})")
            return True
        if row is not None and _PLAIN_CALL.match(row.numpy):
            call = self.printer.doprint(expr)
            self.emit(f"{head}{call[:-1]}, out={target.text})")
            return True
        if expr.is_Mul or expr.is_Add:
            split = self._halves(expr)
            if split is None:
                return False
            name, left, right = split
            self.emit(f"{head}{name}({left}, {right}, out={target.text})")
            return True
        return False

    def _halves(self, expr: Expr) -> tuple[str, str, str] | None:
        """The outermost binary operation of a product or a sum as a ufunc and its two operands."""
        if expr.is_Mul:
            arrays = [f for f in expr.args if f.atoms(Text)]
            if len(arrays) < 2 or any(f.is_Pow and f.exp.is_negative for f in arrays) or not _real_factor(arrays[0]):
                return None
            last = arrays[-1]
            rest = sp.Mul(*(f for f in expr.args if f is not last))
            if rest.could_extract_minus_sign() and not _real_factor(last):
                return None
            return "np.multiply", str(self.printer.doprint(rest)), self.printer._factor(last).strip()
        terms = ordered_terms(expr)
        last = terms[-1]
        rest = sp.Add(*terms[:-1])
        if not rest.atoms(Text) and not last.atoms(Text):
            return None
        if last.could_extract_minus_sign():
            return "np.subtract", str(self.printer.doprint(rest)), str(self.printer.doprint(-last))
        return "np.add", str(self.printer.doprint(rest)), str(self.printer.doprint(last))

    def _put(self, target: Operand, value: Operand, mode: Mode, equation: Equation, viewer: Viewer) -> None:
        """Bind, assign or accumulate a value."""
        storage = self.storages[equation.name]
        if mode is Mode.BIND:
            self._bind(storage, target, value, viewer)
            return
        text = aligned(value, target.labels).text if value.labels != target.labels else value.text
        if not target.labels and target.text == storage.code:
            self.emit(f"{target.text} {'=' if mode is Mode.ASSIGN else '+='} {text}")
            return
        if mode is Mode.ASSIGN and viewer.is_view(equation.target):
            dot = re.fullmatch(r"(.+\.dot\([\w.\[\]: +,-]+)\)", text)
            if dot and value.labels == target.labels and re.fullmatch(r"\w+(\[[\w +-]+\])?", target.text):
                self.emit(f"{dot[1]}, out={target.text})")
                return
            product = re.fullmatch(r"([\w.\[\], +:-]+) @ ([\w.\[\], +:-]+)", text)
            if product and value.labels == target.labels and target.labels:
                self.emit(f"np.matmul({product[1]}, {product[2]}, out={target.text})")
                return
        if mode is Mode.ASSIGN:
            self.emit(f"{_place(target)} = {text}")
        else:
            dot = re.fullmatch(r"(.+\.dot\([\w.\[\]: +,-]+)\)", text) if self.loops else None
            if dot and value.labels == target.labels:
                text = self._scratch(tuple(viewer.extent(label) for label in value.labels))
                self.emit(f"{dot[1]}, out={text})")
            self.emit(f"{_place(target, adding=True)} += {text}")

    def _scratch(self, shape: tuple[Expr, ...]) -> str:
        """An array for the products of a loop, made once before it."""
        if shape not in self.scratch:
            self.scratch[shape] = self.plan.fresh("product")
        return self.scratch[shape]

    def _bind(self, storage: Storage, target: Operand, value: Operand, viewer: Viewer) -> None:
        if not target.labels:
            self.emit(f"{storage.code} = {value.text}")
            return
        if set(value.labels) != set(target.labels):
            shape = ", ".join(integer_text(viewer.extent(label)) for label in target.labels)
            comma = "," if len(target.labels) == 1 else ""
            if not value.labels:
                self.emit(f"{storage.code} = np.full(({shape}{comma}), {value.text}, DTYPE)")
                return
            self.emit(f"{storage.code} = np.empty(({shape}{comma}), DTYPE)")
            self.emit(f"{storage.code}[...] = {aligned(value, target.labels).text}")
            return
        final = aligned(value, target.labels)
        if not value.fresh:
            self.emit(f"{storage.code} = {final.wrapped()}.copy()")
        else:
            self.emit(f"{storage.code} = {final.text}")

    # ---- maxima ---------------------------------------------------------------------------------------------------------

    def _maximum(self, equation: Equation, viewer: Viewer, mode: Mode) -> None:
        target = viewer.view(equation.target, writing=True)
        kept = target.labels
        over = tuple(i.symbol for i in equation.reduced)
        if equation.reduction is Reduction.MAX and mode is Mode.BIND and self._by_offsets(equation, viewer, kept):
            return
        if equation.reduction is Reduction.ARGMAX and equation.name in self.plan.implied:
            self.lines.pop()  # its comment: the adjoint finds the first maximum again, offset by offset
            return
        order = (*kept, *over)
        body = self._elementwise(equation.body, viewer, order)
        full = aligned(body, order)
        text, tests = full.text, [self._relation(g, viewer, order) for g in equation.guards]
        if set(body.labels) != set(order) or tests:
            shape = ", ".join(integer_text(viewer.extent(label)) for label in order)
            if tests:
                text = f"np.where({' & '.join(tests)}, {text}, -np.inf)"
            if set(body.labels) != set(order):
                text = f"np.broadcast_to({text}, ({shape},))"
            full = Operand(text, order, True, True)
        axes = tuple(range(len(kept), len(order)))
        axis = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
        if equation.reduction is Reduction.MAX:
            value = f"{full.wrapped()}.max(axis={axis})"
            if tests:
                value = f"_finite({value})"
        else:
            value = self._argument(equation, viewer, full, kept, over, bool(tests))
        self._put(target, Operand(value, kept, True, True), mode, equation, viewer)

    def _by_offsets(self, equation: Equation, viewer: Viewer, kept: tuple[IndexName, ...]) -> bool:
        """A maximum over the few offsets of a window: one strided slice against another, no windows copied."""
        if not is_window_maximum(equation):
            return False
        code = self.storages[equation.name].code
        inner, first = self._at_offsets(equation, {i.symbol: i.lower for i in equation.reduced})
        self.emit(f"{code} = {aligned(inner.view(first), kept).wrapped()}.copy()")
        offsets = tuple(equation.reduced)
        depth = self.depth
        self._offset_loops(offsets)
        inner, entry = self._at_offsets(equation, {})
        self.emit(f"np.maximum({code}, {aligned(inner.view(entry), kept).text}, out={code})")
        self.depth = depth
        return True

    def _at_offsets(self, equation: Equation, values: Mapping[IndexName, Expr]) -> tuple[Viewer, Indexed]:
        """The window's read with its offsets as numbers or as the variables of Python loops."""
        vector = {i.symbol: i for i in equation.free}
        scalars = {i.symbol: i for i in equation.reduced}
        viewer = Viewer(self.program, self.storages, vector, {**self.loops, **scalars}, self.written)
        return viewer, equation.body.xreplace(dict(values))

    def _offset_loops(self, offsets: Sequence[Index]) -> None:
        for index in offsets:
            lower = "" if index.lower == 0 else f"{integer_text(index.lower)}, "
            self.emit(f"for {self.plan.code_of_index(index.symbol)} in range({lower}{integer_text(index.upper)}):")
            self.depth += 1

    def _scatter_maximum(self, equation: Equation) -> bool:
        """The adjoint of a window maximum: at each offset, what is left goes where the entry equals the maximum.

        What was handed out is taken from what is left, so that ties go to the first offset alone.
        """
        source = self.plan.window_maxima.get(_argument_key(equation))
        if source is None:
            return False
        maximum, names = source
        viewer = self._viewer(equation)
        free = {i.symbol for i in maximum.free}
        components = {names[tensor_of(r)]: r for s in equation.target.indices for r in index_reads((s,))}
        places = next(iter(components.values())).indices
        moved = dict(zip(maximum.target.indices, places, strict=True))
        if not all(p in viewer.vector for p in places) or not free or len(set(places)) != len(places):
            return False
        storage, order = self.storages[equation.name], tuple(places)
        value = self._elementwise(equation.body, viewer, order)
        left = self.plan.fresh(f"{storage.code}_left")
        full = aligned(value, order)
        if set(value.labels) != set(order):
            return False
        self.emit(f"{left} = {full.wrapped()}.copy()" if not value.fresh else f"{left} = {full.text}")
        depth = self.depth
        self._offset_loops(maximum.reduced)
        scalars = {i.symbol: i for i in maximum.reduced}
        inner = Viewer(self.program, self.storages, viewer.vector, {**self.loops, **scalars}, self.written)
        read = aligned(inner.view(maximum.body.xreplace(moved)), order).text
        top = aligned(viewer.view(maximum.target.xreplace(moved)), order).text
        target = inner.view(equation.target.xreplace({r: s for s, r in components.items()}))
        if self._apart(equation, components, maximum) and target.labels == order:
            self.emit(f"np.multiply({left}, {read} == {top}, out={target.text})")
            self.emit(f"{left} -= {target.text}")
            self.depth = depth
            return True
        share = self.plan.fresh(f"{storage.code}_share")
        self.emit(f"{share} = {left}*({read} == {top})")
        self.emit(f"{_place(target, adding=True)} += {aligned(Operand(share, order), target.labels).text}")
        self.emit(f"{left} -= {share}")
        self.depth = depth
        return True

    def _apart(self, equation: Equation, components: Mapping[IndexName, Indexed], maximum: Equation) -> bool:
        """Whether windows do not overlap and nothing else writes the target: each entry is written once at most."""
        if len(self.program.writers[equation.name]) != 1:
            return False
        offsets = {r: maximum.index(symbol).extent for symbol, r in components.items()}
        for subscript in equation.target.indices:
            form = affine(subscript)
            if form is None:
                return False
            mine = [s for s in form.symbols if s in offsets]
            steps = [c for s, c in form.coefficients if s not in offsets]
            if mine and (len(mine) != 1 or len(steps) > 1 or form.coefficient(mine[0]) != 1
                         or steps and not is_nonnegative(steps[0] - offsets[mine[0]], self.program)):
                return False
        return True

    def _argument(
        self, equation: Equation, viewer: Viewer, full: Operand, kept: tuple[IndexName, ...],
        over: tuple[IndexName, ...], masked: bool,
    ) -> str:
        """One component of the first maximiser; the flat position is computed once for all components."""
        key = (equation.body, equation.guards, over, tuple(sorted(self.loops, key=str)))
        sizes = [integer_text(viewer.extent(label)) for label in over]
        flat = full.wrapped()
        if len(over) > 1:
            kept_sizes = [integer_text(viewer.extent(label)) for label in kept]
            flat = f"{flat}.reshape({', '.join([*kept_sizes, '-1'])})"
        if key not in self.arguments:
            call = f"_first_maximum({flat})" if masked else f"{flat}.argmax(axis=-1)"
            if len(over) == 1 and equation.component == over[0]:
                lower = viewer.vector[over[0]].lower
                return call if lower == 0 else f"{call} + {integer_text(lower)}"
            name = self.plan.fresh(f"{self.storages[equation.name].code}_flat")
            self.emit(f"{name} = {call}")
            if not self.loops:
                self.arguments[key] = name
        else:
            name = self.arguments[key]
        position = over.index(equation.component)
        inner = "*".join(sizes[position + 1:])
        value = name if position == len(over) - 1 else f"{name} // ({inner})" if "*" in inner else f"{name} // {inner}"
        if position > 0:
            value = f"{value} % {sizes[position]}"
        lower = viewer.vector[over[position]].lower
        value = value if lower == 0 else f"{value} + {integer_text(lower)}"
        return f"np.where({name} < 0, -1, {value})" if masked else value

    # ---- scatters -------------------------------------------------------------------------------------------------------

    def _window_symbols(self, equation: Equation) -> tuple[IndexName, ...]:
        """The offsets to loop over where a target subscript holds two indices (``2*u + p``): one index stays in each."""
        vector = {i.symbol: i for i in equation.indices}
        chosen: list[IndexName] = []
        viewer = self._viewer(equation)
        storage = self.storages[equation.name]
        for axis, subscript in enumerate(equation.target.indices):
            form = affine(subscript)
            if form is None or index_reads((subscript,)) or viewer._digits(storage, axis, subscript):
                continue
            mine = [s for s, _ in form.coefficients if s in vector]
            if len(mine) > 1:
                mine.sort(key=lambda s: (self._estimate(vector[s].extent), str(s)))
                chosen += mine[:-1]
        return tuple(chosen)

    def _scatter_windows(self, equation: Equation, viewer: Viewer, mode: Mode) -> None:
        """Add window by window: a loop over the few offsets of a kernel, each a strided slice."""
        offsets = self._window_symbols(equation)
        storage = self.storages[equation.name]
        cut = None
        if self._may_leave(equation, viewer):
            cut = self._cut_to_target(equation, offsets)
            if cut is None:
                self._scatter(equation, viewer)
                return
        free = tuple(i.symbol for i in equation.free)
        bare = tuple(s for s in equation.target.indices if s in viewer.vector)
        order = (*bare, *offsets, *(s for s in self._target_order(equation, viewer) if s not in (*offsets, *bare)))
        value = self._contraction(equation, viewer, order) if equation.reduced else (
            self._masked(equation, viewer, self._elementwise(equation.body, viewer, order), order)
            if equation.guards else self._elementwise(equation.body, viewer, order))
        present = [s for s in offsets if s in value.labels]
        assert set(value.labels) <= set(free)
        name = value.text
        if present:
            name = self.plan.fresh(f"{storage.code}_parts")
            self.emit(f"{name} = {aligned(value, tuple(s for s in order if s in value.labels)).text}")
            value = Operand(name, tuple(s for s in order if s in value.labels))
        depth = self.depth
        for symbol in offsets:
            index = viewer.vector[symbol]
            lower = "" if index.lower == 0 else f"{integer_text(index.lower)}, "
            self.emit(f"for {self.plan.code_of_index(symbol)} in range({lower}{integer_text(index.upper)}):")
            self.depth += 1
        rest = {s: i for s, i in viewer.vector.items() if s not in offsets}
        moving = {**self.loops, **{s: viewer.vector[s] for s in offsets}}
        if cut is not None:
            rest = {i.symbol: i for i in cut.indices}
            empty = [f"{integer_text(i.lower)} < {integer_text(i.upper)}" for i, _ in may_be_empty(cut, moving, self.program)]
            if empty:
                self.emit(f"if {' and '.join(empty)}:")
                self.depth += 1
        target = Viewer(self.program, self.storages, rest, moving).view(equation.target, writing=True)
        slots = [integer_text(s - viewer.vector[s].lower) if s in present else _part(viewer.vector[s], rest[s])
                 for s in value.labels]
        while slots and slots[-1] == ":":
            slots.pop()
        picks = ", ".join(slots)
        piece = Operand(f"{value.wrapped()}[{picks}]" if picks else value.text,
                        tuple(s for s in value.labels if s not in offsets), True)
        self.emit(f"{_place(target, adding=True)} += {aligned(piece, target.labels).text}")
        self.depth = depth

    def _cut_to_target(self, equation: Equation, offsets: Sequence[IndexName]) -> Equation | None:
        """The equation at one offset of its window, its ranges cut to what lies in the target; ``None`` where a number of the
        offsets alone decides."""
        moving = {**self.loops, **{s: equation.index(s) for s in offsets}}
        inner = replace(equation, indices=tuple(i for i in equation.free if i.symbol not in offsets), guards=())
        cut = clip(Statement(inner), self.program, moving)
        return None if cut.when or cut.equation.guards else cut.equation

    def _target_order(self, equation: Equation, viewer: Viewer) -> list[IndexName]:
        order: dict[IndexName, None] = {}
        for subscript in equation.target.indices:
            for s in sorted(index_symbols(subscript), key=str):
                if s in viewer.vector:
                    order.setdefault(s)
        return list(order)

    def _may_leave(self, equation: Equation, viewer: Viewer) -> bool:
        """Whether a window may write outside its target's storage."""
        from symbolic.analysis import subscript_range

        storage = self.storages[equation.name]
        for axis, subscript in enumerate(equation.target.indices):
            found = subscript_range(subscript, viewer.ranges, self.program)
            if found is None:
                return True
            first, last = found[0] + storage.before[axis], found[1] + storage.before[axis]
            if not (is_nonnegative(first, self.program)
                    and is_nonnegative(storage.extents[axis] - 1 - last, self.program)):
                return True
        return False

    def _scatter(self, equation: Equation, viewer: Viewer) -> None:
        """Add through index arrays: plainly where no two instances meet, else with ``np.add.at``."""
        if self._scatter_maximum(equation):
            return
        target = equation.target
        storage = self.storages[equation.name]
        parts, labels, masks = viewer.subscript_arrays(target)
        if equation.reduced and not {i.symbol for i in equation.reduced} & set(labels):
            value = self._contraction(equation, viewer, labels)
        else:
            value = self._elementwise(equation.body, viewer, labels)
            if equation.guards:
                value = self._masked(equation, viewer, value, labels)
        text = aligned(value, labels).text
        if masks:
            text = f"np.where({' & '.join(masks)}, {text}, 0)"
        bare = {s for s in target.indices if s in viewer.vector}
        place = f"{storage.code}[{', '.join(parts)}]"
        if set(labels) <= bare:
            negative = _negated(equation.body) if not (masks or equation.guards or equation.reduced) else None
            if negative is not None:
                self.emit(f"{place} -= {aligned(self._elementwise(negative, viewer, labels), labels).text}")
            else:
                self.emit(f"{place} += {text}")
            return
        rows = self._row_scatter(equation, viewer, value, masks)
        if rows:
            return
        self.emit(f"np.add.at({storage.code}, ({', '.join(parts)},), {text})")

    def _row_scatter(self, equation: Equation, viewer: Viewer, value: Operand, masks: Sequence[str]) -> bool:
        """``d_E[tok[t,n], k] += d_x[t,n,k]``: rows are sorted by their target and added in runs."""
        fancy = [axis for axis, s in enumerate(equation.target.indices) if index_reads((s,))]
        if len(fancy) != 1 or masks or equation.reduced and not value.labels:
            return False
        (axis,) = fancy
        subscript = equation.target.indices[axis]
        if not isinstance(subscript, Indexed):
            return False
        storage = self.storages[equation.name]
        others = [s for k, s in enumerate(equation.target.indices) if k != axis]
        if not all(s in viewer.vector for s in others) or len(set(others)) != len(others) or storage.padded:
            return False
        if any(sp.expand(viewer.vector[s].lower) != 0 for s in others):
            return False
        inner = viewer.view(subscript)
        if set(inner.labels) & set(others) or set(value.labels) != {*inner.labels, *others}:
            return False
        columns = tuple(s for s in equation.target.indices if s in viewer.vector)
        rows = aligned(value, (*inner.labels, *columns))
        destination = storage.code
        if axis:
            axes = [axis, *(k for k in range(len(equation.target.indices)) if k != axis)]
            destination = f"{storage.code}.T" if len(axes) == 2 else f"{storage.code}.transpose({', '.join(map(str, axes))})"
        self.emit(f"_add_rows({destination}, {inner.text}, {rows.text})")
        return True


def _part(whole: Index, cut: Index) -> str:
    """The slice of an axis over ``whole`` that ``cut`` leaves."""
    start, stop = sp.expand(cut.lower - whole.lower), sp.expand(cut.upper - whole.lower)
    return f"{'' if start == 0 else integer_text(start)}:{'' if cut.upper == whole.upper else integer_text(stop)}"


def _statements(loop: Loop) -> list[Statement]:
    found: list[Statement] = []
    for node in loop.body:
        found += [node] if isinstance(node, Statement) else _statements(node)
    return found


def _negated(body: Expr) -> Expr | None:
    """The body of the opposite sign, where it is a product with a minus: what is subtracted instead of added."""
    return -body if not body.is_Add and body.could_extract_minus_sign() else None


def _place(target: Operand, adding: bool = False) -> str:
    """The target as the left side of an assignment: a name is filled, not bound anew."""
    return target.text if target.text.endswith("]") or adding and target.text.isidentifier() else f"{target.text}[...]"


def _real_factor(expr: Expr) -> bool:
    row = row_of(expr)
    return row is None or row.name not in ("gt", "ge", "lt", "le", "eq", "ne")


def _is_atom(text: str) -> bool:
    """Whether text may be subscripted or called upon as it stands: a name, or one bracketed or called piece."""
    depth = 0
    for k, char in enumerate(text):
        if char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif depth == 0 and not (char.isalnum() or char in "_."):
            return False
        if depth == 0 and char == ")" and k + 1 < len(text) and text[0] == "(":
            return text[k + 1] in ".["
    return bool(text) and text[0] != "-"


def comment(equation: Equation, program: Program) -> str:
    """The equation as the derivation prints it, with its numbers."""
    return f"({', '.join(map(str, equation.numbers))}) {equation_text([equation], program)}"
