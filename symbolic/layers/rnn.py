"""Elman's recurrent network.

    a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
    h[t,n,i] = tanh(a[t,n,i])

One bias (torch's two are added on import). W is [H, D], U is [H, H]; with ``weights: in_out`` W is [D, H] and the products are
W[k,i]*x[t,n,k] + U[j,i]*h[t-1,n,j].
"""

from __future__ import annotations

from symbolic.layers.activation import Activation, elementwise
from symbolic.layers.base import Block, Context, Layer
from symbolic.layers.recurrent import Cell, RecurrentOptions, assemble
from symbolic.program import Tensor

REFERENCE = "Elman 1990; torch.nn.RNN"


class Options(RecurrentOptions):
    """``activation``: any that works entry by entry (tanh, relu, ...)."""

    activation: Activation = "tanh"


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x [T, ..., D] to h [T, ..., H] (or [..., H] for the last step)."""

    def write(cell: Cell) -> str:
        w = cell.weight("W", cell.units, cell.features)
        u = cell.weight("U", cell.units, cell.units)
        bias = f" + {cell.parameter('b', cell.units)}[i]" if options.bias else ""
        a = cell.now("a", "i")
        return (f"{a} = {w('i', 'k')}*{cell.x('k')} + {u('i', 'j')}*{cell.before('h', 'j')}{bias}\n"
                f"{cell.now('h', 'i')} = {cell.mask}{elementwise(options.activation, a, context)}")

    return assemble(options, inputs, context, write, ("h",), REFERENCE)


CATALOGUE = {"rnn": Layer(Options, build, REFERENCE, example={"units": "H"}, example_inputs=("T, N, D",))}
