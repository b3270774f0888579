"""Flatten: axes ``start`` to ``end`` become one, the last of them running fastest.

    y[n,(c*A+u)*B+v] = x[n,c,u,v]
"""

from __future__ import annotations

import sympy as sp
from sympy import Expr

from symbolic.layers.base import Block, Context, Layer, LayerOptions, at
from symbolic.program import Tensor

__all__ = ["CATALOGUE", "NAMES", "mixed_radix"]

REFERENCE = "torch.flatten"
NAMES = ("n", "c", "u", "v", "w", "p", "q", "r")


class Options(LayerOptions):
    """``start``, ``end``: first and last axis to join, counted from either end."""

    start: int = 1
    end: int = -1


def mixed_radix(names: tuple[str, ...], sizes: tuple[str, ...]) -> str:
    """The number that digits ``names`` of radices ``sizes`` make: ``(c*A+u)*B+v``."""
    text = names[0]
    for name, size in zip(names[1:], sizes[1:], strict=True):
        text = f"{f'({text})' if '+' in text else text}*{size}+{name}"
    return text


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x [N, A, B, ...] to y [N, A*B*...]."""
    (x,) = inputs
    context.real(x, 1, len(NAMES))
    names = NAMES[: x.rank]
    for key in ("start", "end"):
        if not -x.rank <= getattr(options, key) < x.rank:
            raise context.error(f"expected an axis of '{x.name}' [{', '.join(map(str, x.shape))}], found "
                                f"{getattr(options, key)}", key)
    start, end = options.start % x.rank, options.end % x.rank
    if end < start:
        raise context.error(f"expected an end after the start, found axes {start} to {end}", "end")
    radices = tuple(f"L{axis}" for axis in range(x.rank))
    joined = mixed_radix(names[start : end + 1], radices[start : end + 1])
    shape: tuple[Expr, ...] = (*x.shape[:start], sp.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    return Block(f"{at('y', *names[:start], joined, *names[end + 1 :])} = {at('x', *names)}", "y", {"x": x},
                 shapes={"y": shape}, sizes=dict(zip(radices, x.shape, strict=True)), reference=REFERENCE)


CATALOGUE = {"flatten": Layer(Options, build, REFERENCE, example_inputs=("N, C, A, B",))}
