"""One hot: an integer becomes a row of zeros with a single one.

    y[t,n,x[t,n]] = 1

An integer outside 0..classes-1 (an ignored one) gives a row of zeros.
"""

from __future__ import annotations

from symbolic.layers.base import Block, Context, Extent, Layer, LayerOptions, at, leading
from symbolic.program import Tensor

REFERENCE = "torch.nn.functional.one_hot"


class Options(LayerOptions):
    """``classes``: length of a row; left out, the ``below`` of the input."""

    classes: Extent | None = None


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """Integers x [...] to y [..., classes]."""
    (x,) = inputs
    classes = context.classes(x, options.classes)
    names = leading(x.shape)
    return Block(f"{at('y', *names, at('x', *names))} = 1", "y", {"x": x}, shapes={"y": (*x.shape, classes)},
                 ranges=dict(zip(names, x.shape, strict=True)), reference=REFERENCE)


CATALOGUE = {"one_hot": Layer(Options, build, REFERENCE, example={"classes": "V"}, example_inputs=("T, N below V",))}
