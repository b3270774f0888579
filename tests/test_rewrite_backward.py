"""The rewrites of a program with adjoints, each alone: what it makes of a small program, and what it must leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.errors import ChainruleError
from symbolic.interpreter import evaluate
from symbolic.program import Equation, Program, Role
from symbolic.rewrite import RULES, Step, apply, promised
from tests.rewriting import assert_same, differentiated, gradients_of, lines, program, values_for

NAMES = tuple(dict.fromkeys(rule.name for rule in RULES))


def only(p: Program, *rules: str, wrt: list[str] | None = None) -> Program:
    """The adjoint after these rules alone."""
    return check(apply(gradient(p, wrt), "backward", set(NAMES) - set(rules))[0])


def adjoints(p: Program) -> list[str]:
    """The adjoint equations as text, without numbers."""
    return [line.partition(") ")[2] for line in lines(p) if line.partition(") ")[2].startswith("d_")]


def changed(p: Program, rule: str) -> bool:
    plain = gradient(p)
    return apply(plain, "backward", set(NAMES) - {rule})[1] != ()


RNN = """
a[t,i] = W[i,k]*x[t,k] + U[i,j]*h[t-1,j]
h[t,i] = tanh(a[t,i])
loss = mean(h[t,i]**2, over=(t,i))
"""


def rnn(text: str = RNN) -> Program:
    return program(text, {"W": "H,D", "U": "H,H"}, {"x": "T,D"}, states={"h": "T,H"}, sizes={"T": None, "H": None, "D": None})


RNN_SIZES = {"T": 4, "H": 3, "D": 2}

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


# ---- reuse -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("h[t] = tanh(a[t])", "(1 - h[t]**2)*d_h[t]"),
        ("h[t] = sigmoid(a[t])", "(1 - h[t])*d_h[t]*h[t]"),
        ("h[t] = relu(a[t])", "gt(h[t], 0)*d_h[t]"),
        ("h[t] = exp(a[t])", "d_h[t]*h[t]"),
        ("h[t] = 3*tanh(a[t])", "(3 - h[t]**2/3)*d_h[t]"),
        ("h[t] = sqrt(a[t]**2 + 1)", "a[t]*d_h[t]/h[t]"),
        ("h[t] = 1/sqrt(a[t]**2 + 1)", "-a[t]*d_h[t]*h[t]**3"),
        ("h[t] = 1/(a[t]**2 + 1)", "-2*a[t]*d_h[t]*h[t]**2"),
        ("h[t] = log_sigmoid(a[t])", "sigmoid(-a[t])*d_h[t]"),
    ],
)
def test_stored_values_are_read(text: str, expected: str) -> None:
    p = program(f"{text}\nloss = sum(h[t]**2, over=t)", {"a": "T"}, sizes={"T": None})
    assert f"d_a[t] += {expected}" in adjoints(only(p, "reuse"))
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_13_a_softmax_finds_its_own_quotient() -> None:
    p = program(
        "e[k] = exp(z[k])\ns = sum(e[k], over=k)\np[k] = e[k]/s\nloss = sum(p[k]**2, over=k)", {"z": "K"}, sizes={"K": None}
    )
    assert "d_s[] += -d_p[k]*p[k]/s[]" in adjoints(only(p, "reuse"))
    assert_same(gradient(p), only(p, "reuse"), {"K": 3})


def test_13_a_variance_finds_its_stored_root() -> None:
    p = program(
        "r = 1/sqrt(v + 0.001)\ny[i] = x[i]*r\nv = mean(x[i]**2, over=i)\nloss = sum(y[i]**3, over=i)",
        {"x": "I"},
        sizes={"I": None},
    )
    assert "d_v[] += -d_r[]*r[]**3/2" in adjoints(only(p, "reuse"))
    assert_same(gradient(p), only(p, "reuse"), {"I": 3})


def test_2_an_entry_with_two_contributions_is_not_the_value_of_one() -> None:
    p = program(
        "h[t] = tanh(a[t])\nh[t] += x[t]\nloss = sum(h[t]**2, over=t)",
        {"a": "T"},
        {"x": "T"},
        states={"h": "T"},
        sizes={"T": None},
    )
    assert not changed(p, "reuse")


def test_2_a_start_on_its_own_slice_does_not_stand_in_the_way() -> None:
    p = program(
        "h[0] = h0\nh[t+1] = tanh(w*h[t+0])\nloss = sum(h[t+0]**2, over=t)",
        {"w": "", "h0": ""},
        states={"h": "T+1"},
        sizes={"T": None},
        ranges={"t": "T"},
    )
    assert any("h[t + 1]**2" in line for line in adjoints(only(p, "reuse")))
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_2_gates_packed_in_slices_are_told_apart() -> None:
    p = program(
        """
