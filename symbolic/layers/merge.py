"""Several inputs into one: sum (a residual connection), product, or side by side on an axis.

    y[n,k] = x1[n,k] + x2[n,k]
    y[n,k] = x1[n,k]*x2[n,k]
    y[n,k] = x1[n,k],  y[n,A+k] = x2[n,k]
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symbolic.layers.base import Block, Context, Layer, LayerOptions, at, leading
from symbolic.program import Tensor

REFERENCE = "He, Zhang, Ren, Sun 2016 (add); torch.cat (concat)"


class NoOptions(LayerOptions):
    """No options; ``from:`` names the inputs."""


class Options(LayerOptions):
    """``axis``: where the inputs lie side by side, counted from either end."""

    axis: int = -1


def _names(x: Tensor) -> tuple[str, ...]:
    return (*leading(x.shape[:-1]), "k") if x.rank else ()


def _same(inputs: tuple[Tensor, ...], context: Context, but: int | None = None) -> None:
    """Require one shape, apart from one axis. Raises SpecError with both shapes."""
    first = inputs[0]
    for other in inputs:
        context.real(other, 0)
        pairs = list(zip(first.shape, other.shape, strict=False))
        if first.rank != other.rank or any(sp.expand(a - b) != 0 for axis, (a, b) in enumerate(pairs) if axis != but):
            shapes = [f"'{x.name}' [{', '.join(map(str, x.shape))}]" for x in (first, other)]
            raise context.error(f"expected inputs of one shape, found {' and '.join(shapes)}", "from")


def _elementwise(sign: str, inputs: tuple[Tensor, ...], context: Context) -> Block:
    _same(inputs, context)
    names = _names(inputs[0])
    local = {f"x{count}": x for count, x in enumerate(inputs, 1)}
    text = f"{at('y', *names)} = {sign.join(at(name, *names) for name in local)}"
    return Block(text, "y", local, reference=REFERENCE)


def _add(_: NoOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _elementwise(" + ", inputs, context)


def _multiply(_: NoOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _elementwise("*", inputs, context)


def _concat(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    first = inputs[0]
    if not -first.rank <= options.axis < first.rank:
        shape = ", ".join(map(str, first.shape))
        raise context.error(f"expected an axis of '{first.name}' [{shape}], found {options.axis}", "axis")
    axis = options.axis % first.rank
    _same(inputs, context, axis)
    names, offset = _names(first), sp.Integer(0)
    lines, local, sizes = [], {}, {}
    for count, x in enumerate(inputs, 1):
        local[f"x{count}"] = x
        at_axis = f"{names[axis]}{count}"
        place = at_axis if offset == 0 else f"O{count}+{at_axis}"
        if offset != 0:
            sizes[f"O{count}"] = offset
        target = (*names[:axis], place if offset != 0 else f"{at_axis}+0", *names[axis + 1 :])
        source = (*names[:axis], at_axis, *names[axis + 1 :])
        lines.append(f"{at('y', *target)} += {at(f'x{count}', *source)}")
        offset = offset + x.shape[axis]
    joined: tuple[Expr, ...] = (*first.shape[:axis], offset, *first.shape[axis + 1 :])
    return Block("\n".join(lines), "y", local, shapes={"y": joined}, sizes=sizes, reference=REFERENCE)


_TWO = ("N, A", "N, A")
CATALOGUE = {
    "add": Layer(NoOptions, _add, REFERENCE, (2, None), example_inputs=_TWO),
    "multiply": Layer(NoOptions, _multiply, REFERENCE, (2, None), example_inputs=_TWO),
    "concat": Layer(Options, _concat, REFERENCE, (2, None), example_inputs=("N, A", "N, B")),
}
