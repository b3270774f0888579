"""The schedule: what is a loop, in which direction, what leaves it, and what no loop can compute.

Every program here also runs: the generated NumPy, each subscript checked, equals the interpreter of the plain program and of its
plain adjoint.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import symbolic
from codegen.pipeline import render, stages
from codegen.schedule import Loop, Node, Statement, equations_of, schedule
from symbolic.errors import ScheduleError
from symbolic.program import Program, Reduction
from tests.emitting import agree, compiled

SQUARES = "loss = sum(h[t]**2, over=t)"


def load(text: str, **keys: Any) -> symbolic.Model:
    return symbolic.load(dedent(text), **{"loss": "loss", "dtype": "float64", **keys})


def skeleton(program: Program) -> list[Any]:
    """The schedule as nested lists: names of targets, and for a loop ``(+1 or -1, [...])``."""

    def show(nodes: tuple[Node, ...]) -> list[Any]:
        return [(-1 if n.descending else 1, show(n.body)) if isinstance(n, Loop) else n.equation.name for n in nodes]

    return show(schedule(program))


def loops(program: Program) -> list[Loop]:
    return [node for node in schedule(program) if isinstance(node, Loop)]


def targets(node: Node) -> set[str]:
    return {statement.equation.name for statement in equations_of([node])}


RNN = """
a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
h[t,n,i] = tanh(a[t,n,i])
loss = sum(h[t,n,i]*y[t,n,i], over=(t,n,i))
"""


def rnn() -> symbolic.Model:
    return load(RNN, inputs={"x": ["T", "N", "D"], "y": ["T", "N", "H"]},
                parameters={"W": ["H", "D"], "U": ["H", "H"], "b": ["H"]})


def test_the_projection_leaves_before_the_loop_and_the_weight_gradient_after_it() -> None:
    program = stages(rnn()).optimised
    nodes = schedule(program)
    forward, backward = (k for k, node in enumerate(nodes) if isinstance(node, Loop))
    assert not nodes[forward].descending  # type: ignore[union-attr]
    assert nodes[backward].descending  # type: ignore[union-attr]
    assert targets(nodes[forward]) == {"a", "h"}
    assert {"d_U", "d_W", "d_b"} & targets(nodes[backward]) == set()
    before = [n for n in nodes[:forward] if isinstance(n, Statement) and n.equation.name == "a"]
    assert {str(r) for n in before for r in n.equation.reads} == {"W[i, k]", "x[t, n, k]", "b[i]"}
    after = {n.equation.name for n in nodes[backward + 1:] if isinstance(n, Statement)}
    assert {"d_U", "d_W", "d_b"} <= after


@pytest.mark.parametrize("sizes", [{"T": 5, "N": 2, "D": 3, "H": 4}, {"T": 1, "N": 1, "D": 1, "H": 1}])
def test_the_rnn_runs(sizes: dict[str, int]) -> None:
    agree(rnn(), sizes)


def test_stacked_recurrences_are_two_loops() -> None:
    model = load("""
        a[t,i] = x[t,i] + U[i,j]*h[t-1,j]
        h[t,i] = tanh(a[t,i])
        c[t,i] = V[i,j]*h[t,j] + Q[i,j]*g[t-1,j]
        g[t,i] = tanh(c[t,i])
        loss = sum(g[t,i]**2, over=(t,i))
    """, inputs={"x": ["T", "H"]}, parameters={"U": ["H", "H"], "V": ["H", "H"], "Q": ["H", "H"]})
    assert [targets(loop) for loop in loops(model.program())] == [{"a", "h"}, {"c", "g"}]
    assert [loop.descending for loop in loops(stages(model).optimised)] == [False, False, True, True]
    agree(model, {"T": 4, "H": 3})
    agree(model, {"T": 1, "H": 1})


def test_two_directions_in_one_model() -> None:
    model = load("""
        f[t,i] = tanh(x[t,i] + u[i]*f[t-1,i])
        b[t,i] = tanh(x[t,i] + v[i]*b[t+1,i])
        h[t,i] = f[t,i]*b[t,i]
        loss = sum(h[t,i]**2, over=(t,i))
    """, inputs={"x": ["T", "H"]}, parameters={"u": ["H"], "v": ["H"]})
    assert [(targets(loop), loop.descending) for loop in loops(model.program())] == [({"f"}, False), ({"b"}, True)]
    assert sorted(loop.descending for loop in loops(stages(model).optimised)) == [False, False, True, True]
    for steps in (1, 2, 5):
        agree(model, {"T": steps, "H": 3})


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_lags_1_and_3(steps: int) -> None:
    model = load("""
        h[t,i] = tanh(x[t,i] + u[i]*h[t-1,i] + v[i]*h[t-3,i])
        loss = sum(h[t,i]**2, over=(t,i))
    """, inputs={"x": ["T", "H"]}, parameters={"u": ["H"], "v": ["H"]})
    assert skeleton(model.program()) == [(1, ["h"]), "loss"]
    agree(model, {"T": steps, "H": 2})


def test_only_a_lag_of_3() -> None:
    model = load("h[t] = sin(x[t] + u*h[t-3])\n" + SQUARES, inputs={"x": ["T"]}, parameters={"u": []})
    for steps in (1, 2, 3, 8):
        agree(model, {"T": steps})


def test_coupled_states_share_a_loop() -> None:
    model = load("""
        p[t,i] = p[t-1,i] + e[i]*q[t-1,i]
        q[t,i] = q[t-1,i] - e[i]*sin(p[t,i]) + x[t,i]
        loss = sum(q[t,i]**2 + p[t,i]**3, over=(t,i))
    """, inputs={"x": ["T", "H"]}, parameters={"e": ["H"]}, states={"p": ["T", "H"], "q": ["T", "H"]})
    (loop,) = loops(model.program())
    assert targets(loop) == {"p", "q"}
    for steps in (1, 2, 5):
        agree(model, {"T": steps, "H": 3})


@pytest.mark.parametrize("second", ["h[s,t-1]", "h[s+1,t-1]", "h[s+2,t-1]"])
def test_a_recurrence_over_two_axes(second: str) -> None:
    """Distances (1,0) and (0,1), and (1,0)... with (-1,1): a wavefront that loops alone must not compute wrongly."""
    model = load(f"""
        h[s,t] = tanh(x[s,t] + u*h[s-1,t-{0 if second == 'h[s,t-1]' else 1}] + v*{second})
        loss = sum(h[s,t]**2, over=(s,t))
    """, inputs={"x": ["S", "T"]}, parameters={"u": [], "v": []})
    for sizes in ({"S": 3, "T": 4}, {"S": 4, "T": 2}, {"S": 1, "T": 1}, {"S": 1, "T": 3}):
        agree(model, sizes)


def test_two_axes_nest() -> None:
    model = load("""
        h[s,t,i] = tanh(x[s,t,i] + u[i]*h[s-1,t,i] + v[i]*h[s,t-1,i])
        loss = sum(h[s,t,i]**2, over=(s,t,i))
    """, inputs={"x": ["S", "T", "H"]}, parameters={"u": ["H"], "v": ["H"]})
    assert skeleton(model.program()) == [(1, [(1, ["h"])]), "loss"]
    agree(model, {"S": 3, "T": 4, "H": 2})


def test_distances_of_mixed_sign_need_the_right_outer_axis() -> None:
    """(0,1) with (1,-1): the first axis carries the second dependence and must be outside."""
    model = load("""
        h[t,s] = tanh(x[t,s] + u*h[t,s-1] + v*h[t-1,s+1])
        loss = sum(h[t,s]**2, over=(t,s))
    """, inputs={"x": ["T", "S"]}, parameters={"u": [], "v": []})
    assert skeleton(model.program()) == [(1, [(1, ["h"])]), "loss"]
    for sizes in ({"S": 3, "T": 4}, {"S": 1, "T": 3}, {"S": 4, "T": 1}):
        agree(model, sizes)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 9])
def test_a_loop_whose_parts_are_shifted(steps: int) -> None:
    model = load("""
        u[t] = tanh(a*v[t+3] + x[t])
        v[t] = tanh(b*u[t-4] + x[t])
        loss = sum(u[t]**2 + v[t], over=t)
    """, inputs={"x": ["T"]}, parameters={"a": [], "b": []})
    (loop,) = loops(model.program())
    assert targets(loop) == {"u", "v"}
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 9])
def test_a_loop_whose_parts_are_shifted_downwards(steps: int) -> None:
    model = load("""
        u[t] = tanh(a*v[t+4] + x[t])
        v[t] = tanh(b*u[t-3] + x[t])
        loss = sum(u[t]**2 + v[t], over=t)
    """, inputs={"x": ["T"]}, parameters={"a": [], "b": []})
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_two_opposite_loops_in_one_tensor(steps: int) -> None:
    """Slices that do not meet are apart: one impossible loop becomes two."""
    model = load("""
        h[0,t] = tanh(x[0,t] + u*h[0,t-1])
        h[1,t] = tanh(x[1,t] + v*h[1,t+1])
        loss = sum(h[k,t]**2, over=(k,t))
    """, inputs={"x": [2, "T"]}, parameters={"u": [], "v": []}, states={"h": [2, "T"]})
    assert sorted(loop.descending for loop in loops(model.program())) == [False, True]
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_packed_gates_are_slices(steps: int) -> None:
    model = load("""
        a[t,i] = W[i]*x[t] + U[i,j]*h[t-1,j]
        h[t,i] = tanh(a[t,i+0])*sigmoid(a[t,H+i])
        loss = sum(h[t,i]**2, over=(t,i))
    """, inputs={"x": ["T"]}, parameters={"W": ["2*H"], "U": ["2*H", "H"]}, states={"h": ["T", "H"]}, sizes={"H": 3})
    assert [targets(loop) for loop in loops(model.program())] == [{"a", "h"}]
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_attention_over_the_own_past(steps: int) -> None:
    """The distance is an interval; the guard k < t proves its sign."""
    model = load("""
        s[t,k] = (k < t)*exp(q*x[t]*h[k])
        z[t] = s[t,k]
        c[t] = (k < t)*s[t,k]*h[k]
        h[t] = tanh(x[t] + w*c[t]/(1 + z[t]))
        loss = sum(h[t]**2, over=t)
    """, inputs={"x": ["T"]}, parameters={"q": [], "w": []})
    (loop,) = loops(model.program())
    assert targets(loop) == {"s", "z", "c", "h"}
    agree(model, {"T": steps})


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_sum_over_the_whole_past(steps: int) -> None:
    model = load("""
        c[t] = sum((k < t)*w[t-k]*h[k], over=k)
        h[t] = tanh(x[t] + c[t])
        loss = sum(h[t]**2, over=t)
    """, inputs={"x": ["T"]}, parameters={"w": ["T"]}, states={"c": ["T"], "h": ["T"]})
    assert len(loops(model.program())) == 1
    agree(model, {"T": steps})


def test_a_push_into_the_future() -> None:
    """h[t+k] += w[k]*g[t] for k >= 1: the written place lies ahead."""
    model = load("""
        g[t] = tanh(x[t] + h[t])
        h[t+k+1] += w[k]*g[t]
        loss = sum(g[t]**2, over=t)
    """, inputs={"x": ["T"]}, parameters={"w": ["K"]}, states={"h": ["T"]}, sizes={"K": 3})
    assert len(loops(model.program())) == 1
    for steps in (1, 2, 3, 4, 7):
        agree(model, {"T": steps})


def test_a_tree_whose_parents_come_first() -> None:
    """h[prev[t]] with prev[t] < t, proved by a guard."""
    model = load("""
        c[t,i] = (prev[t] < t)*h[prev[t],i]
        h[t,i] = tanh(x[t,i] + u[i]*c[t,i])
        loss = sum(h[t,i]**2, over=(t,i))
    """, inputs={"x": ["T", "H"], "prev": {"shape": ["T"], "kind": "index", "low": -1, "below": "T"}}, parameters={"u": ["H"]})
    (loop,) = loops(model.program())
    assert targets(loop) == {"c", "h"}
    agree(model, {"T": 6, "H": 2}, prev=[-1, 0, 0, 1, 4, 2])  # the fifth points at itself: no parent
    agree(model, {"T": 1, "H": 1}, prev=[-1])


@pytest.mark.parametrize(("text", "inside"), [
    ("h[t] = tanh(x[t] + u*g[t])\ng[t] = sin(h[t])", "h <- g <- h"),
    ("h[t] = tanh(x[t] + u*h[t-1] + h[t+1])", "h[t]"),
    ("h[t] = tanh(x[t] + u*h[T-1-t])", "h[t]"),
    ("h[t] = tanh(x[t] + u*c)\nc = sum(h[t], over=t)", "h <- c <- h"),
])
def test_what_cannot_be_scheduled_names_its_cycle(text: str, inside: str) -> None:
    with pytest.raises(symbolic.ChainruleError) as caught:
        compiled(load(text + "\n" + SQUARES, inputs={"x": ["T"]}, parameters={"u": []}))
    assert inside in str(caught.value)
    assert "cycle" in str(caught.value) or "depends on" in str(caught.value)


def test_an_index_read_without_a_proof_is_refused() -> None:
    model = load("h[t] = tanh(x[t] + u*h[prev[t]])\n" + SQUARES, parameters={"u": []},
                 inputs={"x": ["T"], "prev": {"shape": ["T"], "kind": "index", "below": "T"}})
    with pytest.raises(ScheduleError, match=r"cycle(.|\n)*h\[t\](.|\n)*prev\[t\]"):
        schedule(model.program())


def test_the_order_follows_the_text() -> None:
    model = load("b = p**2\na = p**3\nloss = a + b", parameters={"p": []})
    assert skeleton(model.program()) == ["b", "a", "loss", "loss"] or skeleton(model.program()) == ["b", "a", "loss"]


def test_deep_chains_need_no_recursion() -> None:
    count = 400
    text = "\n".join(f"x{k + 1}[i] = tanh(x{k}[i])" for k in range(count)) + f"\nloss = sum(x{count}[i], over=i)"
    model = load(text, parameters={"x0": ["H"]})
    assert len(schedule(model.program())) == count + 1


def test_a_long_recurrence_is_finite() -> None:
    module = compiled(rnn(), dtype="float32")
    rng = np.random.default_rng(0)
    shapes = {"W": (4, 3), "U": (4, 4), "b": (4,)}
    params = {k: rng.normal(0, 0.4, s).astype(np.float32) for k, s in shapes.items()}
    batch = {"x": rng.normal(0, 1, (10_000, 2, 3)).astype(np.float32), "y": rng.normal(0, 1, (10_000, 2, 4)).astype(np.float32)}
    loss, grads = module.value_and_grad(params, batch)
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in grads.values())


def test_a_long_recurrence_is_right() -> None:
    """Ten thousand steps against a recursion written out here, its slopes by the complex step."""
    rng = np.random.default_rng(1)
    params = {k: rng.normal(0, 0.4, s) for k, s in {"W": (4, 3), "U": (4, 4), "b": (4,)}.items()}
    batch = {"x": rng.normal(0, 1, (10_000, 2, 3)), "y": rng.normal(0, 1, (10_000, 2, 4))}

    def by_hand(at: dict[str, Any]) -> Any:
        h, total = np.zeros((2, 4)), 0
        for x, y in zip(batch["x"], batch["y"], strict=True):
            h = np.tanh(x @ at["W"].T + h @ at["U"].T + at["b"])
            total = total + np.sum(h * y)
        return total

    loss, grads = compiled(rnn(), dtype="float64").value_and_grad(params, batch)
    assert loss == pytest.approx(by_hand(params), rel=1e-10)
    for name, array in params.items():
        direction = rng.standard_normal(array.shape)
        slope = by_hand({**params, name: array + 1e-30j * direction}).imag / 1e-30
        assert np.sum(grads[name] * direction) == pytest.approx(slope, rel=1e-10)
    short = {name: array.astype(np.float32) for name, array in params.items()}
    single, found = compiled(rnn(), dtype="float32").value_and_grad(short, {k: v.astype(np.float32) for k, v in batch.items()})
    assert single == pytest.approx(loss, rel=1e-3)
    for name, array in grads.items():
        assert np.max(np.abs(found[name] - array)) <= 1e-3 * np.max(np.abs(array))


def test_a_view_of_the_step_before_is_handed_on() -> None:
    text = next(iter(render(rnn()).values()))
    assert "h_tm1 = h[0]\n" in text
    assert "for h_t in h[1:]:" in text
    assert "        h_tm1 = h_t\n" in text
    model = load("h[t] = tanh(x[t] + 0.5*h[t-1])\n" + SQUARES, inputs={"x": ["T"]})
    assert "h_tm1" not in next(iter(render(model).values())), "a number of a vector is no view: it does not change with its array"


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_views_of_several_lags_are_handed_on_in_order(steps: int) -> None:
    model = load(
        "a[t,n] = x[t,n] + U[n,m]*h[t-1,m] - 0.5*V[n,m]*h[t-2,m]\nh[t,n] = tanh(a[t,n])\nloss = sum(h[t,n]**2, over=(t,n))",
        inputs={"x": ["T", "N"]}, parameters={"U": ["N", "N"], "V": ["N", "N"]},
    )
    text = next(iter(render(model).values()))
    assert text.index("h_tm2 = h_tm1\n") < text.index("h_tm1 = h_t\n")
    agree(model, {"T": steps, "N": 3})


def test_what_a_step_computes_goes_into_its_place_at_once() -> None:
    model = load(
        "h[t,n] = tanh(x[t,n] + x[t,n]*(h[t-1,n] - 0.5)*(h[t-1,n] + 1))\nloss = sum(h[t,n]**2, over=(t,n))",
        inputs={"x": ["T", "N"]},
    )
    text = next(iter(render(model).values()))
    body = text[text.index("        # (1)"):text.index("\n    # (2)")].splitlines()
    assert [line.strip() for line in body[1:]] == [
        "np.add(h_tm1, 1, h_t)",
        "h_t *= h_tm1 - 0.5",
        "h_t *= x_t",
        "h_t += x_t",
        "np.tanh(h_t, h_t)",
        "h_tm1 = h_t",
    ]
    agree(model, {"T": 4, "N": 3})


PAST = ["e[t,k] = (k<t)*exp(q*h[k])", "d[t] = (k<t)*e[t,k]", "c[t] = (k<t)*e[t,k]*h[k]/d[t]", "h[t] = tanh(x[t] + c[t])"]
NAMED = ["g[k] = q*h[k]", "e[t,k] = (k<t)*exp(g[k])", *PAST[1:]]
GREATEST = ["m[t] = max((k<t)*q*h[k], over=k)", "h[t] = tanh(x[t] + m[t])"]
SHIFTED = [GREATEST[0], "e[t,k] = (k<t)*exp(q*h[k] - m[t])", *PAST[1:]]
FUTURE = ["m[t] = max((k>t)*q*h[k], over=k)", "h[t] = tanh(x[t] + m[t])"]
LAGGED = ["m[t] = max((k<t-1)*q*h[k], over=k)", "h[t] = tanh(x[t] + m[t])"]


@pytest.mark.parametrize("lines", [
    *permutations(PAST), *list(permutations(NAMED))[::15], *permutations(GREATEST), *list(permutations(SHIFTED))[::15],
    FUTURE, LAGGED,
], ids=lambda lines: ", ".join(line.split("[")[0] for line in lines))
def test_attention_over_the_own_past_is_a_loop_in_every_order_of_its_lines(lines: list[str]) -> None:
    model = load("\n".join([*lines, SQUARES]), inputs={"x": ["T"]}, parameters={"q": []}, ranges={"t": "T", "k": "T"})
    # The first row is empty: a rule that takes a factor out of its guard would leave 0/0 there.
    for disabled in ((), ("contractions",)):
        module = compiled(model, wrt="all", dtype="float64", disabled=disabled)
        for steps in (1, 2, 5):
            agree(model, {"T": steps}, module=module)


def test_a_loop_never_steps_through_what_a_maximum_reduces() -> None:
    program = stages(load("\n".join([*GREATEST, SQUARES]), inputs={"x": ["T"]}, parameters={"q": []},
                          ranges={"t": "T", "k": "T"})).optimised
    maxima = [s.equation for node in schedule(program) for s in equations_of([node]) if s.equation.reduction is Reduction.MAX]
    assert maxima
    assert all(equation.reduced for equation in maxima)


def test_a_cycle_is_shown_as_its_author_wrote_it(tmp_path: Path) -> None:
    """With its place, and not as the cycle that its adjoint has too."""
    path = tmp_path / "cyc.yaml"
    path.write_text("""name: cyc
inputs: {x: [T], y: [T]}
layers:
  - name: f
    type: equations
    parameters: {a: [], b: []}
    shapes: {h: [T]}
    equations: |
      h[t] = a*h[t-1] + b*h[t+1] + x[t]
    output: h
loss: {type: mse, target: y}
""")
    for target in ("numpy", "c"):
        with pytest.raises(ScheduleError, match=r"cyc\.yaml:9:7: cyc: these equations depend on each other") as caught:
            render(symbolic.load(path), target)
        assert "d_f.h" not in str(caught.value)
