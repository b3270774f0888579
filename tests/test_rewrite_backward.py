"""The rewrites of a program with adjoints, each alone: what it makes of a small program, and what it must leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.errors import ChainruleError
from symbolic.program import Equation, Program, Role
from symbolic.rewrite import RULES, Step, apply, promised
from tests.rewriting import (
    NAMES,
    RNN_SIZES,
    adjoints,
    assert_same,
    cell,
    changed,
    differentiated,
    lines,
    only,
    program,
    rnn,
    values_for,
)

# ---- constants ---------------------------------------------------------------------------------------------------------


def test_a_constant_adjoint_is_a_number() -> None:
    p = program("l[t] = a[t]**2\nloss = mean(l[t], over=t)", {"a": "T"}, sizes={"T": None})
    assert adjoints(only(p, "constants")) == ["d_loss[] += 1", "d_l[t] += 1/T", "d_a[t] += 2*a[t]/T"]
    assert_same(gradient(p), only(p, "constants"), {"T": 3})


def test_a_constant_that_is_summed_is_multiplied_by_the_extent() -> None:
    p = program("l[t] = a[t] + b\nloss = mean(l[t], over=t)", {"a": "T", "b": ""}, sizes={"T": None})
    assert "d_b[] += 1" in adjoints(only(p, "constants"))
    assert_same(gradient(p), only(p, "constants"), {"T": 3})


def test_a_constant_read_out_of_bounds_or_written_in_part_stays_a_read() -> None:
    p = program(
        "y[t] = a[t-1]\nloss = sum(y[t], over=t) + sum((t < 2)*y[t], over=t)", {"a": "T"}, sizes={"T": None}, ranges={"t": "T"}
    )
    found = only(p, "constants")
    assert "d_a[t - 1] += d_y[t]" in adjoints(found)
    shifted = program("y[t] = c[t-1]*a[t]\nc[t] = 2\nloss = sum(y[t], over=t)", {"a": "T"}, states={"c": "T"}, sizes={"T": None})
    assert any("c[t - 1]" in line for line in lines(only(shifted, "constants")))
    assert_same(gradient(shifted), only(shifted, "constants"), {"T": 3})


def test_an_adjoint_that_nothing_writes_is_0() -> None:
    p = program(
        "m[n] = max(z[n,k], over=k)\nl[n] = m[n] + z[n,0]\nloss = sum(l[n], over=n)", {"z": "N,K"}, sizes={"N": None, "K": None}
    )
    p = replace(p, tensors=tuple(replace(t, constant="a test") if t.name == "m" else t for t in p.tensors))
    found = apply(gradient(p), "backward")[0]
    assert adjoints(found) == ["d_z[n, 0] += 1"]


# ---- cancel ------------------------------------------------------------------------------------------------------------


def test_products_that_cancel_are_multiplied_out() -> None:
    p = program(
        "p[n] = sigmoid(z[n])\nloss = -sum(y[n]*log(p[n]) + (1 - y[n])*log(1 - p[n]), over=n)",
        {"z": "N"},
        {"y": "N"},
        sizes={"N": None},
    )
    assert adjoints(differentiated(p)[1]) == ["d_z[n] += p[n] - y[n]"]
    assert_same(*differentiated(p), {"N": 3})


def test_products_that_do_not_cancel_stay_as_they_are() -> None:
    assert not changed(rnn(), "cancel")


# ---- inline ------------------------------------------------------------------------------------------------------------


def test_an_adjoint_with_one_writer_and_one_reader_stands_in_it() -> None:
    p = program("i[t] = sigmoid(a[t])\nc[t] = i[t]*g[t]\nloss = sum(c[t]**2, over=t)", {"a": "T"}, {"g": "T"}, sizes={"T": None})
    assert adjoints(only(p, "constants", "reuse", "inline", "dead")) == ["d_a[t] += 2*(1 - i[t])*c[t]*g[t]*i[t]"]
    assert_same(gradient(p), only(p, "inline"), {"T": 3})


def test_a_promised_adjoint_is_never_inlined() -> None:
    p = program("i[t] = sigmoid(a[t])\nloss = sum(i[t]**2, over=t)", {"a": "T"}, sizes={"T": None})
    plain = gradient(p)
    kept, _ = apply(plain, "backward", keep=promised(plain) | {"d_i"})
    assert any(e.name == "d_i" for e in kept.equations)
    assert kept.gradients["i"] == "d_i"
    dropped, _ = apply(plain, "backward")
    assert "i" not in dropped.gradients
    assert "d_i" not in dropped


def test_a_reader_that_broadcasts_or_sums_is_not_inlined_into() -> None:
    """d_s[n] = 1/s[n] would be divided again for each k; a sum keeps its operand."""
    p = program(
        "s[n] = sum(a[n,k]**2, over=k)\nl[n] = log(s[n])\nloss = sum(l[n], over=n)", {"a": "N,K"}, sizes={"N": None, "K": None}
    )
    assert "d_s[n] += 1/s[n]" in adjoints(only(p, "constants", "inline"))
    assert any("d_a[t, i]*x[t, k]" in line for line in adjoints(only(rnn(), "constants", "inline")))


def test_a_guard_moves_with_the_term_that_is_inlined() -> None:
    p = program(
        "y[t] = a[t]*b[t]\nz[t] = (t < len)*exp(y[t])\nloss = sum(z[t], over=t)",
        {"a": "T"},
        {"b": "T"},
        labels={"len": ("", "T+1")},
        sizes={"T": None},
    )
    found = only(p, "constants", "inline")
    assert [str(g) for e in found.equations if e.name == "d_a" for g in e.guards] == ["t < len[]"]
    assert_same(gradient(p), found, {"T": 3}, len=2, b=np.array([1.0, 2.0, 900.0]), a=np.ones(3))


def test_a_border_stops_inlining() -> None:
    """d_y[t-1] is out of bounds at 0: its writer has no instance there."""
    p = program("y[t] = exp(a[t])\nz[t] = y[t+1]*b[t]\nloss = sum(z[t], over=t)", {"a": "T"}, {"b": "T"}, sizes={"T": None})
    assert_same(gradient(p), only(p, "constants", "inline", "gather"), {"T": 3})


def test_a_writer_of_a_part_of_the_entries_is_not_inlined() -> None:
    p = program(
        "y[t] = exp(a[t])\nz[u] = c*y[u+0]\nloss = sum(z[u], over=u)",
        {"a": "T", "c": ""},
        states={"z": "2"},
        sizes={"T": 4},
        ranges={"u": 2},
    )
    assert_same(gradient(p), only(p, "constants", "inline"), {})


# ---- gather ------------------------------------------------------------------------------------------------------------


def test_backpropagation_through_time_is_an_index_shift() -> None:
    found = only(rnn(), "gather")
    assert "d_h[t, j] += U[i, j]*d_a[t + 1, i]" in adjoints(found)
    (row,) = [e for e in found.equations if str(e.body) == "U[i, j]*d_a[t + 1, i]"]
    assert str(row.indices[0]) == "t=0..T - 2"
    assert_same(gradient(rnn()), found, RNN_SIZES)
    assert_same(gradient(rnn()), found, {**RNN_SIZES, "T": 1})


def test_a_state_with_a_margin_keeps_its_first_step() -> None:
    p = program(
        "h[-1] = h0\nh[t] = tanh(w*h[t-1])\nloss = sum(h[t]**2, over=t)",
        {"w": "", "h0": ""},
        states={"h": ("T", ((1, 0),))},
        sizes={"T": None},
    )
    found = only(p, "gather")
    (row,) = [e for e in found.equations if e.name == "d_h" and "d_h[t + 1]" in str(e.body)]
    assert str(row.indices[0]) == "t=-1..T - 2"
    assert_same(gradient(p), found, {"T": 3})


def test_6_the_image_of_the_domain_is_exact() -> None:
    p = program(
        "h[t+1] = w*exp(g[t-1])\nloss = sum(h[t+0], over=t)",
        {"w": "", "g": "T"},
        states={"h": "T+1"},
        sizes={"T": None},
        ranges={"t": "T"},
    )
    assert_same(gradient(p), only(p, "gather"), {"T": 3})


def test_14_a_reflection_is_solved() -> None:
    p = program("y[t] = x[T-1-t]*b[t]\nloss = sum(y[t], over=t)", {"x": "T"}, {"b": "T"}, sizes={"T": None})
    assert "d_x[t] += b[-t + T - 1]*d_y[-t + T - 1]" in adjoints(only(p, "gather"))
    assert_same(gradient(p), only(p, "gather"), {"T": 3})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("y[u] = x[2*u+p-1]*w[p]", "a strided window would be enlarged"),
        ("y[u] = x[u+p]*w[p]", "a window has no one index for its subscript"),
        ("y[u] = x[tok[u]]*w[0]", "an index tensor cannot be solved"),
        ("y[u] = x[H+u]*w[0]", "a slice is injective already"),
    ],
)
def test_14_other_subscripts_stay_scatters(text: str, why: str) -> None:
    p = program(
        f"{text}\nloss = sum(y[u]**2, over=u)",
        {"x": "2*U+H+3"},
        {"w": "3"},
        labels={"tok": ("U", "U")},
        states={"y": "U"},
        sizes={"U": None, "H": None},
        ranges={"p": 3},
    )
    assert not changed(p, "gather")


def test_14_an_index_that_stands_twice_is_left_alone() -> None:
    p = program("y[t] = A[t-1,t]\nloss = sum(y[t]**2, over=t)", {"A": "T,T"}, sizes={"T": None})
    assert not changed(p, "gather")


def test_a_lag_longer_than_the_sequence_leaves_nothing() -> None:
    p = program(
        "h[t] = tanh(a[t] + U*h[t-3])\nloss = sum(h[t]**2, over=t)", {"a": "T", "U": ""}, states={"h": "T"}, sizes={"T": None}
    )
    for steps in (1, 2, 3, 5):
        assert_same(*differentiated(p), {"T": steps})


# ---- duplicates and dead equations -------------------------------------------------------------------------------------


def test_equal_contributions_become_one() -> None:
    p = program(
        "y[t] = a[t]*b[t]\nloss = sum(y[t], over=t) + sum(y[u], over=u) + sum(3*y[t], over=t)",
        {"a": "T", "b": "T"},
        sizes={"T": None},
    )
    assert [line for line in lines(only(p, "duplicates")) if "loss[] +=" in line and "d_" not in line] == ["(2) loss[] += 5*y[t]"]
    assert_same(gradient(p), only(p, "duplicates"), {"T": 3})


def test_dead_equations_and_their_tensors_go() -> None:
    p = program("y[t] = a[t]**2\nunused[t] = exp(a[t])\nloss = sum(y[t], over=t)", {"a": "T"}, sizes={"T": None})
    found = only(p, "dead")
    assert "unused" not in found
    assert found.gradients["a"] == "d_a"


# ---- the phase ---------------------------------------------------------------------------------------------------------


def test_the_textbook_backward_pass_of_an_rnn() -> None:
    """dL/da = (1 - h^2) dL/dh; dL/dh = 2h/N + U' dL/da[t+1]; dL/dU = sum dL/da h[t-1]'."""
    assert adjoints(differentiated(rnn())[1]) == [
        "d_h[t, i] += 2*h[t, i]/(H*T)",
        "d_a[t, i] += (1 - h[t, i]**2)*d_h[t, i]",
        "d_U[i, j] += d_a[t, i]*h[t - 1, j]",
        "d_h[t, j] += U[i, j]*d_a[t + 1, i]",
        "d_W[i, k] += d_a[t, i]*x[t, k]",
    ]


def test_every_step_names_its_rule_and_its_equations() -> None:
    plain = gradient(rnn())
    after, steps = apply(plain, "backward")
    assert {step.rule for step in steps} == {"constants", "reuse", "gather", "dead"}
    (reuse,) = [step for step in steps if step.rule == "reuse"]
    assert str(reuse) == (
        "reuse:\n"
        "  - (8) d_a[t, i] += (1 - tanh(a[t, i])**2)*d_h[t, i]    for t=0..T - 1, i=0..H - 1\n"
        "  + (8) d_a[t, i] += (1 - h[t, i]**2)*d_h[t, i]    for t=0..T - 1, i=0..H - 1"
    ).replace("(8)", f"({reuse.before[0].number})")
    # The steps, replayed, lead from the first program to the last.
    rows = list(plain.equations)
    for step in steps:
        for equation in step.before:
            rows.remove(equation)
        rows += step.after
    assert sorted(map(str, rows)) == sorted(map(str, after.equations))


def test_a_rewritten_equation_keeps_the_numbers_it_came_from() -> None:
    p = program("i[t] = sigmoid(a[t])\nc[t] = i[t]*g[t]\nloss = sum(c[t]**2, over=t)", {"a": "T"}, {"g": "T"}, sizes={"T": None})
    plain = gradient(p)
    after, _ = apply(plain, "backward")
    known = {n for e in plain.equations for n in e.numbers}
    (row,) = [e for e in after.equations if e.name == "d_a"]
    assert len(row.numbers) == 4
    assert set(row.numbers) <= known
    assert row.origin.rule == "inline"


@pytest.mark.parametrize("name", NAMES)
def test_each_rule_can_be_switched_off(name: str) -> None:
    p = cell()
    plain = gradient(apply(p, "forward", [name])[0])
    after, steps = apply(plain, "backward", [name])
    assert name not in {step.rule for step in steps}
    assert_same(gradient(p), check(after), {"T": 3, "H": 2})


def test_unknown_names_are_refused() -> None:
    p = gradient(rnn())
    with pytest.raises(ChainruleError, match=r"^no rewrite 'reus'; did you mean 'reuse'\?; known: "):
        apply(p, "backward", ["reus"])
    with pytest.raises(ChainruleError, match=r"^no rewrite phase 'middle'; expected one of forward, backward"):
        apply(p, "middle")


def test_a_second_run_changes_nothing() -> None:
    for p in (rnn(), cell()):
        once, _ = apply(gradient(p), "backward")
        twice, steps = apply(once, "backward")
        assert steps == ()
        assert twice == once


def test_every_rule_has_a_law_and_every_step_equations() -> None:
    for rule in RULES:
        assert rule.law
        assert rule.run.__doc__
    assert Step("x", (), ()).before == ()


def chain(layers: int) -> Program:
    """Layers of a dense net with tanh, in one text."""
    text, previous = [], "x"
    for k in range(layers):
        text.append(f"a{k}[n,i] = W{k}[i,j]*{previous}[n,j] + b{k}[i]\nh{k}[n,i] = tanh(a{k}[n,i])")
        previous = f"h{k}"
    text.append(f"l[n] = log(sum(exp({previous}[n,j]), over=j)) - {previous}[n,y[n]]\nloss = mean(l[n], over=n)")
    parameters = {f"W{k}": "H,H" for k in range(layers)} | {f"b{k}": "H" for k in range(layers)}
    return program("\n".join(text), parameters, {"x": "N,H"}, labels={"y": ("N", "H")}, sizes={"N": None, "H": None})


def calls(layers: int) -> int:
    """How many Python functions the rewrites of a net call: work without a clock."""
    import sys

    p = gradient(apply(chain(layers), "forward")[0])
    apply(p, "backward")  # fill the caches of shapes
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        apply(p, "backward")
    finally:
        sys.setprofile(None)
    return count


def test_work_grows_linearly_with_the_number_of_layers() -> None:
    assert calls(32) < 2.5 * calls(16)


def test_the_same_equations_come_out_whatever_the_order_of_hashes() -> None:
    """Twice in one process, caches filled differently; two hash seeds are tested on the emitted text."""
    first = [str(e) for e in apply(gradient(rnn()), "backward")[0].equations]
    values_for(rnn(), RNN_SIZES)
    assert [str(e) for e in apply(gradient(rnn()), "backward")[0].equations] == first


def test_rewritten_equations_are_those_of_adjoint_tensors_alone_in_an_rnn() -> None:
    p = rnn()
    after, _ = apply(gradient(p), "backward")
    spec = [e for e in after.equations if after.tensor(e.name).role is not Role.ADJOINT]
    assert [e for e in spec if isinstance(e, Equation)] == list(p.equations)
