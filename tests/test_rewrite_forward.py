"""The rewrites of the forward program: logistic functions, logarithms of quotients, log-sum-exp, one-hot products.

They recognise structure: none of these programs has a layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.interpreter import evaluate
from symbolic.program import Program
from symbolic.rewrite import apply
from tests.rewriting import assert_same, differentiated, gradients_of, lines, program, values_for


def forward(p: Program, disabled: tuple[str, ...] = ()) -> Program:
    return check(apply(p, "forward", disabled)[0])


# ---- logistic ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "recognised"),
    [
        ("1/(1 + exp(-z[n]))", "sigmoid(z[n])"),
        ("exp(z[n])/(1 + exp(z[n]))", "sigmoid(z[n])"),
        ("exp(-z[n])/(exp(-z[n]) + 1)", "sigmoid(-z[n])"),
        ("1/(1 + exp(z[n]))", "sigmoid(-z[n])"),
        ("1/(1 + exp(-z[n]))**2", "sigmoid(z[n])**2"),
        ("x[n]/(1 + exp(-2*z[n]))", "sigmoid(2*z[n])*x[n]"),
        ("log(1 + exp(z[n]))", "softplus(z[n])"),
        ("log1p(exp(z[n]))", "softplus(z[n])"),
        ("log(sigmoid(z[n]))", "log_sigmoid(z[n])"),
        ("log(1/(1 + exp(-z[n])))", "log_sigmoid(z[n])"),
        ("log(1 - sigmoid(z[n]))", "log_sigmoid(-z[n])"),
        ("tanh(log(1 - sigmoid(z[n])))", "tanh(log_sigmoid(-z[n]))"),
        ("exp(z[n] + x[n])/(1 + exp(z[n] + x[n]))", "sigmoid(x[n] + z[n])"),
        ("exp(z[n] + x[n])*sigmoid(-z[n] - x[n])", "sigmoid(x[n] + z[n])"),
        ("x[n]*exp(z[n] - 1)/(1 + exp(z[n] - 1))", "sigmoid(z[n] - 1)*x[n]"),
        ("1 - sigmoid(z[n])*x[n]", None),
        ("log(2 + exp(z[n]))", None),
        ("1/(2 + exp(-z[n]))", None),
        ("log(1 + exp(z[n]) + x[n])", None),
    ],
)
def test_logistic_functions_are_recognised(written: str, recognised: str | None) -> None:
    p = program(f"loss = sum(({written})**1, over=n)", {"z": "N"}, {"x": "N"}, sizes={"N": None})
    found = forward(p)
    if recognised is None:
        assert found.equations == p.equations
    else:
        assert lines(found) == [f"(1) loss[] += {recognised}"]
    assert_same(gradient(p), gradient(found), {"N": 3})


def test_binary_cross_entropy_is_found_through_a_staged_probability() -> None:
    p = program(
        """
p[n] = 1/(1 + exp(-z[n]))
loss = -mean(y[n]*log(p[n]) + (1 - y[n])*log(1 - p[n]), over=n)
""",
        {"z": "N"},
        {"y": "N"},
        sizes={"N": None},
        outputs=["p"],
    )
    plain, rewritten = differentiated(p)
    assert "(2) loss[] += -((1 - y[n])*log_sigmoid(-z[n]) + log_sigmoid(z[n])*y[n])/N" in lines(rewritten)
    assert any(line.endswith("d_z[n] += (p[n] - y[n])/N") for line in lines(rewritten))
    assert_same(plain, rewritten, {"N": 4})


@pytest.mark.parametrize("z", [800.0, -800.0])
def test_binary_cross_entropy_is_finite_for_extreme_logits(z: float) -> None:
    p = program(
        "p[n] = sigmoid(z[n])\nl[n] = -y[n]*log(p[n]) - (1 - y[n])*log(1 - p[n])\nloss = sum(l[n], over=n)",
        {"z": "N"},
        {"y": "N"},
        sizes={"N": None},
    )
    values = {"z": np.array([z, z]), "y": np.array([0.0, 1.0])}
    found = gradients_of(differentiated(p)[1], values, {"N": 2}, ["z"])
    assert found["loss"] == 800
    np.testing.assert_allclose(found["z"], [1, 0] if z > 0 else [0, -1])


@pytest.mark.parametrize("z", [800.0, -800.0])
def test_binary_cross_entropy_of_a_quotient_of_exponentials_of_a_sum(z: float) -> None:
    p = program(
        """
