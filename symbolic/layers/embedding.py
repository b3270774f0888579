"""Embedding: an integer becomes the row of a trained table.

    y[t,n,k] = E[x[t,n],k]

``padding: p`` gives zeros for the integer p and leaves its row out of training (torch keeps that row at zero).
"""

from __future__ import annotations

from pydantic import Field

from symbolic.layers.base import Block, Context, Extent, Inits, Layer, LayerOptions, Parameter, at, leading, parameters
from symbolic.program import Tensor

REFERENCE = "Bengio et al. 2003; torch.nn.Embedding"


class Options(LayerOptions):
    """``classes``: rows of the table; left out, the ``below`` of the input. ``units``: their length."""

    units: Extent
    classes: Extent | None = None
    padding: int | None = None
    init: Inits = Field(default_factory=dict)


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """Integers x [...] to y [..., units]."""
    (x,) = inputs
    classes = context.classes(x, options.classes)
    own = {"E": Parameter((classes, context.extent(options.units, "units")), "normal(0, 1)")}
    names = leading(x.shape)
    entry = at("x", *names)
    guard = "" if options.padding is None else f"({entry} != {options.padding})*"
    return Block(f"{at('y', *names, 'k')} = {guard}E[{entry},k]", "y", {"x": x}, parameters(own, options.init, context),
                 ranges=dict(zip(names, x.shape, strict=True)), reference=REFERENCE)


CATALOGUE = {"embedding": Layer(Options, build, REFERENCE, example={"classes": "V", "units": "E"},
                                example_inputs=("T, N below V",))}
