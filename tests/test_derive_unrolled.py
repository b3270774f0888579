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


RNN = "a[t,i] = U[i,j]*h[t-1,j] + x[t,i]\nh[t,i] = tanh(a[t,i])\n"
REVERSE = RNN.replace("t-1", "t+1")


def cell(equations: str, **given: Any) -> Model:
    """A recurrence written out, whose weights are U."""
    return load(equations, **{"sizes": {"H": 3}, "inputs": {"x": ["T", "H"]}, "parameters": {"U": ["H", "H"]},
                              "states": {"h": ["T", "H"]}, "loss": "loss", **given})


ELSEWHERE = cell(f"{REVERSE}loss = sum(h[t,i]**2, over=(t,i)) + 0.1*sum(U[i,j]**2, over=(i,j))")
SQUARED = cell(f"{RNN}loss = sum(h[t,i], over=(t,i))**2")
LAGS = cell("c[t,i] = tanh(h[t-2,i])*c[t-1,i] + x[t,i]\n"
            "h[t,i] = tanh(sum(U[i,j]*h[t-1,j], over=j) + c[t,i])\nloss = sum(h[t,i], over=(t,i))",
            states={"h": ["T", "H"], "c": ["T", "H"]})


@pytest.mark.parametrize(("model", "lines"), [
    (ELSEWHERE, (  # time runs backwards, and the loss reads the weights too
        "dh[t]/dU = d^+h[t]/dU + dh[t]/dh[t+1]*dh[t+1]/dU",
        "dloss/dU = sum_t sum_k>=t dloss[t]/dh[t]*(prod_j=t..k - 1 dh[j]/dh[j+1])*d^+h[k]/dU + d^+loss/dU",
        "d^+h[t,i]/dU[i,j] = h[t+1,j]*(1 - h[t,i]**2)",
        "dloss/dU = sum_k dloss/dh[k]*d^+h[k]/dU + d^+loss/dU",
    )),
    (SQUARED, (  # no sum over the steps
        "dloss/dU = sum_t sum_k<=t d^+loss/dh[t]*(prod_j=k+1..t dh[j]/dh[j-1])*d^+h[k]/dU",
        "dloss/dh[t] = d^+loss/dh[t] + dloss/dh[t+1]*dh[t+1]/dh[t]",
    )),
    (cell(f"{RNN}loss = 0.5*sum(h[t,i]**2, over=(t,i))"), (
        "dloss/dU = sum_t sum_k<=t dloss[t]/dh[t]*(prod_j=k+1..t dh[j]/dh[j-1])*d^+h[k]/dU",
    )),
], ids=["reverse, weights elsewhere", "squared", "sum over steps"])
def test_the_general_sum_is_that_of_the_model(model: Model, lines: tuple[str, ...]) -> None:
    shown = show(derive(model, unroll=3))
    for line in lines:
        assert f"  {line}\n" in shown, line


@pytest.mark.parametrize(("model", "direct"), [(ELSEWHERE, 0.2), (SQUARED, 0.0), (LAGS, 0.0)], ids=["reverse", "squared", "lags"])
def test_one_pass_gives_the_gradient(model: Model, direct: float) -> None:
    """dL/dU = sum_k dL/dh_k d+h_k/dU + d+L/dU, from the displayed blocks; h stands for all states."""
    program, _ = apply(model.program(), "forward")
    sizes = choose_sizes(program, {"T": 5})
    rng = np.random.default_rng(2)
    point = draw(program, sizes, {"U": rng.normal(size=(3, 3))}, 0).values
    jacobian = step_jacobian(program)
    built, names = with_blocks(jacobian, jacobian.direct)
    values = evaluate(built, point, sizes, list(names.values()))
    adjoint = gradient(program)
    states = jacobian.recurrence.states
    wanted = evaluate(adjoint, point, sizes, [adjoint.gradients[n] for n in ("U", *states)])
    found = direct*point["U"]
    for block in jacobian.direct:
        if block.between[1] != "U":
            continue
        table, arriving = values[names[block]], wanted[adjoint.gradients[block.between[0]]]
        found = found + np.einsum("ti,tij->ij", arriving[:table.shape[0]], table)
    assert np.any(found)
    np.testing.assert_allclose(found, wanted[adjoint.gradients["U"]], rtol=1e-12)


def test_both_directions_of_a_layer_are_rolled_out() -> None:
    shown = show(derive(load({
        "name": "both", "sizes": {"D": 3, "H": 4, "C": 2}, "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", "C"]},
        "layers": [{"name": "f", "type": "rnn", "units": "H", "direction": "both"}, {"name": "o", "type": "dense", "units": "C"}],
        "loss": {"type": "mse", "target": "y"}}), unroll=3))
    assert "\nRolled out: f.h\n" in shown
    assert "\nRolled out: f.h_r\n" in shown
    assert "sum_t sum_k<=t dloss[t]/df.h[t]*(prod_j=k+1..t df.h[j]/df.h[j-1])*d^+f.h[k]/df.U\n" in shown
    assert "sum_t sum_k>=t dloss[t]/df.h_r[t]*(prod_j=t..k - 1 df.h_r[j]/df.h_r[j+1])*d^+f.h_r[k]/df.Ur\n" in shown


def test_exponentials_over_the_sum_of_another_step_are_no_softmax() -> None:
    other = CELL.replace("e[t,v]/s[t]", "e[t,v]/s[0]").replace("f(a", "tanh(a")
    model = load(other, inputs={"x": ["T", "D"], "y": {"shape": ["T"], "kind": "index", "below": "V"}},
                 parameters={"W_h": ["H", "H"], "W_x": ["D", "H"], "W_o": ["H", "V"]}, states={"h": ["T", "H"]}, loss="loss")
    shown = show(derive(model, unroll=3), style=Style("matrix"))
    assert "softmax" not in shown
    assert "y_hat[1] = e[1]/s[0]" in shown
