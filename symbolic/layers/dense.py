"""Dense: an affine map of the last axis.

    y[n,i] = W[i,k]*x[n,k] + b[i]

Any number of leading axes. W is [out, in], as torch's ``Linear.weight``; with ``weights: in_out`` it is [in, out] and stands
as W[k,i].
"""

from __future__ import annotations

from pydantic import Field

from symbolic.layers.activation import Activation, apply
from symbolic.layers.base import (
    Block,
    Context,
    Extent,
    Inits,
    Layer,
    LayerOptions,
    Matrix,
    Parameter,
    Weights,
    at,
    leading,
    parameters,
)
from symbolic.program import Tensor

REFERENCE = "Rosenblatt 1958; Rumelhart, Hinton, Williams 1986"


class Options(LayerOptions):
    """``units``: extent of the result's last axis. ``weights``: whether W is stored [out, in] or [in, out]."""

    units: Extent
    activation: Activation = "identity"
    bias: bool = True
    weights: Weights = "out_in"
    init: Inits = Field(default_factory=dict)


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x [..., K] to y [..., I]."""
    (x,) = inputs
    context.real(x, 1)
    units = context.extent(options.units, "units")
    names = leading(x.shape[:-1])
    y, shape = (*names, "i"), (*x.shape[:-1], units)
    plain = options.activation == "identity"
    w, fan = Matrix("W", options.weights), f"fan_uniform({x.shape[-1]})"
    equations = f"{at('y' if plain else 'a', *y)} = {w('i', 'k')}*{at('x', *names, 'k')}" + (" + b[i]" if options.bias else "")
    own = {"W": w.parameter(units, x.shape[-1], fan)}
    if options.bias:
        own["b"] = Parameter((units,), fan)
    own = parameters(own, options.init, context)
    if plain:
        return Block(equations, "y", {"x": x}, own, reference=REFERENCE)
    done = apply(options.activation, "a", "y", y, shape, context)
    return Block(f"{equations}\n{done.equations}", "y", {"x": x}, {**own, **done.parameters}, sizes=done.sizes,
                 ranges=done.ranges, reference=REFERENCE)


CATALOGUE = {"dense": Layer(Options, build, REFERENCE, example={"units": "H"})}