p[n] = exp(z[n] + b)/(1 + exp(z[n] + b))
l[n] = -y[n]*log(p[n]) - (1 - y[n])*log(1 - p[n])
loss = sum(l[n], over=n)
""",
        {"z": "N", "b": ""},
        {"y": "N"},
        sizes={"N": None},
    )
    values = {"z": np.array([z, z]), "b": np.array(0.0), "y": np.array([0.0, 1.0])}
    found = gradients_of(differentiated(p)[1], values, {"N": 2}, ["z", "b"])
    assert found["loss"] == 800
    np.testing.assert_allclose(found["z"], [1, 0] if z > 0 else [0, -1])
    assert found["b"] == np.sign(z)
    assert_same(*differentiated(p), {"N": 3})


def test_a_clipped_probability_keeps_its_clip() -> None:
    p = program("p[n] = sigmoid(z[n])\nloss = sum(log(max2(p[n], 0.001)), over=n)", {"z": "N"}, sizes={"N": None})
    found = forward(p)
    assert "max2(log_sigmoid(z[n])" in lines(found)[1]
    values = {"z": np.array([-20.0, -1.0, 3.0])}
    for q in (gradient(p), gradient(found)):
        result = gradients_of(q, values, {"N": 3}, ["z"])
        assert result["loss"] == pytest.approx(np.log(0.001) + np.log(1 / (1 + np.exp(1))) + np.log(1 / (1 + np.exp(-3))))
        assert result["z"][0] == 0


def test_a_sigmoid_read_out_of_bounds_is_left_alone() -> None:
    """p[n-1] is 0 at the border, so 1 - p[n-1] is 1 there; log_sigmoid(-z[n-1]) would be -log 2."""
    p = program("p[n] = sigmoid(z[n])\nloss = sum(log(1 - p[n-1]), over=n)", {"z": "N"}, sizes={"N": None}, ranges={"n": "N"})
    assert "log(1 - p[n - 1])" in lines(forward(p))[1]
    assert_same(gradient(p), gradient(forward(p)), {"N": 3})


def test_a_sigmoid_in_a_slice_of_a_packed_tensor_is_seen() -> None:
    p = program(
        "g[k+0] = sigmoid(a[k+0])\ng[H+k] = tanh(a[H+k])\nloss = sum(log(g[k+0]) + g[H+k], over=k)",
        {"a": "2*H"},
        states={"g": "2*H"},
        sizes={"H": None},
        ranges={"k": "H"},
    )
    assert any("log_sigmoid(a[k])" in line for line in lines(forward(p)))
    assert_same(*differentiated(p), {"H": 2})


def test_a_guarded_sigmoid_is_seen_through_only_under_its_guard() -> None:
    text = "p[n] = (n < len)*sigmoid(z[n])\nloss = sum({}log(1 - p[n]), over=n)"
    labels = {"len": ("", "N+1")}
    bare = program(text.format(""), {"z": "N"}, labels=labels, sizes={"N": None})
    guarded = program(text.format("(n < len)*"), {"z": "N"}, labels=labels, sizes={"N": None})
    assert "log(1 - p[n])" in lines(forward(bare))[1]
    assert "log_sigmoid(-z[n])" in lines(forward(guarded))[1]
    for p in (bare, guarded):
        assert_same(gradient(p), gradient(forward(p)), {"N": 3}, len=2)


def test_an_ignored_label_keeps_a_probability_out_of_a_logarithm() -> None:
    """Where y is ignored p[n,y] is 0 and log(1 - p) is 0; only a guard makes the two forms the same."""
    p = program(
        "p[n,k] = sigmoid(z[n,k])\nloss = sum(log(1 - p[n,y[n]]), over=n)",
        {"z": "N,K"},
        labels={"y": ("N", "K")},
        ignore={"y": -1},
        sizes={"N": None, "K": None},
    )
    assert "log(1 - p[n, y[n]])" in lines(forward(p))[1]
    assert_same(gradient(p), gradient(forward(p)), {"N": 3, "K": 2}, y=np.array([0, -1, 1]))


# ---- log-sum-exp -------------------------------------------------------------------------------------------------------

CROSS_ENTROPY = {
    "log of a sum": "l[n] = log(sum(exp(z[n,k]), over=k)) - z[n,y[n]]",
    "log of a softmax": "p[n,k] = exp(z[n,k])/sum(exp(z[n,j]), over=j)\nl[n] = -log(p[n,y[n]])",
    "staged": "e[n,k] = exp(z[n,k])\ns[n] = sum(e[n,k], over=k)\np[n,k] = e[n,k]/s[n]\nl[n] = -log(p[n,y[n]])",
    "log softmax": "e[n,k] = exp(z[n,k])\ns[n] = sum(e[n,k], over=k)\nq[n,k] = z[n,k] - log(s[n])\nl[n] = -q[n,y[n]]",
    "log of a quotient": "e[n,k] = exp(z[n,k])\ns[n] = sum(e[n,k], over=k)\nl[n] = log(s[n]/e[n,y[n]])",
    "in one line": "s[n] = sum(exp(z[n,k]), over=k)\nl[n] = (log(s[n]) - z[n,y[n]])*1",
}


def cross_entropy(form: str) -> Program:
    return program(
        CROSS_ENTROPY[form] + "\nloss = mean(l[n], over=n)",
        {"z": "N,K"},
        labels={"y": ("N", "K")},
        sizes={"N": None, "K": None},
        ranges={"k": "K"},
    )


@pytest.mark.parametrize("form", CROSS_ENTROPY)
def test_cross_entropy_is_stable_however_it_is_written(form: str) -> None:
    p = cross_entropy(form)
    plain, rewritten = differentiated(p)
    check(rewritten)
    assert_same(plain, rewritten, {"N": 3, "K": 4})
    values = {"z": np.array([[1e4, -1e4, 0.0, 1e4], [-1e4, -1e4, -1e4, -1e4]]), "y": np.array([3, 2])}
    found = gradients_of(rewritten, values, {"N": 2, "K": 4}, ["z"])
    assert found["loss"] == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-12)
    np.testing.assert_allclose(found["z"], [[0.25, 0, 0, -0.25], [0.125, 0.125, -0.375, 0.125]], atol=1e-12)


@pytest.mark.parametrize("form", CROSS_ENTROPY)
def test_cross_entropy_of_a_sum_is_stable_however_it_is_written(form: str) -> None:
    """A sum in the exponent: SymPy does not cancel exp(a + b)/exp(a + b), and nothing may rely on that."""
    text = CROSS_ENTROPY[form].replace("z[n,k]", "(z[n,k] + b[k])").replace("z[n,j]", "(z[n,j] + b[j])")
    text = text.replace("z[n,y[n]]", "z[n,y[n]] - b[y[n]]") if form in ("log of a sum", "in one line") else text
    p = program(
        text + "\nloss = mean(l[n], over=n)",
        {"z": "N,K", "b": "K"},
        labels={"y": ("N", "K")},
        sizes={"N": None, "K": None},
        ranges={"k": "K"},
    )
    plain, rewritten = differentiated(p)
    assert_same(plain, rewritten, {"N": 3, "K": 4})
    assert all(line.count("exp(") <= 1 for line in lines(forward(p)))
    values = {"z": np.array([[800.0, -800.0, 0.0, 300.0], [-800.0] * 4]), "y": np.array([3, 2])}
    values["b"] = np.array([0.0, 0.0, 0.0, 500.0])
    found = gradients_of(rewritten, values, {"N": 2, "K": 4}, ["z", "b"])
    assert found["loss"] == pytest.approx((np.log(2) + 500) / 2, rel=1e-12)
    np.testing.assert_allclose(found["z"], [[0.5 / 2, 0, 0, -0.5 / 2], [0, 0, -0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(found["b"], found["z"].sum(axis=0), atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 800.0])
def test_a_recurrence_in_the_log_domain_is_stable(size: float) -> None:
    """The forward algorithm of a hidden Markov model, written as it is in a textbook."""
    p = program(
        """
