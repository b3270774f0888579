"""The checker of the IR refuses each kind of bad program, and passes every program of the other tests after every pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sympy as sp

from symbolic.adjoint import gradient
from symbolic.check import check
from symbolic.errors import ProgramError
from symbolic.functions import gt
from symbolic.program import (
    Equation,
    Index,
    Kind,
    Program,
    Reduction,
    Role,
    Tensor,
    TensorName,
    index,
    read,
    size,
)
from symbolic.rewrite import RULES, apply
from symbolic.tangent import tangent
from tests.rewriting import program

N, M = size("N"), size("M")
n, m = index("n"), index("m")
X = Tensor("x", (N,), Role.INPUT)
Y = Tensor("y", (N,))
LABEL = Tensor("tok", (N,), Role.INPUT, Kind.INDEX, below=N)
LOSS = Tensor("loss")
OVER = (Index.over(n, N),)
GOOD = Equation(Y[n], sp.tanh(X[n]), OVER, numbers=(1,))
TOTAL = Equation(LOSS.at(()), Y[n], OVER, numbers=(2,))


def small(*equations: Equation, tensors: tuple[Tensor, ...] = (X, Y, LABEL, LOSS), **more: Any) -> Program:
    options: dict[str, Any] = {"sizes": {"N": None}, "loss": "loss", **more}
    return Program("small", tensors, equations or (GOOD, TOTAL), **options)


def test_a_good_program_passes_and_comes_back() -> None:
    p = small()
    assert check(p) is p


BAD: dict[str, tuple[Callable[[], Program], str]] = {
    "an unknown tensor": (lambda: small(replace(GOOD, body=read("xx", [n])), TOTAL), r"no tensor named 'xx'; did you mean 'x'\?"),
    "an unknown target": (lambda: small(replace(GOOD, target=read("q", [n])), TOTAL), "no tensor named 'q'"),
    "too many subscripts": (
        lambda: small(replace(GOOD, body=X[n, n]), TOTAL),
        r"'x' has 1 axes, found 2 subscripts in x\[n, n\]",
    ),
    "an index without a range": (lambda: small(replace(GOOD, body=X[n] * X[m]), TOTAL), "index 'm' has no range"),
    "an index of a guard without a range": (lambda: small(replace(GOOD, guards=(m < n,)), TOTAL), "index 'm' has no range"),
    "an index declared twice": (lambda: small(replace(GOOD, indices=OVER * 2), TOTAL), "an index is declared twice"),
    "an unknown size": (
        lambda: small(replace(GOOD, indices=(Index.over(n, M),)), TOTAL),
        r"unknown size 'M'; did you mean 'N'|unknown size 'M'",
    ),
    "a range that hangs on an index": (
        lambda: small(replace(GOOD, indices=(*OVER, Index.over(m, n))), TOTAL),
        "expected an extent of sizes and integers, found 'n'",
    ),
    "a product of indices as a subscript": (lambda: small(replace(GOOD, body=X[n * n]), TOTAL), "expected an affine subscript"),
    "a real tensor in a subscript": (
        lambda: small(replace(GOOD, body=X[X[n]]), TOTAL),
        "the real tensor 'x' stands in a subscript",
    ),
    "an index tensor read as real": (
        lambda: small(replace(GOOD, body=read("tok", [n])), TOTAL),
        "'tok' holds index numbers and is read as the other kind",
    ),
    "an undefined function": (lambda: small(replace(GOOD, body=X[n] * sp.Function("f")(n)), TOTAL), "'f' is not in the table"),
    "a foreign function": (lambda: small(replace(GOOD, body=sp.Max(X[n], 0)), TOTAL), "'Max' is not in the table of functions"),
    "a step function": (lambda: small(replace(GOOD, body=sp.Heaviside(X[n])), TOTAL), "'Heaviside' is not in the table"),
    "a sum object": (lambda: small(replace(GOOD, body=sp.Sum(X[n], (n, 0, N))), TOTAL), "'Sum' is not in the table"),
    "an infinite number": (lambda: small(replace(GOOD, body=sp.oo * X[n]), TOTAL), "expected finite numbers, found oo"),
    "a loose symbol": (
        lambda: small(replace(GOOD, body=sp.Symbol("z") * X[n]), TOTAL),
        "'Symbol' is not in the table|expected a scalar",
    ),
    "a tensor label as a number": (lambda: small(replace(GOOD, body=TensorName("x") * X[n]), TOTAL), "TensorName"),
    "a guard that is no comparison": (
        lambda: small(replace(GOOD, guards=(gt(X[n], 0),)), TOTAL),
        "expected guards that are comparisons",
    ),
    "two reductions in one target": (
        lambda: small(GOOD, replace(TOTAL, reduction=Reduction.MAX), TOTAL),
        r"'loss' is reduced in 2 ways \(max and sum\)",
    ),
    "a sum into an index tensor": (
        lambda: small(
            GOOD,
            TOTAL,
            Equation(Tensor("i", (N,), kind=Kind.INDEX)[n], X[n], OVER),
            tensors=(X, Y, LOSS, Tensor("i", (N,), kind=Kind.INDEX)),
        ),
        "only the argument of a maximum writes such a tensor",
    ),
    "an argument of a maximum in a real tensor": (
        lambda: small(replace(GOOD, reduction=Reduction.ARGMAX, component=n), TOTAL),
        "the argument of a maximum is one of its reduced",
    ),
    "a component of a sum": (
        lambda: small(replace(GOOD, component=n), TOTAL),
        "a component belongs to the argument of a maximum alone",
    ),
    "an input that is written": (
        lambda: small(Equation(X[n], Y[n], OVER), GOOD, TOTAL),
        "of role input; it is given, no equation may write it",
    ),
    "two tensors of one name": (lambda: small(tensors=(X, Y, Y, LOSS)), "two tensors are named 'y'"),
    "an index input without a bound": (
        lambda: small(tensors=(X, Y, LOSS, Tensor("tok", (N,), Role.INPUT, Kind.INDEX))),
        "needs a bound",
    ),
    "a margin of the wrong rank": (
        lambda: small(tensors=(X, replace(Y, margin=((1, 0), (0, 0))), LOSS)),
        r"expected a margin \(before, after\)",
    ),
    "a negative extent": (
        lambda: small(tensors=(X, Y, LOSS, Tensor("q", (sp.Integer(-1),)))),
        "expected extents of at least 0, found -1",
    ),
    "a loss with axes": (lambda: small(loss="y"), "expected a real loss without axes"),
    "a loss that is not there": (lambda: small(loss="cost"), "the loss: no tensor named 'cost'"),
    "an output that is not there": (lambda: small(outputs=("z",)), "an output: no tensor named 'z'"),
    "a link to no input": (lambda: small(links={"y": "loss"}), "a link leads from an output to an input of its shape"),
    "an adjoint of another shape": (lambda: small(gradients={"x": "loss"}), "expected the adjoint of x.* to have its shape"),
    "a bare index beyond its axis": (
        lambda: small(
            replace(GOOD, body=read("w", [n])),
            TOTAL,
            tensors=(X, Y, LOSS, Tensor("w", (M,), Role.INPUT)),
            sizes={"N": None, "M": None},
        ),
        r"index 'n' runs over 0\.\.N - 1 and stands bare in w\[n\], whose axis 0 is 0\.\.M - 1",
    ),
    "a quotient by a read beyond the border": (
        lambda: small(replace(GOOD, body=X[n] / X[n - 1]), TOTAL),
        r"x\[n - 1\] may be out of bounds",
    ),
    "a logarithm of a read beyond the border": (
        lambda: small(replace(GOOD, body=sp.log(X[n + 1])), TOTAL),
        r"x\[n \+ 1\] may be out of bounds",
    ),
    "a cycle without a shift": (
        lambda: small(replace(GOOD, body=sp.tanh(Y[n])), TOTAL),
        "a cyclic definition: y <- y with no shift on any axis",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_program_is_refused(name: str) -> None:
    build, message = BAD[name]
    with pytest.raises(ProgramError, match=message):
        check(build())


def test_a_fault_shows_the_equation_and_its_place_in_the_text() -> None:
    p = program("y[t] = x[t]/s[t-1]\nloss = sum(y[t], over=t)", {"x": "T", "s": "T"}, sizes={"T": None})
    with pytest.raises(ProgramError) as caught:
        check(p)
    assert str(caught.value) == (
        "test: <equations>:1:1: s[t - 1] may be out of bounds, where it is 0 and the term is not finite; guard the term\n"
        "    (1) y[t] += x[t]/s[t - 1]    for t=0..T - 1"
    )


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("tok[t]*x[t]", r"tok\[t\] may be -1, which is ignored and no value; guard the term: \(tok\[t\] != -1\)\*"),
        ("where(tok[t] > 0, x[t], 0)", r"tok\[t\] may be -1"),
        ("(ix[t-1] + 1)*x[t]", r"ix\[t - 1\] may be out of bounds, where it has no value; guard the term"),
        ("(tok[t] != -1)*tok[t]*x[t]", ""),
        ("(t > 0)*(ix[t-1] + 1)*x[t]", ""),
        ("(tok[t] > 0)*x[t]", ""),
        ("ix[t]*x[t]", ""),
    ],
)
def test_what_is_nowhere_has_no_value(term: str, message: str) -> None:
    p = program(
        f"y[t] = {term}\nloss = sum(y[t], over=t)", {"x": "T"}, labels={"tok": ("T", 3), "ix": ("T", "T")}, ignore={"tok": -1},
        sizes={"T": None},
    )
    if not message:
        check(p)
        return
    with pytest.raises(ProgramError, match=message):
        check(p)


def test_a_shifted_cycle_is_the_schedulers_to_judge() -> None:
    p = program("a[t] = h[t-1]\nh[t] = tanh(a[t])\nloss = sum(h[t], over=t)", states={"h": "T", "a": "T"}, sizes={"T": None})
    check(p)


def test_the_program_is_legal_after_every_pass() -> None:
    p = program(
        """
a[t,i] = W[i,k]*x[t,k] + U[i,j]*h[t-1,j]
h[t,i] = tanh(a[t,i])
m[i] = max(h[t,i], over=t)
p[i] = exp(m[i])/sum(exp(m[j]), over=j)
loss = -log(p[y])
""",
        {"W": "H,D", "U": "H,H"},
        {"x": "T,D"},
        labels={"y": ("", "H")},
        states={"h": "T,H"},
        sizes={"T": None, "H": None, "D": None},
    )
    check(p)
    names = {rule.name for rule in RULES}
    for rule in RULES:
        if rule.phase == "forward":
            p = check(apply(p, "forward", names - {rule.name})[0])
    q = check(gradient(p))
    check(tangent(q))
    for rule in RULES:
        if rule.phase == "backward":
            q = check(apply(q, "backward", names - {rule.name})[0])