g[k+0] = sigmoid(a[k+0])
g[H+k] = tanh(a[H+k])
loss = sum(g[i]**2*v[i], over=i)
""",
        {"a": "2*H"},
        {"v": "2*H"},
        states={"g": "2*H"},
        sizes={"H": None},
        ranges={"k": "H"},
    )
    found = adjoints(only(p, "reuse"))
    assert "d_a[k] += (1 - g[k])*d_g[k]*g[k]" in found
    assert "d_a[H + k] += (1 - g[H + k]**2)*d_g[H + k]" in [line.replace("k + H", "H + k") for line in found]
    assert_same(gradient(p), only(p, "reuse"), {"H": 2})


def test_a_value_under_a_guard_is_read_only_under_it() -> None:
    text = "h[t] = (t < len)*tanh(a[t])\ny[t] = {}tanh(a[t])*b[t]\nloss = sum(h[t]*y[t], over=t)"
    labels = {"len": ("", "T+1")}
    free = program(text.format(""), {"a": "T", "b": "T"}, labels=labels, sizes={"T": None})
    held = program(text.format("(t < len)*"), {"a": "T", "b": "T"}, labels=labels, sizes={"T": None})
    assert any("y[t] += tanh(a[t])*b[t]" in line for line in lines(only(free, "reuse")))
    assert any("y[t] += b[t]*h[t]" in line for line in lines(only(held, "reuse")))
    for p in (free, held):
        assert_same(gradient(p), only(p, "reuse"), {"T": 4}, len=2)


def test_a_border_where_f_of_0_is_not_0_is_not_reused() -> None:
    p = program(
        "e[t] = exp(a[t])\ny[t] = exp(a[t-1])*b[t]\nloss = sum(y[t]*e[t], over=t)", {"a": "T", "b": "T"}, sizes={"T": None}
    )
    found = lines(only(p, "reuse"))
    assert any("y[t] += exp(a[t - 1])*b[t]" in line for line in found)
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_a_value_that_is_written_beyond_the_bounds_is_not_there() -> None:
    """h[t+1] for the last t is out of bounds: the write does not happen, and a read gives 0."""
    p = program(
        "h[t+1] = tanh(a[t])\ny[t] = tanh(a[t])*b[t]\nloss = sum(y[t]*h[t], over=t)",
        {"a": "T", "b": "T"},
        states={"h": "T"},
        sizes={"T": None},
    )
    assert any("y[t] += tanh(a[t])*b[t]" in line for line in lines(only(p, "reuse")))
    assert_same(gradient(p), only(p, "reuse"), {"T": 3})


def test_two_equations_of_one_value_never_read_each_other() -> None:
    p = program(
        "p[k] = exp(z[k])/(1 + z[k]**2)\nq[k] = exp(z[k])/(1 + z[k]**2)\nr[k] = sqrt(z[k]**2 + 1)\n"
        "s[k] = 1/sqrt(z[k]**2 + 1)\nloss = sum(p[k]*q[k] + r[k]*s[k]*z[k], over=k)",
        {"z": "K"},
        sizes={"K": None},
    )
    assert_same(gradient(p), only(p, "reuse"), {"K": 3})


def test_an_argument_of_a_maximum_that_may_be_nowhere_is_guarded() -> None:
    p = program(
        "h[t] = sigmoid(a[t])\nm = max((t < len)*h[t], over=t)\nloss = m**2",
        {"a": "T"},
        labels={"len": ("", "T+1")},
        sizes={"T": None},
    )
    for length in (0, 2):
        assert_same(*differentiated(p), {"T": 3}, len=length)


# ---- cancel ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["sigmoid(-z[n])", "1/(1 + exp(z[n]))", "exp(-z[n])/(1 + exp(-z[n]))"])
def test_a_forward_sigmoid_of_the_negative_keeps_its_digits(written: str) -> None:
    """1 - sigmoid(40) is 0 in double precision, sigmoid(-40) is 4e-18: only slopes take the former."""
    p = program(f"p[n] = sigmoid(z[n])\nq[n] = {written}\nloss = sum(p[n]*y[n], over=n) + sum(q[n]*y[n], over=n)",
                {"z": "N"}, {"y": "N"}, sizes={"N": None})
    rewritten = differentiated(p)[1]
    values = {"z": np.array([40.0, 300.0]), "y": np.array([1.0, 1.0])}
    assert "(2) q[n] += sigmoid(-z[n])" in lines(rewritten)
    np.testing.assert_allclose(evaluate(rewritten, values, {"N": 2}, ["q"])["q"], np.exp([-40.0, -300.0]), rtol=1e-12)
    assert not any("sigmoid" in line for line in adjoints(rewritten))


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


# ---- common ------------------------------------------------------------------------------------------------------------

LSTM_CELL = """
c[t,k] = f[t,k]*c[t-1,k] + a[t,k]
h[t,k] = o[t,k]*tanh(c[t,k])
loss = sum(h[t,k]**2, over=(t,k))
"""


def cell() -> Program:
    return program(LSTM_CELL, {"f": "T,H", "o": "T,H", "a": "T,H"}, states={"c": "T,H", "h": "T,H"}, sizes={"T": None, "H": None})


def test_15_the_tanh_of_a_cell_is_computed_once() -> None:
    _, rewritten = differentiated(cell())
    text = "\n".join(lines(check(rewritten)))
    assert text.count("tanh(") == 1
    assert "h[t, k] += o[t, k]*tanh_c[t, k]" in text
    assert_same(*differentiated(cell()), {"T": 3, "H": 2})


def test_15_offsets_and_index_names_do_not_hide_a_common_term() -> None:
    p = program(
        """
