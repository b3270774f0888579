"""Convolution over one or two axes (as every framework has it: a correlation), channels before space.

    y[n,o,u] = W[o,c,p]*x[n,c,S*u+D*p-P] + b[o]            one axis; stride S, dilation D, padding P
    y[n,m+M*s,u] = W[m+M*s,c,p]*x[n,c+C*s,S*u+D*p-P]       in groups s of M outputs and C inputs

x is [N, C, L] or [N, C, L, K], or without N. W is [O, C/groups, kernel...], as torch has it. The padding is the zero
extension of x. ``padding: same`` keeps the extent (stride 1), the greater half at the end; ``valid`` is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import sympy as sp
from pydantic import AliasChoices, Field
from sympy import Expr

from symbolic.layers.activation import Activation, apply
from symbolic.layers.base import Block, Context, Extent, Inits, Layer, LayerOptions, Parameter, at, parameters
from symbolic.program import Tensor

__all__ = ["CATALOGUE", "along", "extents", "strided"]

REFERENCE = "Fukushima 1980; LeCun et al. 1989; torch.nn.Conv1d, Conv2d"
SPACE, KERNEL = ("u", "v", "w"), ("p", "q", "r")

Count = Annotated[int, Field(ge=1)]


class Options(LayerOptions):
    """``channels`` (or ``filters``): outputs. Kernel, stride, padding and dilation: one number, or one for each
    axis."""

    channels: Extent = Field(validation_alias=AliasChoices("channels", "filters"))
    kernel: Extent | list[Extent]
    stride: Count | list[Count] = 1
    padding: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] | Literal["same", "valid"] = 0
    dilation: Count | list[Count] = 1
    groups: Extent = 1
    bias: bool = True
    activation: Activation = "identity"
    init: Inits = Field(default_factory=dict)


def along(value: Any, axes: int, context: Context, key: str) -> list[Any]:
    """One entry for each axis of space. Raises SpecError where a list has another length."""
    if not isinstance(value, list):
        return [value] * axes
    if len(value) != axes:
        raise context.error(f"expected one entry or {axes}, found {len(value)}", key)
    return list(value)


def strided(stride: int, index: str, dilation: int, offset: str, before: Expr) -> str:
    """The subscript of a window: ``S*u+D*p-P`` with its ones and zeros left out."""
    text = f"{'' if stride == 1 else f'{stride}*'}{index}+{'' if dilation == 1 else f'{dilation}*'}{offset}"
    return text if before == 0 else f"{text}-({before})" if not before.is_Integer else f"{text}-{before}"


def extents(space: Sequence[Expr], windows: Sequence[Expr], stride: list[int], padding: list[tuple[Expr, Expr]],
            context: Context) -> list[Expr]:
    """How many windows fit: floor((L + before + after - window)/stride) + 1. Raises SpecError where none does."""
    found = []
    for length, window, step, (before, after) in zip(space, windows, stride, padding, strict=True):
        free = sp.expand(length + before + after - window)
        if context.value(free).is_negative:
            raise context.error(f"expected a window of at most the axis of {length} with padding {before} and {after}, "
                                f"found {window}", "kernel")
        found.append(sp.floor(free / step) + 1)
    return found


def _padding(options: Options, kernel: list[Expr], dilation: list[int], stride: list[int], context: Context
             ) -> list[tuple[Expr, Expr]]:
    axes = len(kernel)
    if options.padding == "same":
        if any(step != 1 for step in stride):
            raise context.error(f"expected stride 1 with padding: same, found {options.stride}; give the padding in "
                                "numbers", "padding")
        totals = [reach * (size - 1) for reach, size in zip(dilation, kernel, strict=True)]
        return [(sp.floor(total / 2), total - sp.floor(total / 2)) for total in totals]
    numbers = along(0 if options.padding == "valid" else options.padding, axes, context, "padding")
    return [(sp.Integer(number), sp.Integer(number)) for number in numbers]


def _build(axes: int, options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    (x,) = inputs
    context.real(x, axes + 1, axes + 2)
    lead = ("n",) * (x.rank - axes - 1)
    inner, space = x.shape[len(lead)], x.shape[len(lead) + 1 :]
    outer = context.extent(options.channels, "channels")
    groups = context.extent(options.groups, "groups")
    kernel = [context.extent(size, "kernel") for size in along(options.kernel, axes, context, "kernel")]
    stride, dilation = (along(getattr(options, key), axes, context, key) for key in ("stride", "dilation"))
    padding = _padding(options, kernel, dilation, stride, context)
    windows = [reach * (size - 1) + 1 for reach, size in zip(dilation, kernel, strict=True)]
    out = extents(space, windows, stride, padding, context)
    u, p = SPACE[:axes], KERNEL[:axes]
    windowed = zip(stride, u, dilation, p, padding, strict=True)
    subscripts = [strided(step, i, reach, k, before) for step, i, reach, k, (before, _) in windowed]

    target = "y" if options.activation == "identity" else "a"
    bias = "b[o]" if options.bias else ""
    ranges: dict[str, Any] = dict(zip(u, out, strict=True))
    sizes: dict[str, Expr] = {}
    shapes: dict[str, tuple[Expr, ...]] = {}
    result = (*x.shape[: len(lead)], outer, *out)
    if groups == 1:
        right = f"{at('W', 'o', 'c', *p)}*{at('x', *lead, 'c', *subscripts)}" + (f" + {bias}" if bias else "")
        text = f"{at(target, *lead, 'o', *u)} = {right}"
        shared = inner
    else:
        shared = context.share(inner, groups, f"the channels of '{x.name}'", "groups")
        part = context.share(outer, groups, "channels", "groups")
        sizes |= {"M": part, "C": shared}
        ranges |= {"s": groups, "m": part, **({"n": x.shape[0]} if lead else {})}
        shapes[target] = result
        first, source = ("s", "s") if part == 1 else ("m+M*s", "c+C*s")
        source = "c+C*s" if shared != 1 else "c+s"
        text = f"{at(target, *lead, first, *u)} = {at('W', first, 'c', *p)}*{at('x', *lead, source, *subscripts)}"
        if bias:
            text += f"\n{at(target, *lead, 'o', *u)} += b[o]"
            ranges["o"] = outer
    fan = shared * sp.prod(kernel)
    own = {"W": Parameter((outer, shared, *kernel), f"fan_uniform({fan})")}
    if options.bias:
        own["b"] = Parameter((outer,), f"fan_uniform({fan})")
    own = parameters(own, options.init, context)
    if target == "y":
        return Block(text, "y", {"x": x}, own, {}, shapes, sizes, ranges, REFERENCE)
    done = apply(options.activation, "a", "y", (*lead, "o", *u), result, context)
    return Block(f"{text}\n{done.equations}", "y", {"x": x}, {**own, **done.parameters}, {}, shapes,
                 {**sizes, **done.sizes}, {**ranges, **done.ranges}, REFERENCE)


def _one(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _build(1, options, inputs, context)


def _two(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _build(2, options, inputs, context)


_EXAMPLE = {"channels": "O", "kernel": 3}
CATALOGUE = {
    "conv1d": Layer(Options, _one, REFERENCE, example=_EXAMPLE, example_inputs=("N, C, L",)),
    "conv2d": Layer(Options, _two, REFERENCE, example=_EXAMPLE, example_inputs=("N, C, A, B",)),
}
