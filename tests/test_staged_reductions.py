"""A reduction inside an expression is a tensor of its own, and gives its ranges to the line in which it stands."""

from __future__ import annotations

import pytest

from symbolic.check import check
from symbolic.program import size
from tests.rewriting import assert_same, differentiated, program


@pytest.mark.parametrize(
    "body",
    [
        "tanh(sum(W[i,j]*x[j], over=j))",
        "log(sum(exp(W[i,j]), over=j))",
        "mean(W[i,j], over=j)**2",
        "-max(W[i,j], over=j) + 2*max(W[i,j]*x[j], over=j)",
        "exp(tanh(sum(W[i,j]*x[j], over=j)))",
        "tanh((i < 2)*sum(W[i,j], over=j))",
        "tanh(sum(W[i,j]*tanh(sum(W[k,j]*x[j], over=j)), over=(j, k)))",
    ],
)
def test_a_staged_reduction_gives_the_shape_of_what_it_defines(body: str) -> None:
    p = program(
        f"y[i] = {body}\nloss = sum(y[i]**2, over=i)", {"W": "I,J", "x": "J"}, sizes={"I": None, "J": None}
    )
    assert check(p).tensor("y").shape == (size("I"),)
    assert_same(*differentiated(p), {"I": 3, "J": 2})


def test_an_index_of_a_staged_reduction_alone_is_summed_over_its_axis() -> None:
    p = program("y = sum(log(sum(exp(W[i,j]), over=j)), over=i)\nloss = y", {"W": "I,J"}, sizes={"I": None, "J": None})
    assert_same(*differentiated(check(p)), {"I": 3, "J": 2})
