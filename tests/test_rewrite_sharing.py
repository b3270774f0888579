"""Terms and contractions of several equations that are computed once."""

from __future__ import annotations

import numpy as np

from symbolic.adjoint import gradient
from symbolic.check import check
from tests.rewriting import adjoints, assert_same, cell, changed, differentiated, gradients_of, lines, only, program, rnn

# ---- common ------------------------------------------------------------------------------------------------------------


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