y[t] = exp(sin(x[t+1]))*b[t]
z[s] = exp(sin(x[s]))*b[s]
loss = sum((t < T-1)*y[t], over=t) + sum(z[s], over=s)
""".replace("y[t] = ", "y[t] = (t < T-1)*"),
        {"x": "T", "b": "T"},
        sizes={"T": None},
    )
    found = only(p, "common")
    assert_same(gradient(p), found, {"T": 4})


def test_a_common_term_at_a_border_stays_where_it_was() -> None:
    """exp(x[t-1]) is 1 at t = 0, which no entry of a staged exp(x[t]) is."""
    p = program(
        "y[t] = exp(x[t-1])*b[t]\nz[t] = exp(x[t])*b[t]\nloss = sum(y[t]*z[t], over=t)", {"x": "T", "b": "T"}, sizes={"T": None}
    )
    found = only(p, "common")
    assert any("y[t] += exp(x[t - 1])*b[t]" in line for line in lines(found))
    assert_same(gradient(p), found, {"T": 3})


def test_terms_under_different_guards_are_not_evaluated_where_neither_is() -> None:
    p = program(
        "y[n] = (n < 2)*log(x[n])*b[n]\nz[n] = (n > 2)*log(x[n])*b[n]\nloss = sum(y[n] + z[n], over=n)",
        {"b": "N"},
        {"x": "N"},
        sizes={"N": None},
    )
    found = only(p, "common", wrt=["b"])
    values = {"x": np.array([1.0, 2.0, -1.0, 3.0]), "b": np.ones(4)}
    before = gradients_of(gradient(p, ["b"]), values, {"N": 4}, ["b"])
    after = gradients_of(found, values, {"N": 4}, ["b"])
    np.testing.assert_array_equal(before["b"], after["b"])
    assert np.all(np.isfinite(after["b"]))


def test_a_term_under_a_shared_guard_is_staged_under_it() -> None:
    p = program(
        "y[n] = (n < len)*log(x[n])*b[n]\nz[n] = (n < len)*log(x[n])**2\nloss = sum(y[n] + z[n], over=n)",
        {"b": "N", "x": "N"},
        labels={"len": ("", "N+1")},
        sizes={"N": None},
    )
    found = only(p, "common")
    assert any("log_x[n] += log(x[n]) [n < len[]]" in line for line in lines(found))
    assert_same(gradient(p), found, {"N": 4}, len=2, x=np.array([1.0, 2.0, -1.0, -3.0]))


def test_a_term_under_a_guard_of_other_indices_is_not_staged_without_it() -> None:
    """log(x[n]) is evaluated where some k is in the guard; a tensor over n alone would evaluate it everywhere."""
    p = program(
        "y[n,k] = (k < len[n])*log(x[n])*b[k]\nz[n,k] = (k < len[n])*log(x[n])*x[n]\n"
        "loss = sum(y[n,k]*b[k] + z[n,k], over=(n,k))",
        {"b": "K"},
        {"x": "N"},
        labels={"len": ("N", "K+1")},
        states={"y": "N,K", "z": "N,K"},
        sizes={"N": None, "K": None},
    )
    assert not any("log_x" in line for line in lines(only(p, "common")))


def test_powers_of_a_staged_root_read_it() -> None:
    p = program(
        """