al[t,j] = p0[j] + E[j,o[t]] + log(sum(exp(al[t-1,i] + A[i,j]), over=i))
loss = log(sum(exp(al[T-1,j]), over=j))
""",
        {"p0": "S", "E": "S,V", "A": "S,S"},
        labels={"o": ("T", "V")},
        states={"al": "T,S"},
        sizes={"T": None, "S": None, "V": None},
    )
    sizes = {"T": 4, "S": 3, "V": 2}
    given = values_for(p, sizes)
    values = {name: size * value if value.dtype.kind == "f" else value for name, value in given.items()}
    al = np.zeros(3)
    for o in values["o"]:
        al = values["p0"] + values["E"][:, o] + np.logaddexp.reduce(al[:, None] + values["A"], axis=0)
    found = gradients_of(differentiated(p)[1], values, sizes, ["p0", "E", "A"])
    assert found["loss"] == pytest.approx(np.logaddexp.reduce(al), rel=1e-12)
    assert found["A"].sum() == pytest.approx(4)


def test_a_staged_softmax_of_a_sum_takes_one_exponential() -> None:
    p = program(
        "e[n,k] = exp(z[n,k] + b[k])\ns[n] = sum(e[n,k], over=k)\np[n,k] = e[n,k]/s[n]\nloss = sum(p[n,k]**2, over=(n,k))",
        {"z": "N,K", "b": "K"},
        sizes={"N": None, "K": None},
    )
    rewritten = differentiated(p)[1]
    assert "\n".join(lines(rewritten)).count("exp(") == 1
    values = {"z": np.array([[800.0, -800.0]]), "b": np.array([100.0, 0.0])}
    found = gradients_of(rewritten, values, {"N": 1, "K": 2}, ["z", "b"])
    assert found["loss"] == 1
    assert np.all(np.isfinite(found["z"]))
    assert np.all(np.isfinite(found["b"]))


@pytest.mark.parametrize("form", CROSS_ENTROPY)
def test_large_parts_of_a_cross_entropy_meet_before_the_logarithm(form: str) -> None:
    """m - z[y] comes before log(s), so that nothing is lost in single precision where both are 1e4."""
    rows = [e for e in forward(cross_entropy(form)).equations if e.name == ("q" if form == "log softmax" else "l")]
    assert ["log(" in str(row.body) for row in rows] == [False] * (len(rows) - 1) + [True]
    assert len(rows) == 3


def test_the_maximum_is_a_constant_and_has_no_adjoint() -> None:
    _, rewritten = differentiated(cross_entropy("log of a sum"))
    maxima = [t for t in rewritten.tensors if t.constant]
    assert [t.name for t in maxima] == ["l_max"]
    assert maxima[0].constant == "log-sum-exp"
    assert not any("l_max" in e.name and e.name != "l_max" for e in rewritten.equations)


ATTENTION = """
s[t,u] = q[t,d]*k[u,d]
e[t,u] = (u <= t)*exp(s[t,u])
w[t] = sum(e[t,u], over=u)
p[t,u] = (u <= t)*(e[t,u]/w[t])
o[t,d] = p[t,u]*v[u,d]
loss = sum(o[t,d]**2, over=(t,d))
"""


def attention(text: str = ATTENTION) -> Program:
    return program(text, {"q": "T,D", "k": "T,D", "v": "T,D"}, states={"s": "T,T"}, sizes={"T": None, "D": None})


def test_a_masked_softmax_carries_its_guard_to_the_maximum() -> None:
    p = attention()
    found = forward(p)
    assert any(line.endswith("w_max[t] += max over (u) s[t, u] [u <= t]") for line in lines(found))
    plain, rewritten = differentiated(p)
    assert_same(plain, rewritten, {"T": 4, "D": 2})
    values = values_for(p, {"T": 3, "D": 2})
    values["k"][2] *= 800 / np.abs(values["q"][0] @ values["k"][2])
    values["q"], values["k"] = values["q"] * 5, values["k"] * 5
    assert all(np.all(np.isfinite(x)) for x in gradients_of(rewritten, values, {"T": 3, "D": 2}, "qkv").values())


def test_unnormalised_sums_of_exponentials_are_scaled_with_them() -> None:
    """sum(e*v)/sum(e): the numerator is of degree 1 too."""
    p = attention("""
