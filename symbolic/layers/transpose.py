"""Transpose: axes in another order.

    y[u,n] = x[n,u]
"""

from __future__ import annotations

from symbolic.layers.base import Block, Context, Layer, LayerOptions, at
from symbolic.layers.flatten import NAMES
from symbolic.program import Tensor

REFERENCE = "torch.permute"


class Options(LayerOptions):
    """``order``: for each axis of the result the axis of the input; left out, the axes reversed."""

    order: list[int] | None = None


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x [A, B, ...] to y with axis k of the input at the place of k in ``order``."""
    (x,) = inputs
    context.real(x, 0, len(NAMES))
    names = NAMES[: x.rank]
    order = list(reversed(range(x.rank))) if options.order is None else options.order
    if sorted(order) != list(range(x.rank)):
        raise context.error(f"expected each of the axes 0 to {x.rank - 1} of '{x.name}' once, found {order}", "order")
    return Block(f"{at('y', *(names[axis] for axis in order))} = {at('x', *names)}", "y", {"x": x}, reference=REFERENCE)


CATALOGUE = {"transpose": Layer(Options, build, REFERENCE, example={"order": [1, 0]}, example_inputs=("A, B",))}
