"""The laws of the IR (docs/ir.md), each with the counter-example that made it necessary, on interpreter and adjoint.

The numbers in the names are those of the counter-examples; the ones that concern a single rewrite stand with its tests.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy as sp

from symbolic import adjoint
from symbolic.adjoint import gradient, partial
from symbolic.check import check
from symbolic.errors import EquationError, ProgramError
from symbolic.functions import FUNCTIONS, clip, max2, relu
from symbolic.interpreter import evaluate
from symbolic.parser import Scope, parse
from symbolic.program import Equation, Index, Program, Role, Tensor, index, read, size
from symbolic.rewrite import apply
from symbolic.tangent import tangent
from tests.rewriting import assert_same, differentiated, gradients_of, perturbed, program, values_for

RNN = """
a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
h[t,n,i] = tanh(a[t,n,i])
z[t,n] = V[i]*h[t,n,i]
loss = mean(z[t,n]**2, over=(t,n))
"""


def rnn() -> Program:
    return program(
        RNN,
        {"W": "H,D", "U": "H,H", "b": "H", "V": "H"},
        {"x": "T,N,D"},
        states={"h": "T,N,H"},
        sizes={"T": None, "N": None, "H": None, "D": None},
    )


RNN_SIZES = {"T": 4, "N": 2, "H": 3, "D": 5}


def number(p: Program, name: str, values: dict[str, Any], sizes: dict[str, int]) -> Any:
    return evaluate(p, values, sizes, [name])[name]


def closed(p: Program, directions: dict[str, Tensor]) -> Program:
    """The program whose loss is the inner product of the gradients with directions."""
    total = Tensor("product")
    rows = []
    for name, tensor in directions.items():
        over = tuple(Index.over(f"q{k}", extent) for k, extent in enumerate(tensor.shape))
        at = tuple(i.symbol for i in over)
        rows.append(Equation(total.at(()), tensor.at(at) * p.tensor(p.gradients[name]).at(at), over, numbers=(900,)))
    return replace(p, tensors=(*p.tensors, total, *directions.values()), equations=(*p.equations, *rows), loss="product")


# ---- meaning -----------------------------------------------------------------------------------------------------------


def test_law_1_an_entry_that_needs_itself_is_refused() -> None:
    p = program("x[t] = tanh(y[t])\ny[t] = 2*x[t]\nloss = sum(x[t], over=t)", states={"x": "T", "y": "T"}, sizes={"T": None})
    with pytest.raises(ProgramError, match=r"the entry x\[0\] depends on itself"):
        evaluate(p, {}, {"T": 2}, ["loss"])
    with pytest.raises(ProgramError, match=r"a cyclic definition: .*x.* with no shift on any axis"):
        check(p)


def test_law_2_a_write_outside_the_bounds_does_not_happen() -> None:
    p = program("y[t+1] = 2*x[t]\nloss = sum(y[t], over=t)", inputs={"x": "T"}, states={"y": "T"}, sizes={"T": None})
    np.testing.assert_array_equal(number(p, "y", {"x": np.array([1.0, 2.0, 3.0])}, {"T": 3}), [0, 2, 4])


@pytest.mark.parametrize("score", [800.0, 89.0])
def test_3_a_masked_score_leaves_no_trace(score: float) -> None:
    p = program(
        """