s[t,u] = q[t,d]*k[u,d]
e[t,u] = exp(s[t,u])
w[t] = sum(e[t,u], over=u)
f[t,d] = e[t,u]*v[u,d]
o[t,d] = f[t,d]/w[t]
loss = sum(o[t,d]**2, over=(t,d))
""")
    assert any("max over (u)" in line for line in lines(forward(p)))
    plain, rewritten = differentiated(p)
    assert_same(plain, rewritten, {"T": 3, "D": 2})
    values = {name: 30.0 * x for name, x in values_for(p, {"T": 3, "D": 2}).items()}
    assert all(np.all(np.isfinite(x)) for x in gradients_of(rewritten, values, {"T": 3, "D": 2}, "qkv").values())


@pytest.mark.parametrize(
    "reader",
    [
        "l = s + 1",
        "l = log(s + 1)",
        "l = sum(e[k]**2, over=k)/s",
        "l = e[0]",
        "l = tanh(s)",
        "l = s**2/e[0]",
        "l = log(s)*s",
    ],
)
def test_a_reader_that_is_not_invariant_forbids_the_shift(reader: str) -> None:
    p = program(
        f"e[k] = exp(z[k])\ns = sum(e[k], over=k)\np[k] = e[k]/s\n{reader}\nloss = l + sum(p[k]**2, over=k)",
        {"z": "K"},
        sizes={"K": None},
    )
    assert not any("max over" in line for line in lines(forward(p)))
    assert_same(*differentiated(p), {"K": 3})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "the sum has a guard that e has not",
            "e[k] = exp(z[k])\ns = sum((k < 2)*e[k], over=k)\nl = log(s) + sum(e[k]/s, over=k)",
        ),
        ("a promised exponential", "e[k] = exp(z[k])\ns = sum(e[k], over=k)\nl = log(s)"),
        ("a maximum subtracted already", "m = max(z[k], over=k)\ns = sum(exp(z[k] - m), over=k)\nl = log(s) + m"),
        ("sums along two axes", "e[k] = exp(z[k])\ns = sum(e[k], over=k)\nr = sum(e[k]*z[k], over=k)\nl = log(s) + tanh(r)"),
        (
            "a numerator with another term",
            "e[k] = exp(z[k])\ns = sum(e[k], over=k)\nf = e[k]*z[k] + y\nl = f/s\ny = z[0]",
        ),
        ("nothing varies over the sum", "s = sum(exp(y)*z[k], over=k)\nl = log(s)\ny = z[0]"),
    ],
)
def test_sums_of_exponentials_that_stay_as_they_are(name: str, text: str) -> None:
    p = program(f"{text}\nloss = l", {"z": "K"}, sizes={"K": None}, outputs=["e"] if "promised" in name else ())
    before = [line for line in lines(p) if "max over" in line]
    assert [line for line in lines(forward(p)) if "max over" in line] == before


@pytest.mark.parametrize(
    "text",
    [
        "s[t] = sum(exp(z[t,k])*(1 + s[t-1]), over=k)",
        "s[t] = sum(exp(z[t,k] - s[t-1]), over=k)",
        "e[t,k] = exp(z[t,k])*(1 + s[t-1])\ns[t] = sum(e[t,k], over=k)",
    ],
)
def test_sums_of_exponentials_that_read_themselves_are_left_alone(text: str) -> None:
    p = program(f"{text}\nloss = sum(log(s[t]), over=t)", {"z": "T,K"}, states={"s": "T"}, sizes={"T": None, "K": None})
    assert not any("max over" in line for line in lines(forward(p)))
    assert_same(*differentiated(p), {"T": 3, "K": 2})


def test_a_guard_that_compares_a_sum_of_exponentials_forbids_the_shift() -> None:
    p = program("s = sum(exp(z[k]), over=k)\nloss = log(s) + sum((s < 3)*z[k], over=k)", {"z": "K"}, sizes={"K": None})
    assert not any("max over" in line for line in lines(forward(p)))
    assert_same(*differentiated(p), {"K": 2}, z=np.array([0.1, 0.2]))


def test_a_selection_between_a_scaled_term_and_0_is_scaled() -> None:
    p = program(
        "e[k] = exp(z[k])\ns = sum(e[k], over=k)\np[k] = where(k < 2, e[k], 0)/s\nq[k] = where(k < 1, e[k]/s, 1)\n"
        "loss = sum(p[k]**2 + q[k]**2, over=k)",
        {"z": "K"},
        sizes={"K": None},
    )
    assert any("max over" in line for line in lines(forward(p)))
    assert_same(*differentiated(p), {"K": 4})


def test_a_weighted_sum_of_exponentials_is_left_alone() -> None:
    """A weight that is read may be 0 where the exponent is greatest: what is left would underflow, the plain sum does not."""
    p = program(
        """
