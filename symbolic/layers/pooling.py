"""Pooling: the maximum or the average of windows over one or two axes, or over all of them.

    y[n,c,u] = max((0 <= S*u+p-P)*(S*u+p-P < L)*x[n,c,S*u+p-P], over=p)
    y[n,c,u] = sum(x[n,c,S*u+p-P], over=p)/K

The guard leaves padding out of a maximum, which it must never win; ties go to the first entry. The average counts
padding as torch does, or with ``count_padding: false`` divides by the entries that exist. The stride is the kernel
where left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import sympy as sp
from pydantic import Field
from sympy import Expr

from symbolic.layers.base import Block, Context, Extent, Layer, LayerOptions, at
from symbolic.layers.convolution import KERNEL, SPACE, Count, along, extents, strided
from symbolic.program import Tensor

MAX_REFERENCE = "Riesenhuber, Poggio 1999; torch.nn.MaxPool1d, MaxPool2d"
AVERAGE_REFERENCE = "LeCun et al. 1998; torch.nn.AvgPool1d, AvgPool2d"
GLOBAL_REFERENCE = "Lin, Chen, Yan 2014; torch.nn.AdaptiveAvgPool2d(1), AdaptiveMaxPool2d(1)"


class Options(LayerOptions):
    """Kernel, stride and padding: one number, or one for each axis."""

    kernel: Extent | list[Extent]
    stride: Count | list[Count] | None = None
    padding: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = 0


class MaxOptions(Options):
    """``dilation``: distance between the entries of a window."""

    dilation: Count | list[Count] = 1


class AverageOptions(Options):
    """``count_padding``: whether padding counts in the divisor."""

    count_padding: bool = True


class GlobalOptions(LayerOptions):
    """No options."""


def _over(names: Sequence[str]) -> str:
    """The indices of a reduction: ``p``, ``(p,q)``."""
    return f"({','.join(names)})" if len(names) > 1 else names[0]


def _inside(subscripts: list[str]) -> list[str]:
    """For each axis the guard that a window's entry is one of the input's."""
    return [f"(0 <= {subscript})*({subscript} < L{axis})*" for axis, subscript in enumerate(subscripts, 1)]


def _window(axes: int, options: Options, x: Tensor, context: Context
            ) -> tuple[tuple[str, ...], list[str], list[str], dict[str, Any], list[Expr], dict[str, Expr]]:
    """Leading indices, subscripts of the window, guards where it leaves the input, ranges, kernel, sizes."""
    context.real(x, axes + 1, axes + 2)
    lead = ("n", "c") if x.rank == axes + 2 else ("c",)
    space = x.shape[len(lead) :]
    kernel = [context.extent(size, "kernel") for size in along(options.kernel, axes, context, "kernel")]
    given = options.kernel if options.stride is None else options.stride
    stride = along(given, axes, context, "stride")
    if not all(isinstance(step, int) for step in stride):
        raise context.error(f"expected a stride in numbers beside the kernel {options.kernel}", "stride")
    dilation = along(getattr(options, "dilation", 1), axes, context, "dilation")
    numbers = along(options.padding, axes, context, "padding")
    for number, size in zip(numbers, kernel, strict=True):
        if (size - 2 * number).is_negative:
            raise context.error(f"expected a padding of at most half the kernel {size}, found {number}", "padding")
    windows = [reach * (size - 1) + 1 for reach, size in zip(dilation, kernel, strict=True)]
    out = extents(space, windows, stride, [(sp.Integer(number), sp.Integer(number)) for number in numbers], context)
    u, p = SPACE[:axes], KERNEL[:axes]
    subscripts = [strided(s, i, d, k, sp.Integer(number))
                  for s, i, d, k, number in zip(stride, u, dilation, p, numbers, strict=True)]
    sizes = {f"L{axis}": length for axis, length in enumerate(space, 1)}
    guards = [text for text, number in zip(_inside(subscripts), numbers, strict=True) if number]
    ranges = {**dict(zip(u, out, strict=True)), **dict(zip(p, kernel, strict=True))}
    return lead, subscripts, guards, ranges, kernel, sizes


def _maximum(axes: int, options: MaxOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    (x,) = inputs
    lead, subscripts, guards, ranges, _, sizes = _window(axes, options, x, context)
    over = _over(KERNEL[:axes])
    text = f"{at('y', *lead, *SPACE[:axes])} = max({''.join(guards)}{at('x', *lead, *subscripts)}, over={over})"
    return Block(text, "y", {"x": x}, sizes=sizes, ranges=ranges, reference=MAX_REFERENCE)


def _average(axes: int, options: AverageOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    (x,) = inputs
    lead, subscripts, guards, ranges, kernel, sizes = _window(axes, options, x, context)
    u, over = SPACE[:axes], _over(KERNEL[:axes])
    added = f"sum({at('x', *lead, *subscripts)}, over={over})"
    if options.count_padding or not guards:
        sizes = {**sizes, **{f"K{axis}": size for axis, size in enumerate(kernel, 1)}}
        count = "*".join(f"K{axis}" for axis in range(1, axes + 1))
        text = f"{at('s', *lead, *u)} = {added}\n{at('y', *lead, *u)} = {at('s', *lead, *u)}/({count})"
    else:
        text = (f"{at('s', *lead, *u)} = {added}\n"
                f"{at('count', *u)} = sum({''.join(_inside(subscripts))}1, over={over})\n"
                f"{at('y', *lead, *u)} = {at('s', *lead, *u)}/{at('count', *u)}")
    return Block(text, "y", {"x": x}, sizes=sizes, ranges=ranges, reference=AVERAGE_REFERENCE)


def _everywhere(reducer: str, inputs: tuple[Tensor, ...], context: Context) -> Block:
    (x,) = inputs
    context.real(x, 3, 5)
    space = SPACE[: x.rank - 2]
    text = f"y[n,c] = {reducer}({at('x', 'n', 'c', *space)}, over={_over(space)})"
    return Block(text, "y", {"x": x}, reference=GLOBAL_REFERENCE)


def _max1(options: MaxOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _maximum(1, options, inputs, context)


def _max2(options: MaxOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _maximum(2, options, inputs, context)


def _average1(options: AverageOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _average(1, options, inputs, context)


def _average2(options: AverageOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _average(2, options, inputs, context)


def _global_max(_: GlobalOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _everywhere("max", inputs, context)


def _global_average(_: GlobalOptions, inputs: tuple[Tensor, ...], context: Context) -> Block:
    return _everywhere("mean", inputs, context)


_ONE, _TWO = ("N, C, L",), ("N, C, A, B",)
CATALOGUE = {
    "max_pool1d": Layer(MaxOptions, _max1, MAX_REFERENCE, example={"kernel": 2}, example_inputs=_ONE),
    "max_pool2d": Layer(MaxOptions, _max2, MAX_REFERENCE, example={"kernel": 2}, example_inputs=_TWO),
    "avg_pool1d": Layer(AverageOptions, _average1, AVERAGE_REFERENCE, example={"kernel": 2}, example_inputs=_ONE),
    "avg_pool2d": Layer(AverageOptions, _average2, AVERAGE_REFERENCE, example={"kernel": 2}, example_inputs=_TWO),
    "global_max_pool": Layer(GlobalOptions, _global_max, GLOBAL_REFERENCE, example_inputs=_TWO),
    "global_avg_pool": Layer(GlobalOptions, _global_average, GLOBAL_REFERENCE, example_inputs=_TWO),
}
