"""Long short-term memory, the four gates packed on one axis of 4H: i, f, g, o.

    a[t,n,r] = W[r,d]*x[t,n,d] + U[r,j]*h[t-1,n,j] + b[r]
    i[t,n,k] = sigmoid(a[t,n,k])           f[t,n,k] = sigmoid(a[t,n,H+k])
    g[t,n,k] = tanh(a[t,n,2*H+k])          o[t,n,k] = sigmoid(a[t,n,3*H+k])
    c[t,n,k] = f[t,n,k]*c[t-1,n,k] + i[t,n,k]*g[t,n,k]
    h[t,n,k] = o[t,n,k]*tanh(c[t,n,k])

W is [4H, D], U is [4H, H], the gates in the order of torch's ``state_dict``; with ``weights: in_out`` W is [D, 4H], U is
[H, 4H], and the products are W[d,r]*x[t,n,d] + U[j,r]*h[t-1,n,j]. One bias (torch's two are added on import).
``forget_bias`` starts the forget gate's bias at that value and the other biases at 0 (Jozefowicz et al. 2015).
"""

from __future__ import annotations

from symbolic.layers.base import Block, Context, Layer, Parameter, scalar
from symbolic.layers.recurrent import Cell, RecurrentOptions, assemble
from symbolic.program import Tensor

REFERENCE = "Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000; torch.nn.LSTM"


class Options(RecurrentOptions):
    """``forget_bias``: initial bias of the forget gate; left out, torch's initialiser holds for all gates."""

    forget_bias: float | None = None


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x [T, ..., D] to h [T, ..., H] (or [..., H] for the last step)."""

    def write(cell: Cell) -> str:
        w = cell.weight("W", 4 * cell.units, cell.features)
        u = cell.weight("U", 4 * cell.units, cell.units)
        bias = ""
        if options.bias:
            b = cell.parameter("b", 4 * cell.units)
            bias = f" + {b}[r]"
            if options.forget_bias is not None:
                cell.parameters[b] = Parameter((4 * cell.units,), f"forget_gate({scalar(options.forget_bias)})")
        # After the end c goes on unseen, as h is 0 there; in reverse it stays 0 until the first step that exists.
        new = cell.mask if cell.reverse else ""
        i, f, g, o, c = (cell.now(gate, "k") for gate in "ifgoc")
        return (
            f"{cell.now('a', 'r')} = {w('r', 'd')}*{cell.x('d')} + {u('r', 'j')}*{cell.before('h', 'j')}{bias}\n"
            f"{i} = sigmoid({cell.now('a', 'k+0')})\n"
            f"{f} = sigmoid({cell.now('a', 'H+k')})\n"
            f"{g} = tanh({cell.now('a', '2*H+k')})\n"
            f"{o} = sigmoid({cell.now('a', '3*H+k')})\n"
            f"{c} = {f}*{cell.before('c', 'k')} + {new}{i}*{g}\n"
            f"{cell.now('h', 'k')} = {cell.mask}{o}*tanh({c})"
        )

    return assemble(options, inputs, context, write, ("h", "c"), REFERENCE, k=context.extent(options.units, "units"))


CATALOGUE = {"lstm": Layer(Options, build, REFERENCE, example={"units": "H"}, example_inputs=("T, N, D",))}
