"""Where a value goes: a new array, a part of one that is there, the array of an operand that nobody reads any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.lower import Storage, given
from codegen.numpy.buffers import Mode
from codegen.numpy.operands import Operand, aligned
from codegen.numpy.pieces import negated, place, real_factor
from codegen.numpy.printer import Call, NumPyPrinter, Text, integer_text, ordered_terms
from codegen.numpy.values import Values
from codegen.numpy.views import Viewer
from symbolic.functions import row_of
from symbolic.program import (
    Equation,
    IndexName,
    index_symbols,
    operands,
    tensor_of,
)

__all__ = ["Storing"]

Labels = tuple[IndexName, ...]


@dataclass(frozen=True)
class _Split:
    """The outermost operation of an expression: ``function`` or ``operator`` on two operands."""

    function: str
    operator: str
    left: Expr
    right: Expr

    def call(self, printer: NumPyPrinter) -> Call:
        """The operation as a call; as a factor a comparison need not become a number first."""
        right = printer._factor(self.right).strip() if self.operator == "*" else str(printer.doprint(self.right))
        return Call(self.function, (str(printer.doprint(self.left)), right))

    def alone(self, side: Expr, printer: NumPyPrinter) -> str:
        """An operand on its side of ``*=`` and its like."""
        plain = self.operator != "*" or real_factor(side)
        return str(printer.doprint(side)) if plain else printer._factor(side).strip()


class Storing(Values):
    """Binds, assigns and accumulates."""

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
        negative = negated(equation.body) if mode is Mode.ADD and order else None
        if negative is not None:
            value = self._elementwise(negative, viewer, order)
            self.emit(f"{place(target, adding=True)} -= {aligned(value, order).text}")
            return
        self._put(target, self._elementwise(equation.body, viewer, order), mode, equation, viewer)

    def _bind_in_place(self, equation: Equation, viewer: Viewer, target: Operand) -> bool:
        """Give the result the array of an operand that nobody reads any more, or compute a function in its own result."""
        code = self.storages[equation.name].code
        for entry in reversed(self.program.in_order(operands(equation.body))):  # the last made is the nearest at hand
            storage = self.storages[tensor_of(entry)]
            dead = self.plan.last_use.get(storage.tensor.name) == self.top and not given(storage.tensor)
            if dead and not storage.padded and not storage.tensor.is_index:
                view = viewer.view(entry)
                if view.text == storage.code and view.labels == target.labels:
                    stored = self._into(equation.body, viewer, replace(target, text=view.text), f"{code} = ")
                    if stored:
                        self._remember(equation.name, target, view.memory)
                    return stored
        call = self._unary(equation.body, code)
        if call is not None and not isinstance(equation.body.args[0], Indexed):
            inner = self._elementwise(equation.body.args[0], viewer, target.labels)
            if set(inner.labels) == set(target.labels) and inner.fresh:
                self.emit(f"{code} = {aligned(inner, target.labels).text}")
                self.emit(self._into_place(call, code))
                self._remember(equation.name, target, inner.memory)
                return True
        return False

    def _remember(self, name: str, target: Operand, memory: tuple[IndexName, ...]) -> None:
        """Keep in mind how the axes of a new array lie in memory, where that is not their own order."""
        if memory not in ((), target.labels):
            self.memory[name] = tuple(map(target.labels.index, memory))

    def _remember_as(self, name: str, other: str) -> None:
        """A tensor that takes the whole array of another one lies as that did."""
        if other in self.memory:
            self.memory[name] = self.memory[other]

    def _into(self, body: Expr, viewer: Viewer, target: Operand, head: str = "") -> bool:
        """``np.tanh(a, out=h)``: compute straight into an existing buffer where the outermost operation allows it."""
        order = target.labels
        if self._labels(body, viewer) != frozenset(order):
            return False
        expr = self._with_views(body, viewer, order)
        outer = self._unary(expr, target.text)
        if outer is not None and not head and (expr.args[0].is_Mul or expr.args[0].is_Add) and self._into(
            body.args[0], viewer, target
        ):
            self.emit(self._into_place(outer, target.text))
            return True
        call = self.printer.call(expr)
        if call is not None:
            self.emit(self._into_place(call, target.text, head))
            return True
        split = self._halves(expr)
        if split is None:
            return False
        views = [viewer.view(entry) for entry in operands(body)]
        # What stands in the target now is read (its last step, in one slot): it must be there until the last operation.
        if self.loops and not head and not any(view.text == target.text for view in views):
            self._fill(split, target, {aligned(view, order).text: view.labels for view in views})
        else:
            self.emit(self._into_place(split.call(self.printer), target.text, head))
        return True

    def _fill(self, split: _Split, target: Operand, labels: Mapping[str, Labels]) -> None:
        """``(h - g)*z + g`` step by step in the array that it goes to, so that no step of a loop makes arrays."""
        left, right = split.left, split.right
        if self._needs_room(left, target, labels):
            self._inside(left, target, labels)
            self.emit(f"{target.text} {split.operator}= {split.alone(right, self.printer)}")
        elif self._needs_room(right, target, labels):
            self._inside(right, target, labels)
            if split.operator == "-":
                self.emit(self._into_place(replace(split, right=Text(target.text)).call(self.printer), target.text))
            else:
                self.emit(f"{target.text} {split.operator}= {split.alone(left, self.printer)}")
        else:
            self.emit(self._into_place(split.call(self.printer), target.text))

    def _inside(self, expr: Expr, target: Operand, labels: Mapping[str, Labels]) -> None:
        split = self._halves(expr)
        assert split is not None
        self._fill(split, target, labels)

    def _needs_room(self, expr: Expr, target: Operand, labels: Mapping[str, Labels]) -> bool:
        """Whether an operand is itself an operation on arrays, as large as the target."""
        mine = {label for text in expr.atoms(Text) for label in labels.get(text.shown, ())}
        return mine == set(target.labels) and self._halves(expr) is not None

    def _unary(self, expr: Expr, argument: str) -> Call | None:
        """The call of a function of one argument on an array that is there."""
        row = row_of(expr)
        return self.printer.call(expr.func(Text(argument))) if row is not None and row.arity == 1 else None

    def _into_place(self, call: Call, place: str, head: str = "") -> str:
        return (None if head else call.within(place)) or f"{head}{call.into(place, brief=bool(self.loops))}"

    def _halves(self, expr: Expr) -> _Split | None:
        """The outermost binary operation of a product or a sum as a ufunc and its two operands."""
        if expr.is_Mul:
            arrays = [f for f in expr.args if f.atoms(Text)]
            alone = len(arrays) == 1 and expr.args[0] == -1
            if not arrays or alone or any(f.is_Pow and f.exp.is_negative for f in arrays) or not real_factor(arrays[0]):
                return None
            last = arrays[-1]
            rest = sp.Mul(*(f for f in expr.args if f is not last))
            if rest.could_extract_minus_sign() and not real_factor(last):
                return None
            return _Split("np.multiply", "*", rest, last)
        if not expr.is_Add:
            return None
        terms = ordered_terms(expr)
        last = terms[-1]
        rest = sp.Add(*terms[:-1])
        if not rest.atoms(Text) and not last.atoms(Text):
            return None
        if last.could_extract_minus_sign():
            return _Split("np.subtract", "-", rest, -last)
        return _Split("np.add", "+", rest, last)

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
        call = value.call if value.labels == target.labels and target.labels else None
        if mode is Mode.ASSIGN and call is not None and viewer.is_view(equation.target) and (
            not call.function.endswith(".dot") or viewer.in_one_piece(equation.target)
        ):
            self.emit(self._into_place(call, target.text))
            return
        if mode is Mode.ASSIGN:
            self.emit(f"{place(target)} = {text}")
        else:
            shape = tuple(viewer.extent(label) for label in value.labels)
            if self.loops and call is not None and not call.flat and not any(map(index_symbols, shape)):  # one for all steps
                text = self._scratch(shape)
                self.emit(self._into_place(call, text))
            self.emit(f"{place(target, adding=True)} += {text}")

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
            self._remember(storage.tensor.name, target, value.memory)