m[t] = max((k <= t)*s[t,k], over=k)
z[t] = sum((k <= t)*exp(s[t,k]-m[t]), over=k)
loss = sum(log(z[t]), over=t)
""",
        {"s": "T,T"},
        sizes={"T": None},
    )
    values = {"s": np.where(np.tri(3) > 0, 0.1, score)}
    found = gradients_of(gradient(p), values, {"T": 3}, ["s"])
    assert np.isfinite(found["loss"])
    assert np.all(np.isfinite(found["s"]))
    assert np.all(found["s"][np.tri(3) == 0] == 0)
    _, rewritten = differentiated(p)
    assert_same(gradient(p), rewritten, {"T": 3}, **values)


def test_3_guards_of_logarithms_and_exponentials() -> None:
    text = "loss = sum((n < len[t])*log(p[t,n]), over=(t,n)) + sum((x[n] <= 0)*exp(x[n]), over=n)"
    p = program(text, {"p": "T,N", "x": "N"}, labels={"len": ("T", "N+1")}, sizes={"T": None, "N": None})
    values = {"p": np.array([[0.5, 0.0], [0.25, 0.5]]), "x": np.array([-1.0, 900.0]), "len": np.array([1, 2])}
    found = gradients_of(gradient(p), values, {"T": 2, "N": 2}, ["p", "x"])
    np.testing.assert_allclose(found["p"], [[2, 0], [4, 2]])
    np.testing.assert_allclose(found["x"], [np.exp(-1), 0])


def test_4_a_maximum_with_padding_starts_at_minus_infinity() -> None:
    p = program(
        "y[t] = max((0 <= t+k-1)*(t+k-1 < T)*x[t+k-1], over=k)\nloss = sum(y[t], over=t)",
        {"x": "T"},
        sizes={"T": None},
        ranges={"k": 3, "t": "T"},
    )
    x = np.array([-1.0, -2.0, -3.0, -4.0])
    np.testing.assert_array_equal(number(p, "y", {"x": x}, {"T": 4}), [-1, -1, -2, -3])
    np.testing.assert_array_equal(gradients_of(gradient(p), {"x": x}, {"T": 4}, ["x"])["x"], [2, 1, 1, 0])


def test_4_a_maximum_over_nothing_is_0_and_ties_go_to_the_first() -> None:
    p = program(
        "y[n] = max((t < len[n])*x[t,n], over=t)\nloss = sum(w[n]*y[n], over=n)",
        {"x": "T,N"},
        {"w": "N"},
        labels={"len": ("N", "T+1")},
        sizes={"T": None, "N": None},
    )
    values = {"x": np.array([[-5.0, 2.0], [-6.0, 2.0]]), "len": np.array([0, 2]), "w": np.array([3.0, 4.0])}
    np.testing.assert_array_equal(number(p, "y", values, {"T": 2, "N": 2}), [0, 2])
    np.testing.assert_array_equal(gradients_of(gradient(p), values, {"T": 2, "N": 2}, ["x"])["x"], [[0, 4], [0, 0]])


def test_5_staging_a_function_with_f_of_0_not_0_changes_the_border() -> None:
    inline = program("y[t] = exp(x[t-1])\nloss = sum(y[t], over=t)", {"x": "T"}, sizes={"T": None}, ranges={"t": "T"})
    staged = program(
        "e[t] = exp(x[t])\ny[t] = e[t-1]\nloss = sum(y[t], over=t)", {"x": "T"}, sizes={"T": None}, ranges={"t": "T"}
    )
    x = np.array([0.5, 0.25])
    assert number(inline, "y", {"x": x}, {"T": 2})[0] == 1
    assert number(staged, "y", {"x": x}, {"T": 2})[0] == 0


def test_6_the_domain_of_an_adjoint_is_that_of_its_equation() -> None:
    """w * exp(h[t]) over t in [0,3) with h = ln 3: the slope is 9; over the extended range it would be 10."""
    p = program("h[t+1] = w*exp(g[t])\nloss = sum(h[t], over=t)", {"w": "", "g": "T"}, states={"h": "T+1"}, sizes={"T": None})
    values = {"w": 1.0, "g": np.full(3, np.log(3.0))}
    plain, rewritten = differentiated(p)
    for adjoint_program in (plain, rewritten):
        assert gradients_of(adjoint_program, values, {"T": 3}, ["w"])["w"] == pytest.approx(9)


def test_7_each_term_sums_over_its_own_missing_indices() -> None:
    p = program(
        "a[i] = W[i,j]*x[j] + b[i]\nloss = sum(a[i], over=i)", {"W": "I,J", "b": "I"}, {"x": "J"}, sizes={"I": None, "J": None}
    )
    values = {"W": np.zeros((2, 3)), "x": np.ones(3), "b": np.array([1.0, 2.0])}
    np.testing.assert_array_equal(number(p, "a", values, {"I": 2, "J": 3}), [1, 2])


def test_7_a_missing_index_inside_a_function_shows_both_readings() -> None:
    both = "sum(tanh(W[i,j]*x[j]), over=j) to sum outside, or tanh(sum(W[i,j]*x[j], over=j)) to sum inside"
    with pytest.raises(EquationError, match=rf"(?s)ambiguous.*{re.escape(both)}\n"):
        program("a[i] = tanh(W[i,j]*x[j])", {"W": "I,J"}, {"x": "J"}, sizes={"I": None, "J": None})


def test_8_extents_that_differ_are_an_error() -> None:
    with pytest.raises(EquationError, match=r"index 'i' is used at two extents: N .* and M"):
        program("y[i] = x[i]\nloss = sum(y[i], over=i)", {"x": "M"}, states={"y": "N"}, sizes={"N": None, "M": None})


def test_8_an_index_without_a_range_is_an_error() -> None:
    with pytest.raises(EquationError, match="index 'p' has no range"):
        program("y[u] = x[2*u+p]", {"x": "M"}, states={"y": "N"}, sizes={"N": None, "M": None})


def test_8_a_quotient_by_a_read_that_may_be_out_of_bounds_is_an_error() -> None:
    p = program("y[t] = x[t]/s[t-1]\nloss = sum(y[t], over=t)", {"x": "T", "s": "T"}, sizes={"T": None})
    with pytest.raises(ProgramError, match=r"s\[t - 1\] may be out of bounds.*guard the term"):
        check(p)
    check(program("y[t] = (t > 0)*(x[t]/s[t-1])\nloss = sum(y[t], over=t)", {"x": "T", "s": "T"}, sizes={"T": None}))


def test_9_lengths_may_be_0_or_T_and_a_reversed_read_leaves_its_range_on_purpose() -> None:
    p = program(
        "y[t,n] = x[len[n]-1-t,n]\nloss = sum(y[t,n]*w[t,n], over=(t,n))",
        {"x": "T,N"},
        {"w": "T,N"},
        labels={"len": ("N", "T+1")},
        sizes={"T": None, "N": None},
        ranges={"t": "T"},
    )
    values = {"x": np.arange(1.0, 10).reshape(3, 3), "w": np.arange(1.0, 10).reshape(3, 3), "len": np.array([0, 2, 3])}
    np.testing.assert_array_equal(number(p, "y", values, {"T": 3, "N": 3}), [[0, 5, 9], [0, 2, 6], [0, 0, 3]])
    found = gradients_of(differentiated(p)[1], values, {"T": 3, "N": 3}, ["x"])["x"]
    np.testing.assert_array_equal(found, [[0, 5, 9], [0, 2, 6], [0, 0, 3]])


def test_9_an_ignored_label_is_nowhere() -> None:
    p = program(
        "loss = sum((y[n] != -100)*x[n,y[n]], over=n) + sum(x[n,y[n]], over=n)",
        {"x": "N,C"},
        labels={"y": ("N", "C")},
        ignore={"y": -100},
        sizes={"N": None, "C": None},
    )
    values = {"x": np.array([[1.0, 2.0], [4.0, 8.0]]), "y": np.array([-100, 1])}
    found = gradients_of(differentiated(p)[1], values, {"N": 2, "C": 2}, ["x"])
    assert found["loss"] == 16
    np.testing.assert_array_equal(found["x"], [[0, 0], [0, 2]])


def test_9_a_label_read_out_of_bounds_is_not_class_0() -> None:
    p = program(
        "y[r] = x[lab[r-1]]\nloss = sum(y[r], over=r)",
        {"x": "C"},
        labels={"lab": ("R", "C")},
        sizes={"R": None, "C": None},
        ranges={"r": "R"},
    )
    values = {"x": np.array([7.0, 11.0]), "lab": np.array([1, 0])}
    np.testing.assert_array_equal(number(p, "y", values, {"R": 2, "C": 2}), [0, 11])


# ---- differentiation ---------------------------------------------------------------------------------------------------


def test_1_a_second_derivative_has_names_of_its_own() -> None:
    p = program("loss = sum(w[i]*x[i]**2, over=i)", {"w": "I", "x": "I"}, sizes={"I": None})
    first = gradient(p)
    v = Tensor("v", (size("I"),), Role.INPUT)
    second = gradient(closed(first, {"x": v}), ["w", "x"])
    assert len({t.name for t in second.tensors}) == len(second.tensors)
    values = {"w": np.array([1.0, 2.0, 3.0]), "x": np.array([0.5, -1.0, 2.0]), "v": np.array([1.0, 10.0, 100.0])}
    found = gradients_of(check(second), values, {"I": 3}, ["w", "x"])
    np.testing.assert_allclose(found["w"], 2 * values["x"] * values["v"])
    np.testing.assert_allclose(found["x"], 2 * values["w"] * values["v"])


def test_1_reverse_over_reverse_and_forward_over_reverse_agree_through_a_recurrence() -> None:
    p = apply(rnn(), "forward")[0]
    names = [t.name for t in p.parameters]
    values = values_for(p, RNN_SIZES)
    rng = np.random.default_rng(7)
    direction = {n: rng.standard_normal(np.shape(values[n])) for n in names}
    first = gradient(p)
    twice = gradient(closed(first, {n: Tensor(f"v_{n}", p.tensor(n).shape, Role.INPUT) for n in names}), names)
    twice = check(apply(twice, "backward")[0])
    reverse = gradients_of(twice, {**values, **{f"v_{n}": d for n, d in direction.items()}}, RNN_SIZES, names)
    over = tangent(first, names)
    wanted = {n: over.tangents[over.gradients[n]] for n in names}
    over = check(apply(over, "backward")[0])
    forward = evaluate(over, {**values, **{over.tangents[n]: d for n, d in direction.items()}}, RNN_SIZES, wanted.values())
    step = 1e-5
    ends = [
        gradients_of(first, {**values, **{n: values[n] + s * step * direction[n] for n in names}}, RNN_SIZES, names)
        for s in (1, -1)
    ]
    for n in names:
        np.testing.assert_allclose(reverse[n], forward[wanted[n]], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(reverse[n], (ends[0][n] - ends[1][n]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_10_a_shift_that_is_constant_for_all_its_reads() -> None:
    """Log-sum-exp of (0, 1, 2): softmax is (.09, .24, .67); with one read of m not constant it would be (.09, .24, 1.67)."""
    p = program("m = max(z[k], over=k)\ns = sum(exp(z[k]-m), over=k)\nloss = log(s) + m", {"z": "K"}, sizes={"K": None})
    marked = replace(p, tensors=tuple(replace(t, constant="log-sum-exp") if t.name == "m" else t for t in p.tensors))
    for q in (p, marked):
        found = gradients_of(gradient(q), {"z": np.array([0.0, 1.0, 2.0])}, {"K": 3}, ["z"])["z"]
        expected = np.exp([0.0, 1, 2]) / np.exp([0.0, 1, 2]).sum()
        # Marked, d loss/dm is left out for the explicit + m too: the two contributions through m cancel.
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_10_truncated_backpropagation_agrees_with_perturbation_of_the_frozen_program() -> None:
    p = program(
        "h[t] = tanh(w*h[t-1] + x[t])\nh[-1] = c\nloss = sum(h[t]**2, over=t)",
        {"w": ""},
        {"x": "T", "c": ""},
        states={"h": ("T", ((1, 0),))},
        sizes={"T": None},
    )
    values = {"w": 0.7, "x": np.array([0.1, -0.4, 0.9]), "c": 0.8}
    found = gradients_of(gradient(p, ["w"]), values, {"T": 3}, ["w"])["w"]
    np.testing.assert_allclose(found, perturbed(p, values, {"T": 3}, "w"), rtol=1e-8)


def test_12_an_output_off_the_path_and_a_parameter_that_nothing_uses() -> None:
    p = program(
        "a[i] = W[i]*x[i]\nextra[i] = exp(U[i])\nloss = sum(a[i]**2, over=i)",
        {"W": "I", "U": "I", "unused": "I"},
        {"x": "I"},
        sizes={"I": None},
        outputs=["extra"],
    )
    plain, rewritten = differentiated(p)
    for q in (plain, rewritten):
        found = gradients_of(q, values_for(p, {"I": 3}), {"I": 3}, ["W", "U", "unused"])
        assert not np.any(found["U"])
        assert not np.any(found["unused"])
        assert np.all(found["W"] != 0)
        assert not any(e.name == q.gradients["U"] for e in q.equations)


def test_21_derivatives_are_taken_once_for_each_shape_of_body() -> None:
    """468 equations, three reads each, quotient bodies: 12 blocks of 39 lines in which only three shapes occur."""
    shapes = ["{y}[i] = {x}[i]*b[i]/(1 + {x}[i]**2)", "{y}[i] = tanh({x}[i])*b[i] + c[i]*{x}[i]", "{y}[i] = c[i]/(2 + {x}[i]**2)"]
    lines, previous = [], "a"
    for k in range(12 * 39):
        lines.append(shapes[k % 3].format(y=f"y{k}", x=previous))
        previous = f"y{k}"
    lines.append(f"loss = sum({previous}[i], over=i)")
    p = program("\n".join(lines), {"a": "I", "b": "I", "c": "I"}, sizes={"I": None})
    adjoint._partial.cache_clear()
    gradient(p)
    info = adjoint._partial.cache_info()
    assert info.hits + info.misses > 1000
    assert info.misses < 20


# ---- functions ---------------------------------------------------------------------------------------------------------


def slope(text: str, x: float) -> float:
    p = program(f"loss = {text}", {"x": ""})
    return float(gradients_of(gradient(p), {"x": x}, {}, ["x"])["x"])


@pytest.mark.parametrize(
    ("text", "x", "expected"),
    [
        ("relu(x)", 0.0, 0.0),
        ("absolute(x)", 0.0, 0.0),
        ("max2(x, 0)", 0.0, 1.0),
        ("max2(0, x)", 0.0, 0.0),
        ("min2(x, 0)", 0.0, 1.0),
        ("min2(0, x)", 0.0, 0.0),
        ("clip(x, -1, 1)", 1.0, 1.0),
        ("min2(max2(x, -1), 1)", 1.0, 1.0),
    ],
)
def test_22_kinks_have_tabled_slopes(text: str, x: float, expected: float) -> None:
    assert slope(text, x) == expected


def test_22_arguments_of_our_functions_keep_their_order() -> None:
    a, b = read("a"), read("b")
    assert max2(a, b) != max2(b, a)
    assert sp.Max(a, b) == sp.Max(b, a)  # why max2 is not SymPy's
    assert not relu(a).has(sp.Heaviside)
    assert clip(a, -1, 1).diff(a) is not None


def test_every_derivative_of_the_table_agrees_with_a_difference() -> None:
    """By the complex step where the function is analytic, else by central differences, away from kinks."""
    for name, row in FUNCTIONS.items():
        arguments = [0.7, -0.3, 0.4][: row.arity]
        if name == "clip":
            arguments = [0.2, -0.5, 0.9]
        names = [f"x{k}" for k in range(row.arity)]
        p = program(f"loss = {name}({', '.join(names)})", dict.fromkeys(names, ""))
        values = dict(zip(names, arguments, strict=True))
        found = gradients_of(gradient(p), values, {}, names)
        for x in names:
            if row.analytic:
                moved = {**values, x: values[x] + 1e-30j}
                expected = complex(evaluate(p, moved, {}, ["loss"])["loss"]).imag / 1e-30
            else:
                expected = float(perturbed(p, values, {}, x))
            assert float(found[x]) == pytest.approx(expected, rel=1e-8, abs=1e-12), (name, x)


# ---- traps of SymPy ----------------------------------------------------------------------------------------------------


def test_a_tensor_may_have_the_name_of_an_index() -> None:
    p = program(
        "i[t] = sigmoid(x[t])\nt[i] = i[i+0]*x[i]\nloss = sum(t[i], over=i)",
        {"x": "T"},
        sizes={"T": None},
        states={"i": "T", "t": "T"},
    )
    plain, rewritten = differentiated(p)
    assert_same(plain, rewritten, {"T": 3})
    values = values_for(p, {"T": 3})
    np.testing.assert_allclose(gradients_of(plain, values, {"T": 3}, ["x"])["x"], perturbed(p, values, {"T": 3}, "x"), rtol=1e-7)


def test_the_root_of_a_square_is_not_simplified_away() -> None:
    x = read("x")
    assert partial(sp.sqrt(x**2), x) == sp.sqrt(x**2) / x


def test_an_absolute_value_has_a_real_derivative() -> None:
    x = read("x")
    assert not partial(FUNCTIONS["absolute"].symbol(x) * x, x).has(sp.re, sp.im)


def test_substitution_never_captures_a_bound_index() -> None:
    """d/dx[i] of sum_i x[i]*x[j]: reductions live on the equation, so that no Sum can capture an index."""
    p = program("y[j] = sum(x[i]*x[j], over=i)\nloss = sum(w[j]*y[j], over=j)", {"x": "I"}, {"w": "I"}, sizes={"I": None})
    values = values_for(p, {"I": 3})
    plain, rewritten = differentiated(p)
    expected = values["w"] * values["x"].sum() + (values["w"] * values["x"]).sum()
    for q in (plain, rewritten):
        np.testing.assert_allclose(gradients_of(q, values, {"I": 3}, ["x"])["x"], expected, rtol=1e-12)


# ---- 11: connectionist temporal classification -------------------------------------------------------------------------

CTC = """
w[t,s] = sum((t > 0)*(k <= s)*(k <= skip[s])*exp(al[t-1,s-k]), over=k)
al[t,s] = (t > 0)*(log(w[t,s]) + lp[t,ext[s]])
al[t,s] += (t == 0)*(s < 2)*lp[t,ext[s]]
al[t,s] += (t == 0)*(s >= 2)*(-1e30)
end = sum((r >= S-2)*exp(al[T-1,r]), over=r)
loss = -log(end)
"""


def ctc_by_enumeration(lp: np.ndarray, labels: list[int], blank: int) -> float:
    total = 0.0
    for path in itertools.product(range(lp.shape[1]), repeat=lp.shape[0]):
        collapsed = [c for k, c in enumerate(path) if c != blank and (k == 0 or path[k - 1] != c)]
        if collapsed == labels:
            total += np.exp(sum(lp[t, c] for t, c in enumerate(path)))
    return -np.log(total)


def ctc_program() -> Program:
    return program(
        CTC,
        {"lp": "T,C"},
        labels={"ext": ("S", "C"), "skip": ("S", "3")},
        states={"al": "T,S"},
        sizes={"T": None, "S": None, "C": None},
        ranges={"k": 3, "r": "S", "t": "T", "s": "S"},
    )


def test_11_ctc_in_the_log_domain_agrees_with_all_paths() -> None:
    labels, blank = [1, 2], 0
    ext = [0, 1, 0, 2, 0]
    skip = [1, 1, 1, 2, 1]
    z = np.random.default_rng(3).standard_normal((5, 3))
    lp = z - np.log(np.exp(z).sum(1, keepdims=True))
    values = {"lp": lp, "ext": np.array(ext), "skip": np.array(skip)}
    sizes = {"T": 5, "S": 5, "C": 3}
    _, rewritten = differentiated(ctc_program())
    found = gradients_of(check(rewritten), values, sizes, ["lp"])
    assert found["loss"] == pytest.approx(ctc_by_enumeration(lp, labels, blank), rel=1e-12)
    for t, c in [(0, 1), (2, 0), (4, 2)]:
        ends = []
        for sign in (1, -1):
            moved = lp.copy()
            moved[t, c] += sign * 1e-6
            ends.append(ctc_by_enumeration(moved, labels, blank))
        assert found["lp"][t, c] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-7, abs=1e-9)


def test_11_ctc_stays_finite_under_a_confident_blank() -> None:
    """Twenty labels, 60 steps, blank at .999: a product of probabilities of about 1e-60 and below."""
    count, steps = 20, 60
    ext = [c for k in range(count) for c in (0, 1 + k % 2)] + [0]
    skip = [0] + [1 if s % 2 == 0 or s < 2 or ext[s] == ext[s - 2] else 2 for s in range(1, len(ext))]
    lp = np.log(np.tile([0.999, 0.0005, 0.0005], (steps, 1)))
    values = {"lp": lp, "ext": np.array(ext), "skip": np.array(skip)}
    _, rewritten = differentiated(ctc_program())
    found = gradients_of(rewritten, values, {"T": steps, "S": len(ext), "C": 3}, ["lp"])
    assert 100 < found["loss"] < 200
    assert np.all(np.isfinite(found["lp"]))
    np.testing.assert_allclose(-found["lp"].sum(1), 1, rtol=1e-9)  # posteriors of each step


def test_index_symbols_and_sizes_are_three_namespaces() -> None:
    assert index("N") != size("N")
    parsed = parse("y[N_] = x[N_]", Scope("", {"x": Tensor("x", (size("N"),))}))
    assert parsed.equations[0].indices[0].upper == size("N")
