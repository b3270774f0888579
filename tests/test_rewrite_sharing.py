"""Terms and contractions of several equations that are computed once."""

from __future__ import annotations

import numpy as np
import pytest

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.interpreter import evaluate
from symbolic.program import Program
from symbolic.rewrite import apply
from symbolic.tangent import tangent
from tests.rewriting import (
    adjoints,
    assert_same,
    cell,
    changed,
    differentiated,
    gradients_of,
    lines,
    only,
    program,
    rnn,
    values_for,
)

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


EMPTY_ROWS = """
d[n] = sum((s < len[n])*abs(g[n,s]), over=s)
c[n] = (s < len[n])*g[n,s]*h[n,s]/d[n]
b[n] = (s < len[n])*g[n,s]*h[n,s]
loss = sum(c[n]**2 + b[n]**2, over=n)
"""


@pytest.mark.parametrize("staged", [False, True])
def test_a_factor_of_a_sum_that_may_be_of_nothing_stays_in_it(staged: bool) -> None:
    """Law 3: 1/d[n] belongs to no instance where len[n] is 0, and is infinite there."""
    text = EMPTY_ROWS.replace("/d[n]", "*r[n]") + "r[n] = 1/d[n]\n" if staged else EMPTY_ROWS
    p = program(
        text,
        {"g": "N,S", "h": "N,S"},
        labels={"len": ("N", "S+1")},
        sizes={"N": None, "S": None},
        ranges={"n": "N"},
    )
    values = values_for(p, {"N": 3, "S": 4}, len=np.array([0, 2, 4]))
    found = [gradients_of(q, values, {"N": 3, "S": 4}, "gh") for q in (gradient(p), differentiated(p)[1])]
    for name in found[0]:
        assert np.all(np.isfinite(found[0][name]))
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-12)


def attention(compare: str) -> Program:
    text = f"""
z[t,s] = q[t,d]*k[s,d]
e[t,s] = (s {compare})*exp(z[t,s])
w[t] = (s {compare})*e[t,s]
o[t,d] = (s {compare})*e[t,s]*v[s,d]/w[t]
loss = sum(o[t,d]**2, over=(t,d))
"""
    return program(
        text,
        {"q": "T,D", "k": "T,D", "v": "T,D"},
        labels={"len": ("T", "T+1")},
        states=dict.fromkeys("ze", "T,T"),
        sizes={"T": None, "D": None},
    )


@pytest.mark.parametrize("compare", ["< t", "< len[t]"])
@pytest.mark.parametrize("second", [False, True])
def test_attention_with_an_empty_row_has_tangents_and_second_derivatives(compare: str, second: bool) -> None:
    p, sizes = attention(compare), {"T": 3, "D": 2}
    q = apply(p, "forward")[0]
    q = tangent(gradient(q)) if second else tangent(q)
    wanted = [q.tangents[q.gradients[t.name]] for t in p.parameters] if second else [q.tangents["loss"]]
    values = values_for(p, sizes, len=np.array([0, 2, 3]))
    values |= {q.tangents[t.name]: np.cos(values[t.name]) for t in p.parameters}
    before, after = (evaluate(r, values, sizes, wanted) for r in (q, apply(q, "backward")[0]))
    for name in wanted:
        assert np.all(np.isfinite(before[name]))
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-12)


def test_a_sum_that_is_never_of_nothing_is_shared_whatever_stands_outside() -> None:
    """The diagonal is in every row of s <= t, so that 1/w[t] belongs to some instance of each."""
    found = lines(only(program(
        "c[t] = (s <= t)*g[t,s]*h[s]/w[t]\nb[t] = (s <= t)*g[t,s]*h[s]\nloss = sum(c[t] + b[t], over=t)",
        {"g": "T,T", "h": "T", "w": "T"},
        sizes={"T": None},
    ), "contractions"))
    assert any("c[t] += h_g[t]/w[t]" in line for line in found)
