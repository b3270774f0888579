"""``check`` and its oracles: right gradients are found right, wrong ones wrong, and kinks are said to be kinks."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sympy as sp

import codegen
from codegen import pipeline
from codegen.nodes import check_nodes, freeze, frozen, nudged
from codegen.oracles import Comparison, _rough_places
from codegen.perturb import Slope, complex_slope, slope
from codegen.trial import Trial, choose_sizes, draw, instances
from codegen.verify import KINK, OK, UNDECIDED, WRONG, check
from symbolic import ChainruleError, load
from symbolic.interpreter import evaluate
from symbolic.program import Program, Role, size, tensor_of

SECOND_ORDER = "second_order.yaml"


def own(text: str, parameters: dict[str, Any], inputs: dict[str, Any] | None = None, **keys: Any) -> Any:
    """A model of bare equations that ends in the rank-0 tensor ``v``."""
    return load(text, inputs=inputs or {"x": ["N", "D"]}, parameters=parameters, loss={"prediction": "v"}, dtype="float64",
                **keys)


def spoilt(spoil: Callable[[dict[str, Any]], None]) -> Callable[..., Any]:
    """A build whose gradients are changed before anybody sees them."""

    def build(model: Any, **options: Any) -> Any:
        module = codegen.compile(model, **options)
        inner = module.value_and_grad

        def value_and_grad(params: Any, batch: Any, aux: bool = False) -> Any:
            loss, grads = inner(params, batch)
            spoil(grads)
            return loss, grads

        module.value_and_grad = value_and_grad  # type: ignore[attr-defined]
        return module

    return build


# ---- perturbation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (math.exp, 1.0),
        (lambda h: math.tanh(3 * h + 0.3), 3 * (1 - math.tanh(0.3) ** 2)),
        (lambda h: 1000 + math.sin(30 * h), 30.0),
        (lambda h: math.log(h + 0.01) if h > -0.01 else math.nan, 100.0),
        (lambda h: 7.0, 0.0),
        (lambda h: h**3, 0.0),
        (lambda h: 4 + 1e-9 * h, 1e-9),
    ],
)
def test_slope_of_smooth_functions(function: Callable[[float], float], expected: float) -> None:
    found = slope(function)
    assert not found.kink
    assert abs(found.value - expected) <= max(1e-9 * abs(expected), found.error)


@pytest.mark.parametrize(
    "function", [abs, lambda h: max(h, 0.0) + h * h + 5, lambda h: max(h - 1e-8, 0.0), lambda h: max(0.3 * h, h) + math.sin(h)]
)
def test_a_kink_under_the_smallest_step_is_seen(function: Callable[[float], float]) -> None:
    assert slope(function).kink


def test_a_kink_at_a_distance_is_stepped_under() -> None:
    found = slope(lambda h: max(h - 1e-4, 0.0) + 3 * h + 5)
    assert not found.kink
    assert found.value == pytest.approx(3.0, rel=1e-8)


def test_complex_step_is_exact_to_the_last_digit() -> None:
    found = complex_slope(lambda h: (2 + h) ** 5 / (1 + (2 + h) ** 2))
    exact = (5 * 16 * 5 - 32 * 4) / 25
    assert abs(found.value - exact) <= 4 * 2.0**-52 * exact


def test_slope_raises_nothing_where_the_function_is_not_finite() -> None:
    assert slope(lambda h: math.nan).error == math.inf


# ---- trials ------------------------------------------------------------------------------------------------------------


def test_sizes_are_small_and_distinct(specs: Path) -> None:
    program = load(specs / SECOND_ORDER).program()
    assert choose_sizes(program, {}) == {"D": 3, "H": 4, "T": 5, "N": 3}
    assert choose_sizes(program, {"T": 7})["T"] == 7


def test_sizes_grow_until_every_tensor_has_entries() -> None:
    model = load({"name": "wide", "inputs": {"x": ["N", 1, "L"], "y": ["N", 2, "L-8"]}, "loss": {"type": "mse", "target": "y"},
                  "layers": [{"name": "c", "type": "conv1d", "channels": 2, "kernel": 9}]})
    assert choose_sizes(model.program(), {})["L"] > 8
    with pytest.raises(ChainruleError, match=r"^y has no entries at .*L=8.*: its shape is \[3, 2, 0\]; give larger sizes"):
        choose_sizes(model.program(), {"L": 8})


def test_index_inputs_keep_to_their_range_and_some_are_ignored() -> None:
    model = load({"name": "labels", "inputs": {"x": ["N", 4], "y": {"shape": ["N"], "kind": "index", "below": 4, "ignore": -100}},
                  "layers": [{"name": "out", "type": "dense", "units": 4}],
                  "loss": {"type": "softmax_cross_entropy", "target": "y"}})
    program = model.program()
    module = codegen.compile(model)
    labels = draw(program, {"N": 200}, module.init(0), 0).values["y"]
    assert set(np.unique(labels)) == {-100, 0, 1, 2, 3}


def test_a_loss_that_needs_positive_inputs_gets_them() -> None:
    model = own("v = sum(w[k]*log(x[n,k]), over=(n,k))", {"w": ["D"]})
    report = check(model)
    assert report.verdict == OK
    assert math.isfinite(report.loss)


def test_a_loss_that_is_never_finite_is_an_error() -> None:
    model = own("v = sum(w[k]*log(-1 - x[n,k]**2), over=(n,k))", {"w": ["D"]})
    with pytest.raises(ChainruleError, match="the loss is not finite at random inputs"):
        check(model)


# ---- right and wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["second_order", "leaky_integrator", "minimal_gated_unit", "scalar"])
def test_small_specs_agree_to_the_last_digits(specs: Path, name: str) -> None:
    report = check(load(specs / f"{name}.yaml"), dtype="float64", nodes=True)
    assert report.verdict == OK
    assert report.exit_status == 0
    for verdict in report.parameters:
        assert verdict.digits["perturbation"] >= 9
        assert verdict.digits["complex step"] >= 13
        assert verdict.digits["interpreter"] >= 13
        assert verdict.entries == math.prod(verdict.shape)
    assert report.nodes
    assert all(v.digits["complex step"] >= 12 for v in report.nodes)


def test_float32_is_held_against_float64(specs: Path) -> None:
    report = check(load(specs / SECOND_ORDER), dtype="float32")
    assert {v.verdict for v in report.parameters} == {OK}
    assert all(5 <= v.digits["float32"] <= 12 for v in report.parameters)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0, 1 + 1e-5, math.nan, math.inf])
def test_one_wrong_entry_is_found_and_named(specs: Path, factor: float) -> None:
    def spoil(grads: dict[str, Any]) -> None:
        grads["cell.U"] = grads["cell.U"].copy()
        grads["cell.U"][1, 2] *= factor

    report = check(load(specs / SECOND_ORDER), dtype="float64", build=spoilt(spoil))
    verdicts = {v.name: v for v in report.parameters}
    assert verdicts["cell.U"].verdict == WRONG
    assert verdicts["cell.U"].note.startswith("cell.U[1,2]: ")
    assert [v.name for v in report.parameters if v.verdict == WRONG] == ["cell.U"]
    assert report.exit_status == 1


def test_a_wrong_entry_of_a_large_tensor_is_found_along_directions(specs: Path) -> None:
    def spoil(grads: dict[str, Any]) -> None:
        grads["rnn.U"] = grads["rnn.U"] * 1.01

    report = check(load(specs / "rnn_regression.yaml"), build=spoilt(spoil))
    verdict = next(v for v in report.parameters if v.name == "rnn.U")
    assert (verdict.verdict, verdict.directions) == (WRONG, 2)


def test_a_gradient_without_its_recurrence_is_wrong(specs: Path) -> None:
    """A known bug of public code: the backward pass of an RNN without its recursion over time."""
    model = load(specs / SECOND_ORDER)

    def build(model: Any, **options: Any) -> Any:
        module = codegen.compile(model, **options)
        inner = module.value_and_grad

        def value_and_grad(params: Any, batch: Any, aux: bool = False) -> Any:
            loss, grads = inner(params, batch)
            # Each step by itself: the states of other steps taken as given.
            still = {**params, "cell.U": 0 * params["cell.U"], "cell.V": 0 * params["cell.V"]}
            return loss, {**grads, "cell.W": inner(still, batch)[1]["cell.W"]}

        module.value_and_grad = value_and_grad  # type: ignore[attr-defined]
        return module

    report = check(model, build=build)
    assert {v.name for v in report.parameters if v.verdict == WRONG} == {"cell.W"}


def test_a_wrong_loss_is_wrong_for_every_parameter(specs: Path) -> None:
    def build(model: Any, **options: Any) -> Any:
        module = codegen.compile(model, **options)
        inner = module.value_and_grad
        module.value_and_grad = lambda params, batch, aux=False: (  # type: ignore[attr-defined]
            inner(params, batch)[0] + 1e-6, inner(params, batch)[1])
        return module

    report = check(load(specs / SECOND_ORDER), dtype="float64", build=build)
    assert {v.verdict for v in report.parameters} == {WRONG}
    assert all(v.note.startswith("the loss itself is wrong: ") for v in report.parameters)


def test_inputs_are_checked_too(specs: Path) -> None:
    report = check(load(specs / SECOND_ORDER), wrt="all", dtype="float64")
    assert {v.name for v in report.parameters} >= {"x", "y", "cell.W"}
    assert report.verdict == OK


def test_a_parameter_that_nothing_uses_has_gradient_zero() -> None:
    report = check(own("v = sum(w[k]*x[n,k], over=(n,k))", {"w": ["D"], "idle": ["D"]}))
    assert {v.name: v.verdict for v in report.parameters} == {"w": OK, "idle": OK}


def test_a_gradient_that_cancels_to_zero_is_not_wrong() -> None:
    text = "e[n,k] = exp(w[k]*x[n,k] + b)\ns[n] = e[n,k]\nv = sum(log(e[n,0]/s[n]), over=n)"
    report = check(own(text, {"w": ["D"], "b": []}))
    assert {v.name: v.verdict for v in report.parameters} == {"w": OK, "b": OK}


def test_tiny_gradients_are_undecided_or_right_never_wrong() -> None:
    report = check(own("v = 1000000000 + sum(0.000000000000001*w[k]*x[n,k], over=(n,k))", {"w": ["D"]}))
    assert report.verdict in (OK, UNDECIDED)
    assert report.exit_status == 0


def test_one_comparison_that_resolves_nothing_is_undecided() -> None:
    from codegen.verify import _verdict

    rough = Comparison("perturbation", error=1e-9, scale=1e-9, own_error=1e-8)
    assert _verdict("w", (1,), 1, 0, [rough]).verdict == UNDECIDED


# ---- kinks and constants -----------------------------------------------------------------------------------------------


def test_a_kink_has_no_verdict_and_status_0(monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen import verify

    def on_the_corner(*arguments: Any) -> Trial:
        trial = draw(*arguments)
        return replace(trial, values={**trial.values, "w": trial.values["u"]})

    monkeypatch.setattr(verify, "draw", on_the_corner)
    report = check(own("v = sum(abs(w[k] - u[k]), over=k)", {"w": ["D"]}, {"u": ["D"]}))
    (verdict,) = report.parameters
    assert (verdict.verdict, report.exit_status) == (KINK, 0)
    assert verdict.note == "4 of 4 perturbations cross a kink of the loss"


@pytest.mark.parametrize(("text", "rough"), [
    ("v = sum(tanh(w[k])*u[k]**2, over=k)", []),
    ("v = sum(relu(w[k])*u[k], over=k)", ["relu"]),
    ("v = sum(where(u[k], w[k], 2), over=k)", ["where"]),
    ("m = max(w[k]*u[k], over=k)\nv = m", ["max"]),
    ("v = sum(sqrt(w[k]**2)*u[k], over=k)", ["power"]),
    ("v = sum((u[k] > 0)*w[k], over=k)", ["guard"]),
])
def test_what_may_have_a_kink_is_read_off_the_program(text: str, rough: list[str]) -> None:
    assert _rough_places(own(text, {"w": ["D"]}, {"u": ["D"]}).program()) == rough


@pytest.mark.parametrize(("text", "verdict"), [
    ("v = sum(w[k]**2*u[k], over=k)", WRONG),
    ("v = sum(abs(w[k])*u[k], over=k)", KINK),
])
def test_a_loss_without_kinks_has_none(monkeypatch: pytest.MonkeyPatch, text: str, verdict: str) -> None:
    """Where no function of the program has a kink, what looks like one is a wrong slope and not an excuse for it."""
    from codegen import oracles

    monkeypatch.setattr(oracles, "slope", lambda *_: Slope(1e3, 0.0, kink=True))
    assert check(own(text, {"w": ["D"]}, {"u": ["D"]})).verdict == verdict


# ---- a point of the user's ---------------------------------------------------------------------------------------------


def test_a_given_point_is_where_all_oracles_check() -> None:
    """At w = u every entry is on the corner of |w - u|; beside it none is. What is not given is drawn."""
    model = own("v = sum(abs(w[k] - u[k])*z[k], over=k)", {"w": ["D"]}, {"u": ["D"], "z": ["D"]})
    corner = np.array([0.5, -1.0, 2.0, 0.25, 3.0])
    on, off = (check(model, point={"w": corner + step, "u": corner}) for step in (0.0, 0.5))
    assert (on.verdict, off.verdict) == (KINK, OK)
    assert on.sizes == {"D": 5}
    assert on.loss == 0


@pytest.mark.parametrize(("point", "message"), [
    ({"q": np.ones(2)}, r"--params: expected parameters and inputs of model \(w, u\), found 'q'"),
    ({"w": np.ones((2, 2))}, r"--params: expected 'w' of shape \[4\] and real numbers, found \[2, 2\] and float64; .* D=4"),
    ({"w": np.ones(2), "u": np.ones(3)}, r"--params: expected '[wu]' of shape \[[23]\] and real numbers, found \[[23]\]"),
    ({"w": np.ones(2, complex)}, r"--params: expected 'w' of shape \[2\] and real numbers, found \[2\] and complex128"),
    ({"w": np.zeros(2), "u": np.ones(2)}, r"model: the loss is not finite at the given w, u; there is no slope to check"),
])
def test_a_point_that_does_not_fit_is_refused(point: dict[str, Any], message: str) -> None:
    with pytest.raises(ChainruleError, match=message):
        check(own("v = sum(u[k]/w[k], over=k)", {"w": ["D"]}, {"u": ["D"]}), point=point)


def test_relu_of_zero_is_a_kink() -> None:
    # The preactivation is w - w, exactly 0 and yet it moves with u.
    model = own("a[k] = u[k]*(w[k] - z[k])\nv = sum(relu(a[k]), over=k)", {"u": ["D"], "w": ["D"]}, {"z": ["D"]})
    program = model.program()
    point = {"u": np.ones(4), "w": np.array([1.0, 2.0, 3.0, 4.0]), "z": np.array([1.0, 2.0, 0.0, 0.0])}

    def loss(h: float, entry: int) -> float:
        w = point["w"].copy()
        w[entry] += h
        return float(evaluate(program, {**point, "w": w}, {"D": 4}, ["v"])["v"])

    assert slope(lambda h: loss(h, 0)).kink
    assert not slope(lambda h: loss(h, 2)).kink


def constant_shift(program: Program, name: str) -> Program:
    tensors = tuple(replace(t, constant="test") if t.name == name else t for t in program.tensors)
    return replace(program, tensors=tensors)


def test_constant_tensors_are_frozen_in_every_perturbation() -> None:
    model = own("m[k] = w[k]**2\nv = sum(m[k]*w[k], over=k)", {"w": ["D"]}, {"x": ["D"]})
    stopped = replace(model, _program=constant_shift(model.program(), "m"))
    assert frozen(stopped.program()) == ["m"]
    report = check(stopped)
    assert report.verdict == OK
    assert report.frozen == ("m",)
    assert any("m must stay frozen" in note for note in report.notes)
    # Not frozen, the derivative is 3 w**2 instead of w**2.
    (free,) = check(model).parameters
    assert free.verdict == OK


def test_freeze_makes_an_input() -> None:
    program = own("m[k] = w[k]**2\nv = sum(m[k]*w[k], over=k)", {"w": ["D"]}, {"x": ["D"]}).program()
    still = freeze(program, ["m"])
    assert still.tensor("m").role is Role.INPUT
    assert "m" not in still.writers


# ---- nodes -------------------------------------------------------------------------------------------------------------


def test_nudges_change_nothing_at_zero_and_reach_maxima() -> None:
    model = own("m[n] = max(w[k]*x[n,k], over=k)\nv = sum(m[n]**2, over=n)", {"w": ["D"]})
    program = model.program()
    moved, nudges = nudged(program, ["m"])
    sizes = {"N": 3, "D": 4}
    values: dict[str, Any] = {"w": np.array([1.0, -2.0, 0.5, 3.0]), "x": np.arange(12.0).reshape(3, 4) - 5}
    before = evaluate(program, values, sizes, ["m", "v"])
    after = evaluate(moved, {**values, nudges["m"]: np.zeros(3)}, sizes, ["m", "v"])
    assert np.array_equal(before["m"], after["m"])
    shifted = evaluate(moved, {**values, nudges["m"]: np.array([0.0, 1.0, 0.0])}, sizes, ["m"])["m"]
    assert np.array_equal(shifted - before["m"], [0.0, 1.0, 0.0])


def test_nodes_of_a_maximum_agree() -> None:
    report = check(own("m[n] = max(w[k]*x[n,k], over=k)\nv = sum(m[n]**2, over=n)", {"w": ["D"]}), nodes=True)
    assert {v.name: v.verdict for v in report.nodes} == {"m": OK, "v": OK}


def test_too_many_instances_give_no_nodes(specs: Path) -> None:
    program = load(specs / SECOND_ORDER).program()
    sizes = choose_sizes(program, {})
    trial = draw(program, sizes, {t.name: np.ones([sizes[str(e)] for e in t.shape]) for t in program.parameters}, 0)
    assert check_nodes(program, ["cell.W"], trial, budget=instances(program, sizes) // 10) is None


# ---- large models ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_too_large_for_the_interpreter_is_made_smaller(specs: Path) -> None:
    report = check(load(specs / "lstm_lm.yaml"))
    assert report.verdict == OK
    assert any(note.startswith("complex step and interpreter at V=4") for note in report.notes)
    for verdict in report.parameters:
        assert verdict.digits["complex step"] >= 12
        assert verdict.digits["interpreter"] >= 12


def test_report_is_plain_data(specs: Path) -> None:
    report = check(load(specs / "scalar.yaml"))
    data = json.loads(json.dumps(report.as_data()))
    assert data["name"] == "scalar"
    assert [row["verdict"] for row in data["parameters"]] == [OK] * 3
    assert data["costs"]["forward_passes"] == 6


def test_the_same_seed_gives_the_same_report(specs: Path) -> None:
    model = load(specs / SECOND_ORDER)
    first, second, other = check(model, seed=1), check(model, seed=1), check(model, seed=2)
    assert first == second
    assert first.loss != other.loss


# ---- known bugs of hand-written gradients ------------------------------------------------------------------------------


def mutated(change: Callable[[Program], Program]) -> Callable[..., Any]:
    """A build whose backward program is changed before it is scheduled and written: a bug as a person would make it."""

    def build(model: Any, **options: Any) -> Any:
        chosen = pipeline.Options(**{k: v for k, v in options.items() if k != "target"})
        done = pipeline.stages(model, chosen)
        done = replace(done, optimised=change(done.optimised))
        (text,) = pipeline.render(model, "numpy", chosen, done).values()
        module = types.ModuleType("mutated")
        exec(text, module.__dict__)
        return module

    return build


def _adjoint_lines(program: Program) -> list[int]:
    return [k for k, e in enumerate(program.equations) if program.tensor(e.name).role is Role.ADJOINT]


@pytest.mark.parametrize("name", ["second_order", "leaky_integrator"])
def test_every_adjoint_equation_matters(specs: Path, name: str) -> None:
    """Each line of the backward pass a thousandth too large, one at a time, is found out."""
    model = load(specs / f"{name}.yaml")
    lines = _adjoint_lines(pipeline.stages(model).optimised)
    assert len(lines) >= 8
    for k in lines:
        def change(program: Program, k: int = k) -> Program:
            rows = list(program.equations)
            rows[k] = replace(rows[k], body=rows[k].body * sp.Float(1.001))
            return program.with_equations(rows)

        assert check(model, dtype="float64", sizes={"T": 3, "N": 2}, build=mutated(change)).verdict == WRONG, k


def _without(program: Program, wrong: Callable[[Any], bool]) -> Program:
    kept = [e for e in program.equations if not wrong(e)]
    assert len(kept) == len(program.equations) - 1
    return program.with_equations(kept)


def test_a_backward_pass_without_recursion_over_time(specs: Path) -> None:
    model = load(specs / "rnn_regression.yaml")
    # d_h[t] += U^T d_a[t+1] left out: with one time step nobody would notice.
    build = mutated(lambda p: _without(p, lambda e: e.name == "d_rnn.h" and "d_rnn.a" in map(tensor_of, e.reads)))
    report = check(model, build=build, sizes={"T": 3, "N": 2})
    assert {v.name for v in report.parameters if v.verdict == WRONG} >= {"rnn.W", "rnn.U", "rnn.b"}
    assert {v.name: v.verdict for v in report.parameters}["out.W"] == OK


def test_an_adjoint_that_overwrites_instead_of_adding(specs: Path) -> None:
    """dh from the output replaces dh from the next step: the loss's own contribution is lost."""
    model = load(specs / "rnn_regression.yaml")
    build = mutated(lambda p: _without(p, lambda e: e.name == "d_rnn.h" and "d_out.y" in map(tensor_of, e.reads)))
    assert check(model, build=build, sizes={"T": 3, "N": 2}).verdict == WRONG


def test_a_gradient_averaged_over_time(specs: Path) -> None:
    def change(program: Program) -> Program:
        rows = [replace(e, body=e.body / size("T")) if e.name == "d_rnn.U" else e for e in program.equations]
        return program.with_equations(rows)

    report = check(load(specs / "rnn_regression.yaml"), build=mutated(change), sizes={"T": 3, "N": 2})
    assert {v.name for v in report.parameters if v.verdict == WRONG} == {"rnn.U"}


def test_truncation_without_saying_so(specs: Path) -> None:
    """Backpropagation of one step only, on a loss of all steps."""
    def change(program: Program) -> Program:
        rows = []
        for e in program.equations:
            back = e.name == "d_rnn.h" and "d_rnn.a" in map(tensor_of, e.reads)
            steps = next((i for i in e.indices if i.name == "t"), None)
            rows.append(replace(e, guards=(*e.guards, sp.Eq(steps.symbol, 0))) if back and steps is not None else e)
        return program.with_equations(rows)

    report = check(load(specs / "rnn_regression.yaml"), build=mutated(change), sizes={"T": 4, "N": 2})
    assert report.verdict == WRONG
