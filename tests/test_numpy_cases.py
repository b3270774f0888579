"""Small programs that once came out wrong: each holds the emitted module against the interpreter of the plain program.

They are about what element-wise random programs do not reach: signs and scales of products inside loops, diagonals, gates with
the index itself in their body, writes that do not happen, masks by multiplication, ranges that are empty at T = 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from symbolic.interpreter import evaluate
from tests.emitting import agree, compiled

RNG = np.random.default_rng(3)
X, U = RNG.standard_normal((3, 2, 2)), RNG.standard_normal((2, 2))
RECURRENT: dict[str, Any] = {"inputs": {"x": ["T", "N", "H"]}, "parameters": {"U": ["H", "H"]}}
SIZES = {"T": 3, "N": 2, "H": 2}
SQUARES = "loss = sum(h[t,n,i]**2, over=(t,n,i))"

CASES = [
    pytest.param(
        f"h[t,n,i] = x[t,n,i] - U[i,j]*h[t-1,n,j]\n{SQUARES}", RECURRENT, SIZES, {"x": X, "U": U}, id="minus in a loop"
    ),
    pytest.param(
        f"h[t,n,i] = x[t,n,i] + 0.5*U[i,j]*h[t-1,n,j]\n{SQUARES}", RECURRENT, SIZES, {"x": X, "U": U}, id="scale in a loop"
    ),
    pytest.param(
        f"h[t,n,i] = x[t,n,i] + (t+1)*U[i,j]*h[t-1,n,j]\n{SQUARES}",
        RECURRENT,
        SIZES,
        {"x": X, "U": U},
        id="index as a factor in a loop",
    ),
    pytest.param(
        f"a[t,n,i] = -U[i,j]*h[t-1,n,j]\nh[t,n,i] = tanh(a[t,n,i]) + x[t,n,i]\n{SQUARES}",
        {**RECURRENT, "shapes": {"a": ["T", "N", "H"]}},
        SIZES,
        {"x": X, "U": U},
        id="minus, assigned",
    ),
    pytest.param(
        "y[n] = b[k+2*u, k+n-1]\nloss = sum(y[n]**2, over=n)",
        {
            "parameters": {"b": ["P", "Q"]},
            "shapes": {"y": ["N"]},
            "ranges": {"k": 3, "u": 2, "n": "N"},
            "inputs": {"z": ["N"]},
        },
        {"N": 4, "P": 7, "Q": 6},
        {"b": RNG.standard_normal((7, 6)), "z": np.zeros(4)},
        id="one index in two subscripts",
    ),
    pytest.param(
        "y[i] = w[i,i]\nloss = sum(y[i]**2, over=i)",
        {"parameters": {"w": ["K", "K"]}},
        {"K": 4},
        {"w": RNG.standard_normal((4, 4))},
        id="diagonal",
    ),
    pytest.param(
        "i[n,k] = tanh(a[n,k+0]*(k+1))\nf[n,k] = tanh(a[n,k+H]*(k+1))\nloss = sum(i[n,k]*f[n,k], over=(n,k))",
        {"inputs": {"a": ["N", "2*H"], "q": ["H"]}, "ranges": {"k": "H"}},
        {"N": 2, "H": 3},
        {"a": RNG.standard_normal((2, 6)), "q": np.zeros(3)},
        id="gates with the index in their body",
    ),
    pytest.param(
        "a[n,k+0] = x[n,k]\ni[n,k] = sigmoid(a[n,k+0])\na[n,H+k] += W[k,j]*i[n,j]\nf[n,k] = sigmoid(a[n,k+H])\n"
        "loss = sum(f[n,k]*i[n,k], over=(n,k))",
        {"inputs": {"x": ["N", "H"]}, "parameters": {"W": ["H", "H"]}, "shapes": {"a": ["N", "2*H"]}, "ranges": {"k": "H"}},
        {"N": 2, "H": 2},
        {"x": X[0], "W": U},
        id="a gate that needs its neighbour",
    ),
    pytest.param(
        "c[t+1] = 0.9*c[t] + log(u[t])*w[0]\nloss = sum(c[t]**2, over=t)",
        {"inputs": {"u": ["T"]}, "parameters": {"w": [1]}, "shapes": {"c": ["T"]}},
        {"T": 3},
        {"u": np.array([1.0, 2.0, 0.5]), "w": np.array([0.3])},
        id="a write that does not happen",
    ),
    pytest.param(
        "s[t] = sum(m[t,k]*exp(z[t,k]), over=k)\nloss = sum(log(s[t]), over=t)",
        {"inputs": {"m": ["T", "K"]}, "parameters": {"z": ["T", "K"]}},
        {"T": 1, "K": 3},
        {"m": np.array([[0.0, 1, 1]]), "z": np.array([[300.0, -50, -49]])},
        id="a mask by multiplication",
    ),
    pytest.param(
        "loss = sum(where(z[t] > 0, log(z[t]), 0), over=t)",
        {"parameters": {"z": ["T"]}},
        {"T": 3},
        {"z": np.array([0.0, 1.0, 2.0])},
        id="the branch not taken",
    ),
    pytest.param(
        "y[t,n,i] = (t < T-1)*sigmoid(b[i]) + 0.5*x[t,n]\nloss = sum(y[t,n,i], over=(t,n,i))",
        {"inputs": {"x": ["T", "N"]}, "parameters": {"b": ["I"]}},
        {"T": 1, "N": 2, "I": 3},
        {"x": X[:1, :, 0], "b": RNG.standard_normal(3)},
        id="an empty range",
    ),
    pytest.param(
        "z[n] = b[ix[n],m+0]*y[ix[n],m-1]\nloss = sum(z[n]**2, over=n)",
        {
            "inputs": {"ix": {"shape": ["N"], "kind": "index", "below": "T"}},
            "parameters": {"b": ["T", "M"], "y": ["T", "M"]},
            "ranges": {"m": 2},
        },
        {"N": 3, "T": 4, "M": 3},
        {"ix": np.array([0, 2, 2]), "b": RNG.standard_normal((4, 3)), "y": RNG.standard_normal((4, 3))},
        id="part of a row",
    ),
    pytest.param(
        "loss = sum(sigmoid(K)*max2(1, 2)*relu(2)*w[i], over=i)",
        {"parameters": {"w": ["K"]}},
        {"K": 3},
        {"w": RNG.standard_normal(3)},
        id="functions of sizes and numbers",
    ),
    pytest.param(
        f"h[t,n,i] = t[t,n,i] + w[t]*U[i,j]*h[t-1,n,j]\n{SQUARES}",
        {"inputs": {"t": ["T", "N", "H"], "w": ["T"]}, "parameters": {"U": ["H", "H"]}},
        SIZES,
        {"t": X, "U": U, "w": X[:, 0, 0]},
        id="an input with the name of the loop's index",
    ),
    pytest.param(
        "h[max,np,range] = (max < T-1)*x[max,np,range] + U[range,zip]*h[max-1,np,zip]*(max+1)\n"
        "loss = sum(h[max,np,range]**2, over=(max,np,range))",
        RECURRENT,
        SIZES,
        {"x": X, "U": U},
        id="indices with the names of functions",
    ),
    pytest.param(
        "h[s,t,i] = tanh(a[s,t,i])\na[s,t,i] = x[s,t,i] + U[i,j]*h[s-1,t,j] - U[j,i]*h[s,t-1,j]\n"
        "loss = sum(h[s,t,i]**2, over=(s,t,i))",
        {"inputs": {"x": ["S", "T", "H"]}, "parameters": {"U": ["H", "H"]}},
        {"S": 3, "T": 2, "H": 2},
        {"x": X, "U": U},
        id="a loop in a loop",
    ),
    pytest.param(
        "y[n] = (lab[n] != 1)*c[n] + (lab[n] < 2)*tanh(c[n])\nloss = sum(y[n]**2, over=n)",
        {"inputs": {"lab": {"shape": ["N"], "kind": "index", "below": 3, "ignore": -1}}, "parameters": {"c": ["N"]}},
        {"N": 4},
        {"lab": np.array([-1, 1, 2, 0]), "c": RNG.standard_normal(4)},
        id="a guard on an ignored label holds nowhere",
    ),
    pytest.param(
        "y[t,i] = E[tok[t-1],i] + E[tok[tok[t+1]],i]*(tok[t-1] < 2)\nloss = sum(y[t,i]**2, over=(t,i))",
        {
            "inputs": {"tok": {"shape": ["T"], "kind": "index", "below": 3}},
            "parameters": {"E": [3, "H"]},
            "ranges": {"t": "T"},
        },
        {"T": 3, "H": 2},
        {"tok": np.array([2, 1, 0]), "E": RNG.standard_normal((3, 2))},
        id="an index read out of bounds is nowhere, not class 0",
    ),
    pytest.param(
        "y[tok[t-1],i] = q[t,0,i]\nloss = sum(y[v,i]**2, over=(v,i))",
        {
            "inputs": {"tok": {"shape": ["T"], "kind": "index", "below": 3, "ignore": -100}, "q": ["T", "N", "H"]},
            "parameters": {"E": [3, "H"]},
            "shapes": {"y": [3, "H"]},
        },
        {"T": 3, "N": 2, "H": 2},
        {"tok": np.array([-100, 1, 0]), "q": X, "E": RNG.standard_normal((3, 2))},
        id="a write through an index read out of bounds",
    ),
    pytest.param(
        "a[t,n,i+0] = (t > 0)*s + Q[i+H,j]*h[t-1,n,j]\np[t,n,i] = tanh(a[t,n,i+0])\n"
        "a[t,n,i+H] += Q[i+0,i] + Q[i+H,j]*h[t-1,n,j]\nq[t,n,i] = tanh(a[t,n,i+H])\n"
        f"h[t,n,i] = p[t,n,i]*h[t-1,n,i] + q[t,n,i]\n{SQUARES}",
        {
            "parameters": {"Q": ["2*H", "H"], "s": []},
            "inputs": {"z": ["T", "N"]},
            "shapes": {"a": ["T", "N", "2*H"]},
            "states": {"h": {"shape": ["T", "N", "H"], "initial": "given"}},
            "ranges": {"i": "H"},
        },
        SIZES,
        {"Q": RNG.standard_normal((4, 2)), "s": np.array(0.3), "z": X[:, :, 0], "h0": X[0]},
        id="a product of a loop stored in part of a tensor",
    ),
    pytest.param(
        "a[t,n] = h[t+1,n] - max2(s, q[t+1,n])\nh[t,n] = a[t,n]\ny[t,n] = tanh(h[ix[n],n] + h[t,n])\n"
        "loss = sum(y[t,n]**2, over=(t,n))",
        {
            "parameters": {"s": []},
            "inputs": {"q": ["T", "N"], "ix": {"shape": ["N"], "kind": "index", "below": "T"}},
            "states": {"h": {"shape": ["T", "N"], "initial": "given", "reverse": True}},
            "shapes": {"a": ["T", "N"]},
            "sizes": {"T": 1},
            "ranges": {"t": "T"},
        },
        {"N": 2},
        {"s": np.array(0.3), "q": X[:1, :, 0], "ix": np.array([0, 0]), "h0": X[0, :, 1]},
        id="a tensor that an empty range reads before it is made",
    ),
    pytest.param(
        "y[m,i-1] = b[m,i]\na[t,n,i] = y[i,i]**2*z[t,pos[t,n]]\nloss = sum(relu(a[t,n,i]), over=(t,n,i))",
        {
            "parameters": {"b": ["H", "H"]},
            "inputs": {"z": ["T", "N"], "pos": {"shape": ["T", "N"], "kind": "index", "below": "N"}},
            "shapes": {"y": ["H", "H"]},
        },
        {"T": 3, "N": 2, "H": 1},
        {"b": np.array([[0.5]]), "z": X[:, :, 0], "pos": np.array([[0, 1], [1, 1], [0, 0]])},
        id="a matrix without columns",
    ),
    pytest.param(
        f"h[t,n,i] = (n <= t)*U[i,j]*h[t-1,n,j] + x[t,n,i]\n{SQUARES}",
        RECURRENT,
        SIZES,
        {"x": X, "U": U},
        id="a product of a loop whose rows grow",
    ),
    pytest.param(
        "y[i] = U[i,i+k-1]\nloss = sum(y[i]**2, over=i)",
        {"parameters": {"U": ["H", "H"]}, "sizes": {"H": 2}, "ranges": {"k": 3}},
        {},
        {"U": U},
        id="an offset of a window that is an axis too",
    ),
    pytest.param(
        "h[t,n,i] = x[t,n,i]**2\ny[u,n,i] = (2*u-1)*h[u+k,n,i]\nloss = sum(y[u,n,i]**2, over=(u,n,i))",
        {
            "inputs": {"x": ["T", "N", "H"], "z": ["T"]},
            "shapes": {"h": ["T", "N", "H"], "y": ["T-1", "N", "H"]},
            "ranges": {"k": 2},
        },
        SIZES,
        {"x": X, "z": X[:, 0, 0]},
        id="a window of a product that has the index as a factor",
    ),
    pytest.param(
        "h[t,n,i] = h[t+1,n,i] + cos(a[t,n,i])\na[t,n,i] = x[t,n,i] + U[i,j]*h[t+1,n,j]\ny[t,n,i] = h[t+k-1,n,i]\n"
        "loss = sum(y[t,n,i]**2, over=(t,n,i))",
        {**RECURRENT, "shapes": {"h": ["T", "N", "H"], "a": ["T", "N", "H"]}, "ranges": {"k": 2, "t": "T"}},
        SIZES,
        {"x": X, "U": U},
        id="a window that may write to the zeros round a tensor",
    ),
]


@pytest.mark.parametrize(("text", "spec", "sizes", "values"), CASES)
def test_module_agrees_with_the_interpreter(
    text: str, spec: dict[str, Any], sizes: dict[str, int], values: dict[str, Any], dirty_memory: None
) -> None:
    model = symbolic.load(text, dtype="float64", loss="loss", **spec)
    program = model.program()
    params = {t.name: np.asarray(values[t.name], float) for t in program.parameters}
    batch = {t.name: np.asarray(values[t.name]) for t in program.inputs}
    loss, grads = codegen.compile(model, wrt="all").value_and_grad(params, batch)
    adjoint = symbolic.gradient(program, list(grads))
    want = evaluate(adjoint, values, sizes, ["loss", *(adjoint.gradients[name] for name in grads)])
    assert loss == pytest.approx(float(want["loss"]), rel=1e-12, abs=1e-12)
    for name, got in grads.items():
        expected = want[adjoint.gradients[name]]
        assert np.all(np.isfinite(got)), name
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12, err_msg=name)


def test_a_write_that_does_not_happen_has_no_adjoint() -> None:
    """log(0) is never written, so its infinite slope reaches nothing (laws 2 and 3)."""
    model = symbolic.load(
        "c[t+1] = 0.9*c[t] + log(u[t])*w[0]\nloss = sum(c[t]**2, over=t)",
        dtype="float64",
        loss="loss",
        inputs={"u": ["T"]},
        parameters={"w": [1]},
        shapes={"c": ["T"]},
    )
    _, grads = codegen.compile(model).value_and_grad({"w": np.array([0.3])}, {"u": np.array([1.0, 2.0, 0.0])})
    assert np.all(np.isfinite(grads["w"]))


@pytest.mark.parametrize("wrong", ["sqrt(-2)", "log(0)", "(-2)**0.5", "clip(w[i], 1, -1)"])
def test_numbers_outside_a_functions_domain_are_refused(wrong: str) -> None:
    with pytest.raises(symbolic.EquationError, match=r"^<equations>:1:\d+: equations: expected"):
        symbolic.load(f"loss = sum({wrong}*w[i], over=i)", parameters={"w": ["K"]}, loss="loss")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("y[n] = max(b[t,n], over=t)\ny[n] += max(c[t,n], over=t)\nloss = sum(y[n]**2, over=n)", "found two for 'y'"),
        ("y[t+n] = max(b[t,n]*c[u,n], over=u)\nloss = sum(y[n]**2, over=n)", "may write an entry of 'y' several times"),
        ("y[ix[n]] = max(b[t,n]*c[t,n], over=t)\nloss = sum(y[n]**2, over=n)", "may write an entry of 'y' several times"),
    ],
)
def test_maxima_that_meet_in_one_entry_are_not_differentiated(text: str, message: str) -> None:
    """Each has its own argument; the greatest of them alone may take the adjoint."""
    model = symbolic.load(
        text, loss="loss", parameters={"b": ["T", "N"], "c": ["T", "N"]}, shapes={"y": ["N"]}, ranges={"t": "T", "u": "T"},
        inputs={"ix": {"shape": ["N"], "kind": "index", "below": "N"}},
    )
    with pytest.raises(symbolic.ProgramError, match=message):
        codegen.compile(model)


def test_maxima_in_entries_apart() -> None:
    text = "y[0] = max(c[n], over=n)\ny[t+1] += max(z[t,n], over=n)\nloss = sum(y[t]**2, over=t)"
    parameters = {"z": ["T", "N"], "c": ["N"]}
    agree(symbolic.load(text, dtype="float64", loss="loss", parameters=parameters, shapes={"y": ["T"]}), {"T": 3, "N": 2})


@pytest.mark.parametrize("text", [
    "y[n*(K+1)+k] = b[n,k]*c[k]", "y[n*(K+1)] = b[n,k]*c[k]",
    "y[(K+1)*ix[n]+k] = b[n,k]*c[k]", "y[n+0] = b[n,k]*d[ix[n]*(K+1)+k]",
])
def test_a_step_of_more_than_one_term(text: str) -> None:
    """``n*(K+1)`` is ``(K+1)*n``, not ``K + 1*n``."""
    model = symbolic.load(
        f"{text}\nloss = sum(y[u]**2*d[u], over=u)", dtype="float64", loss="loss", shapes={"y": ["N*(K+1)"]},
        parameters={"c": ["K"], "d": ["N*(K+1)"]},
        inputs={"b": ["N", "K"], "ix": {"shape": ["N"], "kind": "index", "below": "N"}})
    agree(model, {"N": 3, "K": 2}, module=compiled(model, dtype="float64"))


def test_a_state_that_is_carried_against_time_over_two_steps() -> None:
    model = symbolic.load(
        "h[t,n] = 0.5*h[t+2,n] + tanh(h[t+1,n])*w[n]\nloss = sum(h[t,n]**2, over=(t,n))",
        dtype="float64", loss="loss", parameters={"w": ["N"]}, inputs={"y": ["T", "N"]},
        states={"h": {"shape": ["T", "N"], "initial": "carry", "reverse": True, "lag": 2}},
    )
    for steps in (1, 2, 4):
        agree(model, {"T": steps, "N": 2})


def test_functions_of_numbers_that_unrolling_leaves() -> None:
    """At the first step the state is 0, and ``clip(0, -0.5, 0.4)`` is a number that no array stands in."""
    model = symbolic.load(
        "h[t,n] = c[n] - (n + 1)*clip(h[t-1,n], -0.5, 0.4)*z[t] - 0.5*max2(h[t-1,n], 0.2)\nloss = sum(h[t,n]**2, over=(t,n))",
        dtype="float64", loss="loss", parameters={"c": ["N"], "z": ["T"]}, states={"h": ["T", "N"]},
    )
    agree(model, {"T": 3, "N": 2}, module=compiled(model, wrt="all", dtype="float64", unroll=3))


def test_predict_says_which_size_nobody_tells() -> None:
    model = symbolic.load(
        "h[t,n] = 0.5*h[t-1,n] + w[n]",
        dtype="float64",
        parameters={"w": ["N"]},
        inputs={"y": ["T", "N"]},
        shapes={"h": ["T", "N"]},
        loss={"type": "mse", "target": "y"},
        output="h",
    )
    module = codegen.compile(model)
    params = {"w": np.ones(2)}
    with pytest.raises(ValueError, match=r"^predict: no input that is given tells the size T"):
        module.predict(params, {})
    assert module.predict(params, {"y": np.zeros((5, 2))})["h"].shape == (5, 2)


def test_update_refuses_what_does_not_fit() -> None:
    model = symbolic.load(
        "loss = sum(w[i]**2, over=i)", dtype="float64", parameters={"w": ["K"]}, loss="loss", optimizer={"type": "momentum"}
    )
    module = codegen.compile(model)
    params = {"w": np.ones(3)}
    with pytest.raises(ValueError, match=r"^grads\['w'\]: expected shape \(3,\)"):
        module.update(params, {"w": np.ones(2)})
    with pytest.raises(ValueError, match=r"^grads\['w'\]: expected"):
        module.update(params, {})
    with pytest.raises(ValueError, match=r"^update: the state has no 'v'"):
        module.update(params, {"w": np.ones(3)}, {"a": 1})


def test_sizes_are_at_least_one_and_dicts_are_dicts() -> None:
    module = codegen.compile(
        symbolic.load(
            "loss = sum(w[i]*x[i], over=i)", dtype="float64", parameters={"w": ["K"]}, inputs={"x": ["K"]}, loss="loss"
        )
    )
    with pytest.raises(ValueError, match=r"expected sizes of at least 1"):
        module.value_and_grad({"w": np.ones(0)}, {"x": np.ones(0)})
    with pytest.raises(ValueError, match=r"^params: expected a dict of arrays, found NoneType"):
        module.value_and_grad(None, None)
    with pytest.raises(ValueError, match=r"^init: the size Q is not free"):
        module.init(K=2, Q=3)


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_update_of_a_rank_0_parameter(kind: str) -> None:
    options = {"weight_decay": 0.1} if kind in ("sgd", "momentum") else {}
    model = symbolic.load("p = w*w\nloss = p + w", dtype="float64", parameters={"w": []}, loss="loss",
                          optimizer={"type": kind, **options}, clip={"type": "global_norm", "limit": 1.0})
    module = codegen.compile(model)
    params, state = module.update({"w": np.array(2.0)}, {"w": np.array(9.0)})
    assert params["w"].shape == ()
    assert params["w"] < 2.0
    module.update(params, {"w": np.array(9.0)}, state)


def test_a_part_that_moves_with_the_loop_is_not_laid_out_before_it() -> None:
    """Of ``K`` each step reads another part, though no subscript of it says ``t``."""
    text = "h[t+1+s,i] = K[j,s]*a[t,j,i]\na[t,j,i] = tanh(x[t,j,i] + V[j]*h[t,i])\nloss = sum(h[t,i]**2, over=(t,i))"
    model = symbolic.load(text, loss="loss", name="m", dtype="float64", inputs={"x": ["T", "J", "I"]},
                          parameters={"K": ["J", "S"], "V": ["J"]}, shapes={"h": ["T", "I"], "a": ["T", "J", "I"]})
    rng = np.random.default_rng(0)
    params, x = {"K": rng.normal(size=(2, 4)), "V": rng.normal(size=2)}, rng.normal(size=(5, 2, 3))
    h = np.zeros((5, 3))
    for t in range(5):
        a = np.tanh(x[t] + params["V"][:, None]*h[t])
        for s in range(min(4, 5 - t - 1)):
            h[t + 1 + s] += params["K"][:, s] @ a
    assert codegen.compile(model).loss(params, {"x": x}) == pytest.approx(float((h**2).sum()), rel=1e-12)
