"""Lowering: no access outside its storage is left, and what can be proved of ranges cut at both ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sympy as sp

import symbolic
from codegen.lower import lower, plan_storage
from codegen.schedule import Statement, schedule
from symbolic.analysis import is_nonnegative
from symbolic.program import Equation, Index, Program, Role, Tensor, size
from tests.emitting import agree, compiled

T, K = size("T"), size("K")
EMPTY = Program("p", (), (), {"T": None, "K": None})


def load(text: str, **keys: Any) -> symbolic.Model:
    return symbolic.load(text, **{"loss": "loss", "dtype": "float64", "inputs": {"x": ["T"]}, **keys})


def lowered(model: symbolic.Model) -> Any:
    program = model.program()
    nodes = lower(schedule(program), program)
    return nodes, plan_storage(nodes, program, {t.name: t.name for t in program.tensors})


@pytest.mark.parametrize(("expr", "proved"), [
    (sp.Min(T, 3), True), (sp.Min(T, K) - 1, True), (sp.Min(T, 3) - 2, False), (T - sp.Min(T, 3), True), (sp.Max(0, T - 5), True),
    (3 - sp.Max(1, 2), True), (T - sp.Max(1, K), False), (T + K - sp.Max(T, K), True), (sp.floor((T + 1) / 2) - 1, True),
    (T - sp.floor(T / 2), True), (sp.floor(T / 2) - 1, False), (T * K - T, True), (T * K - T - K, False),
])
def test_signs(expr: Any, proved: bool) -> None:
    assert is_nonnegative(sp.sympify(expr), EMPTY) is proved


@pytest.mark.parametrize(("subscript", "lower_end", "upper_end"), [
    ("t+1", 0, T - 1), ("t-2", 2, T), ("T-1-t", 0, T), ("T-t", 1, T), ("2*t+1", 0, sp.floor(T / 2)),
])
def test_a_write_outside_is_cut_from_the_domain(subscript: str, lower_end: Any, upper_end: Any) -> None:
    model = load(f"y[{subscript}] = x[t]\nloss = sum(y[t]**2, over=t)", states={"y": ["T"]}, ranges={"t": "T"})
    nodes, _ = lowered(model)
    (index,) = next(n for n in nodes if isinstance(n, Statement) and n.equation.name == "y").equation.indices
    for count in (1, 2, 5, 6):
        at = {T: sp.Integer(count)}
        want = range(int(sp.sympify(lower_end).xreplace(at)), int(sp.sympify(upper_end).xreplace(at)))
        assert list(range(int(index.lower.xreplace(at)), int(index.upper.xreplace(at)))) == list(want)
        agree(model, {"T": count})


def test_reads_outside_get_a_halo() -> None:
    model = load("y[t] = x[t-2] + x[t+1]\nh[t] = tanh(y[t] + h[t-3])\nloss = sum(h[t]**2, over=t)",
                 states={"y": ["T"], "h": ["T"]})
    _, storages = lowered(model)
    assert (storages["x"].before, storages["x"].after) == ((2,), (1,))
    assert (storages["h"].before, storages["h"].after) == ((3,), (0,))
    assert not storages["y"].padded


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_zero_extension_does_not_pass_through_functions(steps: int) -> None:
    """exp(x[t-1]) is 1 before the start; a staged e[t-1] is 0 there."""
    agree(load("y[t] = exp(x[t-1])\ne[t] = exp(x[t])\nz[t] = e[t-1]\nloss = sum(y[t]**2 + 3*z[t]**2, over=t)",
               states={"y": ["T"], "z": ["T"]}), {"T": steps})


@pytest.mark.parametrize("loss", [
    "w[-1]", "w[N]", "w[N+3]*w[0] + w[0]", "sum((n==1)*(n==2)*w[n], over=n)", "exp(w[N])*w[0]", "w[N]*w[0]**2 + w[1]",
])
def test_an_equation_under_a_false_guard_is_gone(loss: str) -> None:
    model = load(f"loss = {loss}", inputs={}, parameters={"w": ["N"]})
    for disabled in ((), ("dead", "gather", "specialise")):
        module = compiled(model, wrt="all", dtype="float64", hvp=True, tangent=True, disabled=disabled)
        agree(model, {"N": 4}, module=module)


def test_a_program_drops_what_has_no_instance_and_keeps_the_rest() -> None:
    n = Index.over("n", size("N"))
    w, y = Tensor("w", (size("N"),), Role.PARAMETER), Tensor("y", (size("N"),))
    first = Equation(y.at((n.symbol,)), w.at((n.symbol,)), (n,), (sp.Lt(n.symbol, 2),))
    gone = replace(first, target=y.at((sp.Integer(3),)), indices=()).xreplace({n.symbol: sp.Integer(5)})
    assert gone.guards == (sp.false,)
    assert Program("p", (w, y), (first, gone), {"N": None}).equations == (first,)
    assert first.xreplace({n.symbol: sp.Integer(0)}).has_instances
