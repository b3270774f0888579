"""Reshape: the same entries in the same order under another shape, through one flat axis.

    z[n,u*A+v] = x[n,u,v]
    y[n,p,q]   = z[n,p*B+q]

Axes that are the same at the front stay as they are.
"""

from __future__ import annotations

import sympy as sp

from symbolic.layers.base import Block, Context, Extent, Layer, LayerOptions, at
from symbolic.layers.flatten import NAMES, mixed_radix
from symbolic.program import Tensor

REFERENCE = "torch.reshape"


class Options(LayerOptions):
    """``shape``: the new shape, all axes (``[N, 4, H]``)."""

    shape: list[Extent]


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x of any shape to y of ``shape``, which has as many entries."""
    (x,) = inputs
    context.real(x, 1, len(NAMES))
    shape = tuple(context.extent(extent, "shape") for extent in options.shape)
    if len(shape) > len(NAMES) or not shape:
        raise context.error(f"expected 1 to {len(NAMES)} axes, found {len(shape)}", "shape")
    if sp.expand(sp.prod(shape) - sp.prod(x.shape)) != 0:
        raise context.error(f"expected as many entries as '{x.name}' [{', '.join(map(str, x.shape))}] has, found "
                            f"[{', '.join(map(str, shape))}]", "shape")
    same = 0
    while same < min(x.rank, len(shape)) - 1 and x.shape[same] == shape[same]:
        same += 1
    names = NAMES[: max(x.rank, len(shape))]
    old = tuple(f"L{axis}" for axis in range(x.rank))
    new = tuple(f"K{axis}" for axis in range(len(shape)))
    before = mixed_radix(names[same : x.rank], old[same:])
    after = mixed_radix(names[same : len(shape)], new[same:])
    lead = names[:same]
    fresh = tuple(f"{name}1" for name in names[same : len(shape)])
    for name, other in zip(names[same : len(shape)], fresh, strict=True):
        after = after.replace(name, other)
    text = (f"{at('z', *lead, before)} = {at('x', *names[: x.rank])}\n"
            f"{at('y', *lead, *fresh)} = {at('z', *lead, after if '+' in after else after + '+0')}")
    ranges = dict(zip((*lead, *fresh), shape, strict=True))
    flat = (*shape[:same], sp.prod(shape[same:]))
    return Block(text, "y", {"x": x}, shapes={"z": flat, "y": shape},
                 sizes={**dict(zip(old, x.shape, strict=True)), **dict(zip(new, shape, strict=True))}, ranges=ranges,
                 reference=REFERENCE)


CATALOGUE = {
    "reshape": Layer(Options, build, REFERENCE, example={"shape": ["N", "A", "B"]}, example_inputs=("N, A*B",)),
}
