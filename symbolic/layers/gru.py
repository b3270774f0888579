"""Gated recurrent unit, the three gates packed on one axis of 3H: r, z, n (the candidate, written g here).

``reset: after`` (torch, cuDNN) applies the reset gate after the recurrent product, which has a bias of its own, bn:

    a[t,n,q] = W[q,d]*x[t,n,d] + b[q]
    m[t,n,q] = U[q,j]*h[t-1,n,j]
    r[t,n,k] = sigmoid(a[t,n,k] + m[t,n,k])
    z[t,n,k] = sigmoid(a[t,n,H+k] + m[t,n,H+k])
    v[t,n,k] = m[t,n,2*H+k] + bn[k]
    g[t,n,k] = tanh(a[t,n,2*H+k] + r[t,n,k]*v[t,n,k])
    h[t,n,k] = (1 - z[t,n,k])*g[t,n,k] + z[t,n,k]*h[t-1,n,k]

``reset: before`` (the paper) applies it to the state, so that the candidate has a product of its own:

    m[t,n,e] = U[e,j]*h[t-1,n,j]           (r and z: e over 2H)
    p[t,n,k] = r[t,n,k]*h[t-1,n,k]
    v[t,n,k] = U[2*H+k,j]*p[t,n,j]
    g[t,n,k] = tanh(a[t,n,2*H+k] + v[t,n,k])

W is [3H, D], U is [3H, H]; with ``weights: in_out`` W is [D, 3H], U is [H, 3H], and the products are W[d,q]*x[t,n,d] and
U[j,q]*h[t-1,n,j].
"""

from __future__ import annotations

from typing import Literal

from symbolic.layers.base import Block, Context, Layer
from symbolic.layers.recurrent import Cell, RecurrentOptions, assemble
from symbolic.program import Tensor

REFERENCE = "Cho et al. 2014, eq. 5-8; torch.nn.GRU for reset: after"


class Options(RecurrentOptions):
    """``reset``: after (torch) or before the recurrent product."""

    reset: Literal["after", "before"] = "after"


def build(options: Options, inputs: tuple[Tensor, ...], context: Context) -> Block:
    """x [T, ..., D] to h [T, ..., H] (or [..., H] for the last step)."""
    after = options.reset == "after"

    def write(cell: Cell) -> str:
        w = cell.weight("W", 3 * cell.units, cell.features)
        u = cell.weight("U", 3 * cell.units, cell.units)
        b = f" + {cell.parameter('b', 3 * cell.units)}[q]" if options.bias else ""
        r, z, g, v, p = (cell.now(gate, "k") for gate in "rzgvp")
        h, before = cell.now("h", "k"), cell.before("h", "k")
        lines = [f"{cell.now('a', 'q')} = {w('q', 'd')}*{cell.x('d')}{b}"]
        packed = "q" if after else "e"
        lines.append(f"{cell.now('m', packed)} = {u(packed if after else 'e+0', 'j')}*{cell.before('h', 'j')}")
        lines.append(f"{r} = sigmoid({cell.now('a', 'k+0')} + {cell.now('m', 'k+0')})")
        lines.append(f"{z} = sigmoid({cell.now('a', 'H+k')} + {cell.now('m', 'H+k')})")
        if after:
            bn = f" + {cell.parameter('bn', cell.units)}[k]" if options.bias else ""
            lines.append(f"{v} = {cell.now('m', '2*H+k')}{bn}")
            lines.append(f"{g} = tanh({cell.now('a', '2*H+k')} + {r}*{v})")
        else:
            lines.append(f"{p} = {r}*{before}")
            lines.append(f"{v} = {u('2*H+k', 'j')}*{cell.now('p', 'j')}")
            lines.append(f"{g} = tanh({cell.now('a', '2*H+k')} + {v})")
        mixed = f"(1 - {z})*{g} + {z}*{before}"
        lines.append(f"{h} = {cell.mask}({mixed})" if cell.mask else f"{h} = {mixed}")
        return "\n".join(lines)

    units = context.extent(options.units, "units")
    packed = {} if after else {"e": 2 * units}
    return assemble(options, inputs, context, write, ("h",), REFERENCE, k=units, **packed)


CATALOGUE = {"gru": Layer(Options, build, REFERENCE, example={"units": "H"}, example_inputs=("T, N, D",))}