a[t,i] = log(sum(w[j,i]*exp(a[t-1,j] + x[t,j]), over=j))
loss = sum(a[t,i], over=(t,i))
""".replace("a[t-1,j]", "tanh(a[t-1,j])"),
        {"w": "H,H"},
        {"x": "T,H"},
        states={"a": "T,H"},
        sizes={"T": None, "H": None},
    )
    assert not any("max over (j)" in line for line in lines(forward(p)))
    values = values_for(p, {"T": 3, "H": 2})
    values["w"] = np.abs(values["w"])
    assert_same(*differentiated(p), {"T": 3, "H": 2}, w=values["w"])


def test_a_prediction_that_is_promised_stays_and_is_stable() -> None:
    p = program(
        "e[n,k] = exp(z[n,k])\ns[n] = sum(e[n,k], over=k)\np[n,k] = e[n,k]/s[n]\n",
        inputs={"z": "N,K"},
        outputs=["p"],
        sizes={"N": None, "K": None},
    )
    found = apply(forward(p), "backward")[0]
    result = evaluate(found, {"z": np.array([[1e4, 0.0]])}, {"N": 1, "K": 2}, ["p"])["p"]
    np.testing.assert_array_equal(result, [[1, 0]])


def test_the_log_of_another_softmax_term_is_left_alone() -> None:
    """log(p + tiny) is no logarithm of a product."""
    p = program("p[k] = exp(z[k])/sum(exp(z[j]), over=j)\nloss = -sum(log(p[k] + 0.01), over=k)", {"z": "K"}, sizes={"K": None})
    assert any("log(p[k] + 0.01" in line for line in lines(forward(p)))
    assert_same(*differentiated(p), {"K": 3})


def test_a_guarded_probability_is_not_seen_through_without_its_guard() -> None:
    """Where the guard is false p is 0; a logarithm of z - log(s) there would be another value."""
    p = program(
        "e[k] = exp(z[k])\ns = sum(e[k], over=k)\np[k] = (k < 2)*(e[k]/s)\nq[k] = log(p[k])*1\nloss = sum((k < 2)*q[k], over=k)",
        {"z": "K"},
        sizes={"K": None},
    )
    assert any("log(p[k])" in line for line in lines(forward(p)))


# ---- specialise --------------------------------------------------------------------------------------------------------


def one_hot(text: str, **more: Any) -> Program:
    return program(
        text,
        {"W": "H,V"},
        labels={"x": ("T", "V")},
        sizes={"T": None, "H": None, "V": None},
        states={"o": "T,V", "a": "T,H"},
        **more,
    )


def test_a_one_hot_product_is_a_row_of_the_matrix() -> None:
    p = one_hot("o[t,v] = (v == x[t])*1\na[t,i] = W[i,v]*o[t,v]\nloss = sum(a[t,i]**2, over=(t,i))")
    found = forward(p)
    assert "(2) a[t, i] += W[i, x[t]]" in lines(found)
    plain, rewritten = differentiated(p)
    assert not any(e.name == "o" for e in rewritten.equations)
    assert_same(plain, rewritten, {"T": 3, "H": 2, "V": 4})


def test_a_one_hot_written_at_its_label_is_the_same() -> None:
    p = one_hot("o[t,x[t]] = 1\na[t,i] = W[i,v]*o[t,v]\nloss = sum(a[t,i]**2, over=(t,i))")
    assert "(2) a[t, i] += W[i, x[t]]" in lines(forward(p))
    assert_same(*differentiated(p), {"T": 3, "H": 2, "V": 4})


def test_a_label_one_further_is_an_affine_subscript() -> None:
    p = one_hot("o[t,x[t]+1] = 1\na[t,i] = W[i,v]*o[t,v]\nloss = sum(a[t,i]**2, over=(t,i))")
    assert "(2) a[t, i] += W[i, x[t] + 1]" in lines(forward(p))
    assert_same(*differentiated(p), {"T": 3, "H": 2, "V": 4}, x=np.array([0, 3, 1]))


def test_a_guard_that_fixes_a_summed_index_is_its_value() -> None:
    p = one_hot("a[t,i] = (v == x[t])*W[i,v]\nloss = sum(a[t,i]**2, over=(t,i))")
    assert "(1) a[t, i] += W[i, x[t]]" in lines(forward(p))
    assert_same(*differentiated(p), {"T": 3, "H": 2, "V": 4})


def test_a_product_with_a_shifted_one_hot_reads_the_shifted_label() -> None:
    p = one_hot("o[t,v] = (v == x[t])*1\na[t,i] = (t > 0)*W[i,v]*o[t-1,v]\nloss = sum(a[t,i]**2, over=(t,i))")
    assert_same(*differentiated(p), {"T": 3, "H": 2, "V": 4})


def test_an_ignored_class_has_no_row() -> None:
    p = program(
        "o[t,v] = (v == x[t])*1\na[t,i] = W[i,v]*o[t,v]\nb[t] = sum(exp(c[v])*o[t,v], over=v)\n"
        "loss = sum(a[t,i]**2, over=(t,i)) + "
        "sum(b[t], over=t)",
        {"W": "H,V", "c": "V"},
        labels={"x": ("T", "V")},
        ignore={"x": -1},
        states={"o": "T,V"},
        sizes={"T": None, "H": None, "V": None},
    )
    found = lines(forward(p))
    assert "(2) a[t, i] += W[i, x[t]]" in found  # 0 where x is nowhere, as the sum is
    assert any("exp(c[v])" in line for line in found)  # exp(0) = 1 would not be
    assert_same(*differentiated(p), {"T": 3, "H": 2, "V": 4}, x=np.array([1, -1, 3]))


def test_a_factor_that_is_not_finite_at_an_ignored_class_keeps_the_sum() -> None:
    p = program(
        "o[t,v] = (v == x[t])*1\na[t] = sum(W[v]*log(c[v])*o[t,v], over=v)\nloss = sum(a[t]**2, over=t)",
        {"W": "V"},
        {"c": "V"},
        labels={"x": ("T", "V")},
        ignore={"x": -1},
        states={"o": "T,V"},
        sizes={"T": None, "V": None},
    )
    assert_same(*differentiated(p), {"T": 2, "V": 3}, x=np.array([1, -1]), c=np.array([1.0, 2.0, 3.0]))


def test_a_sum_over_a_part_of_the_axis_is_not_specialised_beyond_it() -> None:
    p = program(
        "a[t] = (v == x[t])*W[v+0]\nloss = sum(a[t]**2, over=t)",
        {"W": "V"},
        labels={"x": ("T", "V")},
        sizes={"T": None, "V": 4},
        ranges={"v": 2},
    )
    assert "[v = x[t]]" in lines(forward(p))[0].replace("Eq(v, x[t])", "v = x[t]")
    assert_same(*differentiated(p), {"T": 4}, x=np.array([0, 1, 2, 3]))


def test_an_equality_of_two_indices_is_a_diagonal() -> None:
    p = program("d[t] = sum((u == t)*A[t,u], over=u)\nloss = sum(d[t]**2, over=t)", {"A": "T,T"}, sizes={"T": None})
    assert "(1) d[t] += A[t, t]" in lines(forward(p))
    assert_same(*differentiated(p), {"T": 3})


# ---- blend -------------------------------------------------------------------------------------------------------------

GATE = "z[n] = sigmoid(w[n])\n"


@pytest.mark.parametrize(
    ("text", "blended"),
    [
        pytest.param(GATE + "y[n] = (1 - z[n])*g[n] + z[n]*h[n]", "(-g[n] + h[n])*z[n] + g[n]", id="contributions"),
        pytest.param(GATE + "y[n] = tanh((1 - z[n])*g[n] + z[n]*h[n])", "tanh((-g[n] + h[n])*z[n] + g[n])", id="in a function"),
        pytest.param("y[n] = (1 - sigmoid(w[n]))*g[n] + sigmoid(w[n])*h[n]", "(-g[n] + h[n])*sigmoid(w[n]) + g[n]",
                     id="unstaged"),
        pytest.param(GATE + "y[n] = (1 - z[n])*g[n] + z[n]*h[n] + x[n]", "(-g[n] + h[n])*z[n] + g[n]", id="with a rest"),
        pytest.param(GATE + "y[n] = (1 - z[n])*tanh(g[n]) + z[n]*h[n]", None, id="an end that would be computed twice"),
        pytest.param("z[n] = 2*sigmoid(w[n])\ny[n] = (1 - z[n])*g[n] + z[n]*h[n]", None, id="a weight of up to 2"),
        pytest.param("y[n] = (1 - w[n])*g[n] + w[n]*h[n]", None, id="a weight of any size"),
        pytest.param(GATE + "y[n] = (2 - z[n])*g[n] + z[n]*h[n]", None, id="not the complement"),
        pytest.param(GATE + "y[n] = (1 - z[n])*g[n] + w[n]*h[n]", None, id="another weight"),
        pytest.param(GATE + "y[n] = (1 - z[n])*g[n] + z[n]*h[n]*(n < 2)", None, id="one end under a guard"),
        pytest.param(GATE + "y[n] = (1 - z[n])*g[n]", None, id="one end"),
        pytest.param(GATE + "z[n] += g[n]\ny[n] = (1 - z[n])*g[n] + z[n]*h[n]", None, id="a gate with a second writer"),
    ],
)
def test_means_by_a_gate_take_one_product(text: str, blended: str | None) -> None:
    p = program(f"{text}\nloss = sum(y[n]**2, over=n)", {"w": "N", "g": "N", "h": "N"}, {"x": "N"}, sizes={"N": None})
    found = lines(forward(p))
    if blended is None:
        assert found == lines(forward(p, ("blend",)))
    else:
        assert any(line.endswith(f"y[n] += {blended}") for line in found), found
        assert found != lines(forward(p, ("blend",)))
    assert_same(*differentiated(p), {"N": 3})


def test_the_slope_by_the_gate_of_a_mean_is_one_product() -> None:
    p = program(
        GATE + "y[n] = (1 - z[n])*g[n] + z[n]*h[n]\nloss = sum(x[n]*y[n], over=n)",
        {"w": "N", "g": "N", "h": "N"}, {"x": "N"}, sizes={"N": None},
    )
    _, rewritten = differentiated(p)
    (slope,) = (line for line in lines(rewritten) if "d_w[n] +=" in line)
    assert slope.endswith("d_w[n] += (-g[n] + h[n])*d_g[n]*z[n]"), slope  # d_g is (1 - z)*d_y


def test_a_mean_with_the_state_before_the_first_is_exact() -> None:
    p = program(
        "z[t] = sigmoid(w[t])\ns[t] = (1 - z[t])*g[t] + z[t]*s[t-1]\nloss = sum(s[t]**2, over=t)",
        {"w": "T", "g": "T"}, states={"s": "T"}, sizes={"T": None},
    )
    assert any("(-g[t] + s[t - 1])*z[t] + g[t]" in line for line in lines(forward(p)))
    for steps in (1, 4):
        assert_same(*differentiated(p), {"T": steps})


# ---- monotone ----------------------------------------------------------------------------------------------------------

POOLED = "y[n,u] = relu(a[n,u])\np[n,u] = max(y[n,2*u+q], over=q)\nloss = sum(p[n,u]*w[n,u], over=(n,u))"


def pooled(text: str = POOLED, entries: int = 6, **more: Any) -> Program:
    settings: dict[str, Any] = {"outputs": (), "ranges": {"q": 2}, "states": {"y": f"N,{entries}", "p": "N,3"}, **more}
    return program(text, {"a": f"N,{entries}"}, {"w": "N,3"}, sizes={"N": None}, **settings)


def test_relu_comes_after_the_maximum() -> None:
    p = pooled()
    assert lines(forward(p))[:2] == ["(2) p_max[n, u] += max over (q) a[n, q + 2*u]", "(1) p[n, u] += relu(p_max[n, u])"]
    plain, rewritten = differentiated(p)
    assert not any(e.name == "y" for e in rewritten.equations)
    assert_same(plain, rewritten, {"N": 4})


@pytest.mark.parametrize("entries", [(2, 2), (0, 0), (-1, -2), (-2, -1), (0, -1), (-1, 0), (0, 3), (3, 0), (-1, 3), (-0.0, 0.0)])
def test_ties_below_above_and_at_the_kink_have_the_same_slopes(entries: tuple[float, float]) -> None:
    """Where all of a window is at most 0, relu ties at 0, and its first place is not the first maximum: both have slope 0."""
    row = np.array([entries * 3])
    plain, rewritten = differentiated(pooled())
    assert_same(plain, rewritten, {"N": 1}, a=row)


def test_windows_that_overlap_and_a_maximum_of_everything() -> None:
    text = "y[n,u] = relu(a[n,u])\np[n,u] = max(y[n,u+q], over=q)\nloss = sum(p[n,u]*w[n,u], over=(n,u))"
    p = pooled(text, 4)
    assert "(1) p[n, u] += relu(p_max[n, u])" in lines(forward(p))
    values = np.array([[1.0, 1, 1, 0], [0, 0, 0, 0], [-1, 2, 2, -1]])
    assert_same(*differentiated(p), {"N": 3}, a=values)
    p = program("y[t,n] = relu(a[t,n])\nm[n] = max(y[t,n], over=t)\nloss = sum(m[n]**2, over=n)", {"a": "T,N"},
                sizes={"T": None, "N": None})
    assert "(1) m[n] += relu(m_max[n])" in lines(forward(p))
    assert_same(*differentiated(p), {"T": 3, "N": 2})


def test_a_padded_window_keeps_its_guard() -> None:
    """Over no instance at all a maximum is 0, and so is relu of that; padding is no entry."""
    text = "y[n,u] = relu(a[n,u])\np[n,u] = max((u+q-1 >= 0)*y[n,u+q-1], over=q)\nloss = sum(p[n,u]*w[n,u], over=(n,u))"
    p = pooled(text, 3)
    assert "[q + u - 1 >= 0]" in lines(forward(p))[0].replace("[q + u >= 1]", "[q + u - 1 >= 0]")
    assert "relu(p_max[n, u])" in lines(forward(p))[1]
    assert_same(*differentiated(p), {"N": 2})
    p = program("y[t,n] = relu(a[t,n])\nm[n] = max((t < len[n])*y[t,n], over=t)\nloss = sum(m[n] + m[n]**2, over=n)",
                {"a": "T,N"}, labels={"len": ("N", "T+1")}, sizes={"T": None, "N": None})
    assert_same(*differentiated(p), {"T": 3, "N": 4}, len=np.array([0, 1, 3, 2]))


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (POOLED.replace("relu(a[n,u])", "clip(a[n,u], -1, 1)"), {}),  # slope 1 at its end and 0 beyond: ties differ
        (POOLED.replace("relu", "abs"), {}),  # it falls
        (POOLED.replace("relu(a[n,u])", "relu(a[n,u])**2"), {}),  # not the function alone
        (POOLED.replace("relu(a[n,u])", "relu(a[n,5-u])"), {}),  # not entry by entry
        (POOLED + " + sum(y[n,u], over=(n,u))", {}),  # read by another too
        (POOLED, {"outputs": ("y",)}),  # promised
        (POOLED.replace("\np", "\ny[n,0] += 1\np"), {}),  # written by another too
        (POOLED.replace("y[n,u] = relu(a[n,u])", "y[n,r+0] = relu(a[n,r+0])"), {"ranges": {"q": 2, "r": 4}}),  # a part
        (POOLED.replace("max(y", "max(2*y"), {}),  # the maximum of something else
        ("y[n,u] = relu(a[n,u])\np[n,u] = max(y[n,u-q], over=q)\nloss = sum(p[n,u], over=(n,u))",
         {"states": {"y": "N,6", "p": "N,7"}}),  # more entries after it than before
    ],
)
def test_a_function_that_may_not_change_places_with_a_maximum_stays(text: str, more: dict[str, Any]) -> None:
    p = pooled(text, **more)
    _, steps = apply(p, "forward")
    assert "monotone" not in {step.rule for step in steps}
    assert_same(*differentiated(p), {"N": 2})


def test_clip_and_a_maximum_in_another_order_have_another_slope() -> None:
    """What the flag in the table keeps out: the first of 1 and 2, clipped at 1, has slope 1; the greatest, 2, has slope 0."""
    spec = {"states": {"y": "N,6", "p": "N,3"}}
    clipped = gradient(pooled(POOLED.replace("relu(a[n,u])", "clip(a[n,u], -1, 1)"), **spec), ["a"])
    moved = "m[n,u] = max(a[n,2*u+q], over=q)\np[n,u] = clip(m[n,u], -1, 1)\nloss = sum(p[n,u]*w[n,u], over=(n,u))"
    other = gradient(pooled(moved, states={"m": "N,3", "p": "N,3"}), ["a"])
    values = values_for(clipped, {"N": 1}, a=np.array([[1.0, 2, 1, 2, 1, 2]]), w=np.ones((1, 3)))
    first, second = (gradients_of(p, values, {"N": 1}, ["a"])["a"] for p in (clipped, other))
    assert first.tolist() == [[1, 0, 1, 0, 1, 0]]
    assert second.tolist() == [[0, 0, 0, 0, 0, 0]]


def test_maxima_first_is_a_switch() -> None:
    assert lines(forward(pooled(), ("monotone",))) == lines(pooled())


# ---- the phase ---------------------------------------------------------------------------------------------------------


def test_nothing_happens_where_there_is_nothing_to_recognise() -> None:
    p = program("h[n] = tanh(x[n])\nloss = sum(h[n], over=n)", {"x": "N"}, sizes={"N": None})
    after, steps = apply(p, "forward")
    assert steps == ()
    assert after.equations == p.equations


def test_a_rule_that_is_switched_off_leaves_its_equations() -> None:
    p = cross_entropy("log of a sum")
    assert not any("max over" in line for line in lines(forward(p, ("log_sum_exp",))))