v[n] = mean(x[n,i]**2, over=i)
y[n,i] = g[i]*x[n,i]/sqrt(v[n] + 0.001) + b[i]
loss = sum(y[n,i]**3, over=(n,i))
""",
        {"x": "N,I", "g": "I", "b": "I"},
        sizes={"N": None, "I": None},
    )
    text = "\n".join(lines(differentiated(p)[1]))
    assert text.count("sqrt(") == 1
    assert "root_v[n]**3" in text
    assert_same(*differentiated(p), {"N": 2, "I": 3})


def test_a_slope_that_several_adjoints_share_is_computed_once() -> None:
    """A GRU's candidate: its slope (1 - g^2) dL/dg stands in the adjoints of both of its terms."""
    p = program("g[i] = tanh(a[i] + r[i]*v[i])\nloss = sum(g[i]**2, over=i)", {"a": "I", "r": "I", "v": "I"}, sizes={"I": None})
    found = adjoints(only(p, "constants", "reuse"))
    assert found[2:] == ["d_a[i] += (1 - g[i]**2)*d_g[i]", "d_r[i] += d_a[i]*v[i]", "d_v[i] += d_a[i]*r[i]"]
    assert_same(gradient(p), only(p, "reuse"), {"I": 3})


GRU = """
a[t,i] = U[i,j]*r[t,j]*h[t-1,j] + x[t,i]
r[t,i] = sigmoid(h[t-1,i]*v[i])
h[t,i] = tanh(a[t,i])
loss = sum(h[t,i]**2, over=(t,i))
"""


def test_15_a_gru_that_resets_before_the_product_takes_it_once() -> None:
    p = program(GRU, {"U": "H,H", "v": "H"}, {"x": "T,H"}, states={"h": "T,H", "r": "T,H"}, sizes={"T": None, "H": None})
    _, rewritten = differentiated(p)
    backward = [line for line in lines(check(rewritten)) if "U[i, j]*d_a" in line]
    assert len(backward) == 1
    assert "U_d_a[t, j] += U[i, j]*d_a[t, i]" in backward[0]
    for steps in (1, 4):
        assert_same(*differentiated(p), {"T": steps, "H": 3})


def test_a_shared_contraction_takes_the_guard_of_its_sum() -> None:
    p = program(
        "r[j] = (i < len)*(U[i,j]*x[i]*h[j])\nq[j] = (i < len)*(U[i,j]*x[i]*g[j])\nloss = sum(r[j]*q[j], over=j)",
        {"U": "H,H", "x": "H", "h": "H", "g": "H"},
        labels={"len": ("", "H+1")},
        sizes={"H": None},
    )
    found = only(p, "contractions")
    assert lines(found)[:3] == [
        "(13) x_U[j] += U[i, j]*x[i] [i < len[]]",
        "(1) r[j] += h[j]*x_U[j]",
        "(2) q[j] += g[j]*x_U[j]",
    ]
    assert_same(gradient(p), found, {"H": 4}, len=2)


def test_contractions_under_other_guards_are_not_shared() -> None:
    p = program(
        "r[j] = (i < 2)*(U[i,j]*x[i]*h[j])\nq[j] = (i < 3)*(U[i,j]*x[i]*g[j])\nloss = sum(r[j]*q[j], over=j)",
        {"U": "H,H", "x": "H", "h": "H", "g": "H"},
        sizes={"H": None},
    )
    found = only(p, "contractions")
    assert "(2) q[j] += U[i, j]*g[j]*x[i] [i < 3]" in lines(found)
    assert_same(gradient(p), found, {"H": 4})


def test_contractions_that_differ_are_not_shared() -> None:
    assert not changed(rnn(), "contractions")


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
