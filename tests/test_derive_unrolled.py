"""The network rolled out: compositions, and the gradient as a sum over time of products of Jacobians."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.derivation.formats import Style, show
from codegen.derivation.provenance import derive
from codegen.trial import choose_sizes, draw
from symbolic import Model, gradient, load
from symbolic.interpreter import evaluate
from symbolic.jacobian import step_jacobian, with_blocks
from symbolic.rewrite import apply

CELL = """
a[t,i] = W_h[j,i]*h[t-1,j] + W_x[k,i]*x[t,k]
h[t,i] = f(a[t,i])
z[t,v] = W_o[i,v]*h[t,i]
e[t,v] = exp(z[t,v])
s[t] = sum(e[t,v], over=v)
y_hat[t,v] = e[t,v]/s[t]
loss = -sum(log(y_hat[t,y[t]]), over=t)
"""


def published() -> Model:
    """h_t = f(W_h^T h_{t-1} + W_x^T x_t), y_t = softmax(W_o^T h_t), the activation left unspecified."""
    return load(CELL, functions=["f"], inputs={"x": ["T", "D"], "y": {"shape": ["T"], "kind": "index", "below": "V"}},
                parameters={"W_h": ["H", "H"], "W_x": ["D", "H"], "W_o": ["H", "V"]}, states={"h": ["T", "H"]}, loss="loss")


def test_the_published_forms_come_out_literally() -> None:
    shown = show(derive(published(), unroll=3))
    for line in (
        "h[t] = f(W_h^T h[t-1] + W_x^T x[t])",
        "y_hat[t] = softmax(W_o^T h[t])",
        "y_hat[t] = softmax(W_o^T f(W_h^T f(W_h^T f(...) + W_x^T x[t-1]) + W_x^T x[t]))",
        "y_hat[2] = softmax(W_o^T f(W_h^T f(W_h^T f(W_x^T x[0]) + W_x^T x[1]) + W_x^T x[2]))",
        "dloss/dW_h = sum_t sum_k<=t dloss[t]/dh[t]*(prod_j=k+1..t dh[j]/dh[j-1])*d^+h[k]/dW_h",
        "dh[t]/dh[t-1] = diag(f'(a[t])) W_h^T",
        "prod_j=k+1..t dh[j]/dh[j-1] = prod_j=k+1..t diag(f'(a[j])) W_h^T",
        "d^+h[t,i]/dW_h[j,i] = h[t-1,j]*f'(a[t,i])",
    ):
        assert f"  {line}\n" in shown, line


def test_the_published_forms_in_latex() -> None:
    shown = " ".join(re.sub(r"\\brk\w?", "", show(derive(published(), unroll=3), "latex")).split())
    inner = r"f(\mathbf{W}_{h}^{\top} \mathbf{h}_{t - 1} {}+ \mathbf{W}_{x}^{\top} \mathbf{x}_{t})"
    assert rf"\mathbf{{h}}_{{t}} = {inner}".replace("{}+", "+") in shown
    assert r"\prod_{j = k + 1}^{t} \frac{\partial \mathbf{h}_{j}}{\partial \mathbf{h}_{j - 1}}" in shown
    assert r"\frac{\partial^{+} \mathbf{h}_{k}}{\partial \mathbf{W}_{h}}" in shown


@pytest.mark.parametrize(("spec", "line"), [
    ("char_rnn", ("out.y[t] = tanh(embed.y[t] rnn.W^T + tanh(embed.y[t-1] rnn.W^T + tanh(...) rnn.U^T + rnn.b) rnn.U^T + rnn.b) "
                  "out.W^T + out.b")),
    ("char_rnn", "drnn.h[t,n]/drnn.h[t-1,n] = diag(1 - rnn.h[t,n] o rnn.h[t,n]) rnn.U"),
    ("second_order", "dcell.h[t,n]/dcell.h[t-2,n] = diag(1 - cell.h[t,n] o cell.h[t,n]) cell.V"),
    ("lstm_lm", "(lstm.h[t],lstm.c[t]) = F(F(F(..., embed.y[t-2]), embed.y[t-1]), embed.y[t])"),
    ("lstm_lm", "dlstm.c[t,n]/dlstm.c[t-1,n] = diag(lstm.f[t,n])"),
    ("leaky_integrator", "dcell.u[t,n]/dcell.u[t-1,n] = diag(1 - cell.a)"),
    ("minimal_gated_unit", "cell.h[t] = F(F(F(..., x[t-2]), x[t-1]), x[t])"),
    ("rnn_regression", "out.y[0] = tanh(x[0] rnn.W^T + (1 rnn.h0^T) rnn.U^T + rnn.b) out.W^T + out.b"),
])
def test_each_cell_has_its_own_formulas(specs: Path, spec: str, line: str) -> None:
    assert f"  {line}\n" in show(derive(load(specs / f"{spec}.yaml"), unroll=3))


def test_a_recurrence_that_is_not_unrolled_has_no_such_section(specs: Path) -> None:
    assert "Rolled out" not in show(derive(load(specs / "char_rnn.yaml")))


def test_a_cell_that_grows_too_fast_is_a_function_of_one_step(specs: Path) -> None:
    """It reads its state in three places: put into itself eight times it would be 3^8 times as long."""
    shown = show(derive(load(specs / "minimal_gated_unit.yaml"), unroll=8), style=Style("matrix"))
    assert "cell.h[t] = F(F(F(F(F(F(F(F(..., x[t-7])" in shown


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_the_double_sum_is_the_gradient(kind: str) -> None:
    """dL/dU = sum_t sum_{k<=t} dL_t/ds_t (prod ds_j/ds_{j-1}) d+s_k/dU, every factor from the blocks that are displayed."""
    steps, batch, width = 4, 2, 3
    model = load({
        "name": "m", "dtype": "float64", "sizes": {"D": 2, "H": width}, "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", "H"]},
        "layers": [{"name": "cell", "type": kind, "units": "H"}], "loss": {"type": "mse", "target": "y"},
    })
    program, _ = apply(model.program(), "forward")
    sizes = choose_sizes(program, {"T": steps, "N": batch})
    rng = np.random.default_rng(1)
    start = {t.name: rng.normal(size=[sizes.get(str(e), 0) or int(e.xreplace(program.fixed)) for e in t.shape])
             for t in program.parameters}
    point = draw(program, sizes, start, 0).values
    jacobian = step_jacobian(program)
    weights = [b for b in jacobian.direct if b.between[1] == "cell.U"]
    built, names = with_blocks(jacobian, [*jacobian.blocks, *weights])
    values = evaluate(built, point, sizes, list(names.values()))
    adjoint = gradient(program)
    wanted = evaluate(adjoint, point, sizes, [adjoint.gradients["cell.U"], adjoint.gradients["loss.r"]])
    states = jacobian.recurrence.states

    def full(block: Any, t: int, n: int) -> Any:
        """A block at one step and sample as a matrix from all entries of the state to all of what it is derived by."""
        table = values[names[block]][t, n]
        return np.diag(table) if table.ndim == 1 else table

    def step(t: int, n: int) -> Any:
        def block(of: str, by: str) -> Any:
            return sum((full(b, t, n) for b in jacobian.blocks if b.between == (of, by)), np.zeros((width, width)))

        return np.block([[block(of, by) for by in states] for of in states])

    def at_once(t: int, n: int) -> Any:
        """The immediate derivatives of all states by U, which has its own shape behind."""
        shape = wanted[adjoint.gradients["cell.U"]].shape
        found = []
        for of in states:
            (block,) = [b for b in weights if b.between[0] == of]
            table = values[names[block]][t, n]
            if table.ndim == 2:  # the rows of U are those of the state
                whole = np.zeros((width, *shape))
                whole[np.arange(width), np.arange(width)] = table
                table = whole
            found.append(table)
        return np.concatenate(found)

    total = np.zeros_like(wanted[adjoint.gradients["cell.U"]])
    for n in range(batch):
        for t in range(steps):
            # The loss reads h alone, through loss.r = h - y.
            here = np.zeros(width * len(states))
            here[:width] = wanted[adjoint.gradients["loss.r"]][t, n]
            for k in range(t + 1):
                row = here
                for j in range(t, k, -1):
                    row = row @ step(j, n)
                total += np.tensordot(row, at_once(k, n), 1)
    np.testing.assert_allclose(total, wanted[adjoint.gradients["cell.U"]], rtol=1e-9, atol=1e-13)
