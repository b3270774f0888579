"""The Jacobian of one step of a recurrence: its text for known cells, and its numbers against the complex step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import symbolic
from codegen.text import text
from codegen.trial import choose_sizes, draw, shape_of
from symbolic.interpreter import evaluate
from symbolic.jacobian import Block, StepJacobian, step_jacobian, step_jacobians, with_blocks
from symbolic.program import Names, Program, Role, tensor_of
from symbolic.recurrence import recurrences
from tests.conftest import ROOT

SIZES = {"T": 4, "N": 2}
H = 1e-30


def recurrent(kind: str, **options: Any) -> dict[str, Any]:
    width = "2*H" if options.get("direction") == "both" else "H"
    return {"name": "small", "dtype": "float64", "sizes": {"D": 2, "H": 3},
            "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", width]},
            "layers": [{"name": "r", "type": kind, "units": "H", **options}], "loss": {"type": "mse", "target": "y"}}


def own(equations: str, parameters: dict[str, Any], states: dict[str, Any], **more: Any) -> dict[str, Any]:
    layer = {"name": "r", "type": "equations", "parameters": parameters, "states": states, "equations": equations, "output": "h",
             **more}
    return {"name": "own", "dtype": "float64", "sizes": {"D": 2, "H": 3}, "inputs": {"x": ["T", "N", "D"], "y": ["T", "N", "H"]},
            "layers": [layer], "loss": {"type": "mse", "target": "y"}}


def shown(block: Block) -> dict[str, str]:
    """``dh/dh[t-1] = ...`` of each term, without the layer's name."""
    terms = {}
    for term in block.terms:
        sums = "".join(f"sum_{i.name} " for i in term.sums)
        guards = "".join(f"[{text(g)}]" for g in term.guards)
        terms[text(term.coefficient).replace("r.", "")] = sums + guards
    return terms


def blocks_of(jacobian: StepJacobian) -> dict[str, Block]:
    return {f"{text(b.of)}/{text(b.by)}".replace("r.", ""): b for b in jacobian.blocks}


def test_elman() -> None:
    found = step_jacobian(symbolic.load(recurrent("rnn")).program())
    (block,) = found.blocks
    assert shown(block) == {"(1 - h[t,n,i]**2)*U[i,j]": ""}
    assert (text(block.of), text(block.by), found.lag(block), block.is_diagonal) == ("r.h[t,n,i]", "r.h[t-1,n,j]", 1, False)
    assert {text(b.by): shown(b) for b in found.direct} == {
        "r.W[i,k]": {"(1 - h[t,n,i]**2)*x[t,n,k]": ""},
        "r.U[i,j]": {"(1 - h[t,n,i]**2)*h[t-1,n,j]": ""},
        "r.b[i]": {"1 - h[t,n,i]**2": ""},
    }


def test_lstm_has_a_diagonal_and_the_gates() -> None:
    found = blocks_of(step_jacobian(symbolic.load(recurrent("lstm")).program()))
    assert list(found) == ["h[t,n,k]/h[t-1,n,j]", "h[t,n,k]/c[t-1,n,k]", "c[t,n,k]/h[t-1,n,j]", "c[t,n,k]/c[t-1,n,k]"]
    carousel = found["c[t,n,k]/c[t-1,n,k]"]
    assert carousel.is_diagonal
    assert shown(carousel) == {"f[t,n,k]": ""}
    assert shown(found["c[t,n,k]/h[t-1,n,j]"]) == {
        "(1 - f[t,n,k])*U[k+H,j]*c[t-1,n,k]*f[t,n,k]": "",
        "(1 - i[t,n,k])*U[k,j]*g[t,n,k]*i[t,n,k]": "",
        "(1 - g[t,n,k]**2)*U[k+2*H,j]*i[t,n,k]": "",
    }


def test_a_diagonal_beside_a_matrix_is_a_guard() -> None:
    (block,) = step_jacobian(symbolic.load(recurrent("gru")).program()).blocks
    assert shown(block)["z[t,n,k]"] == "[Eq(k, j)]"
    assert shown(block)["(1 - z[t,n,k])*(h[t-1,n,k] - g[t,n,k])*U[k+H,j]*z[t,n,k]"] == ""


def test_sums_inside_a_step_have_indices_of_their_own() -> None:
    (block,) = step_jacobian(symbolic.load(ROOT / "specs/minimal_gated_unit.yaml").program()).blocks
    (inner,) = (term for term in block.terms if term.sums)
    assert [i.name for i in inner.sums] == ["j_2"]
    assert "cell.Uf[j_2,j]*cell.Uh[i,j_2]" in text(inner.coefficient)


def test_two_lags_are_two_blocks() -> None:
    found = step_jacobian(symbolic.load(ROOT / "specs/second_order.yaml").program())
    assert [(found.lag(b), text(b.by)) for b in found.blocks] == [(1, "cell.h[t-1,n,j]"), (2, "cell.h[t-2,n,j]")]


def test_each_level_and_direction_is_a_recurrence() -> None:
    program = symbolic.load(recurrent("rnn", layers=2, direction="both")).program()
    found = step_jacobians(program)
    assert [j.recurrence.states for j in found] == [("r.h",), ("r.h_r",), ("r.h_2",), ("r.h_r_2",)]
    assert [j.lag(b) for j in found for b in j.blocks] == [1, -1, 1, -1]
    # The second level reads both directions of the first at this step, each through its part of W_2.
    below = {b.between[1]: shown(b) for b in found[2].inputs}
    assert list(below) == ["r.h", "r.h_r"]
    with pytest.raises(symbolic.ProgramError, match=r"^small: expected one recurrence to .* of, found r\.h, r\.h_r"):
        step_jacobian(program)


def test_without_a_recurrence_there_is_none() -> None:
    program = symbolic.load(ROOT / "specs/mlp.yaml").program()
    assert step_jacobians(program) == ()
    with pytest.raises(symbolic.ProgramError, match=r"^mlp: expected one recurrence to take the Jacobian of, found none$"):
        step_jacobian(program)


def test_a_state_at_no_fixed_distance_is_refused() -> None:
    spec = own("a[t,n,i] = W[i,k]*x[t,n,k] + sum((s < t)*h[s,n,i], over=s)\nh[t,n,i] = tanh(a[t,n,i]) + 0.1*h[t-1,n,i]",
               {"W": ["H", "D"]}, {"h": ["T", "N", "H"]})
    with pytest.raises(symbolic.ProgramError, match=r"r\.h is read at r\.h\[s.*no fixed number of steps"):
        step_jacobian(symbolic.load(spec).program())


# ---- numbers -----------------------------------------------------------------------------------------------------------

MODELS: dict[str, Any] = {
    "rnn": recurrent("rnn"),
    "rnn, relu": recurrent("rnn", activation="relu"),
    "lstm": recurrent("lstm", state="given"),
    "gru": recurrent("gru"),
    "gru, learned start": recurrent("gru", state="learned"),
    "reverse": recurrent("lstm", direction="reverse"),
    "two levels, both directions": recurrent("rnn", layers=2, direction="both"),
    "two levels": recurrent("lstm", layers=2),
    "minimal gated unit": ROOT / "specs/minimal_gated_unit.yaml",
    "leaky integrator": ROOT / "specs/leaky_integrator.yaml",
    "second order": ROOT / "specs/second_order.yaml",
    "convolution": own("a[t,l,c] = W[c,d]*x[t,l,d] + K[c,e,p]*h[t-1,l+p-1,e]\nh[t,l,c] = tanh(a[t,l,c])",
                       {"W": ["H", "D"], "K": ["H", "H", 3]}, {"h": ["T", "N", "H"]}, ranges={"p": 3}),
    "a sum over the batch": own(
        "k[t,l,c] = K[c,e]*h[t-1,l,e]\ns[t,l,m] = k[t,l,c]*k[t,m,c]\ne[t,l,m] = exp(s[t,l,m])\nz[t,l] = sum(e[t,l,m], over=m)\n"
        "v[t,l,c] = e[t,l,m]/z[t,l]*h[t-1,m,c]\na[t,l,c] = W[c,d]*x[t,l,d] + v[t,l,c]\nh[t,l,c] = tanh(a[t,l,c])",
        {"W": ["H", "D"], "K": ["H", "H"]}, {"h": ["T", "N", "H"]}, shapes={"k": ["T", "N", "H"], "s": ["T", "N", "N"]}),
    "packed, guarded, with a maximum": own(
        "u[t,n,i] = U[i,j]*h[t-1,n,j]\np[t,n,i+0] += tanh(u[t,n,i])\np[t,n,H+i] += (i > 0)*V[i]*h[t-1,n,i]*x[t,n,0]\n"
        "q[t,n,r] = P[r,s]*p[t,n,s]\nm[t,n] = max(q[t,n,r], over=r)\ne[t,n,i] = q[t,n,i+1] + W[i,k]*x[t,n,k]\n"
        "h[t,n,i] = sigmoid(e[t,n,i]) + m[t,n]*c[t-2,n,i]\nc[t,n,i] = 0.5*c[t-1,n,i] + h[t,n,i]",
        {"U": ["H", "H"], "V": ["H"], "P": ["2*H", "2*H"], "W": ["H", "D"]}, {"h": ["T", "N", "H"], "c": ["T", "N", "H"]},
        shapes={"u": ["T", "N", "H"], "p": ["T", "N", "2*H"]}),
}


def cut(program: Program, jacobian: StepJacobian) -> tuple[Program, dict[str, str]]:
    """The program with each state, where an earlier step is read, in an input of its own: steps no longer hang together."""
    names = Names.of(program)
    states = {s: names.fresh(f"before_{s}") for s in jacobian.recurrence.states}
    tensors = [*program.tensors, *(replace(program.tensor(s), name=n, role=Role.INPUT, margin=()) for s, n in states.items())]
    earlier = {b.by.indices[0] - b.of.indices[0] for b in jacobian.blocks}
    inside = set(jacobian.recurrence.tensors)
    equations = []
    for e in program.equations:
        rule = {r: next(t for t in tensors if t.name == states[tensor_of(r)]).at(r.indices) for r in e.reads
                if e.name in inside and tensor_of(r) in states and r.indices[0] - e.target.indices[0] in earlier}
        equations.append(replace(e, body=e.body.xreplace(rule)))
    return program.with_equations(equations, tensors), states


@pytest.mark.parametrize("name", list(MODELS))
def test_agrees_with_the_complex_step(name: str) -> None:
    program = symbolic.load(MODELS[name]).program()
    sizes = choose_sizes(program, SIZES)
    start = {t.name: np.random.default_rng(3).normal(0, 0.6, shape_of(t, sizes)) for t in program.parameters}
    values = draw(program, sizes, start, seed=1).values
    found = step_jacobians(program)
    assert found
    for jacobian in found:
        check(jacobian, program, values, sizes)


def check(jacobian: StepJacobian, program: Program, values: dict[str, Any], sizes: dict[str, int]) -> None:
    made, tensors = with_blocks(jacobian, jacobian.blocks + jacobian.direct)
    got = evaluate(made, values, sizes, tensors.values())
    halved, states = cut(program, jacobian)
    at = {**values, **{n: evaluate(program, values, sizes, [s])[s] for s, n in states.items()}}
    for block, tensor in tensors.items():
        of, by = block.between
        moved = states.get(by, by)
        matrix = got[tensor]
        lag = jacobian.lag(block)
        assert np.abs(matrix).max() > 1e-3
        for place in np.ndindex(*np.shape(at[moved])):
            nudge = np.zeros(np.shape(at[moved]), dtype=complex)
            nudge[place] = 1j * H
            slope = evaluate(halved, {**at, moved: at[moved] + nudge}, sizes, [of])[of].imag / H
            expected = np.zeros(slope.shape)
            for entry in np.ndindex(*matrix.shape):
                rule = {i.symbol: k for i, k in zip(block.indices, entry, strict=True)}
                where = tuple(int(part.xreplace(rule)) for part in block.by.indices)
                here = tuple(int(part.xreplace(rule)) for part in block.of.indices)
                if where == place:
                    expected[here] += matrix[entry]
            step = place[0] + lag if by in states else None
            if step is not None:  # one block holds one lag; other blocks tell of other steps
                if not 0 <= step < slope.shape[0]:
                    continue
                slope, expected = slope[step], expected[step]
            else:  # the start is cut off with the earlier steps
                kept = slice(2, None) if jacobian.lag(jacobian.blocks[0]) > 0 else slice(None, -2)
                slope, expected = slope[kept], expected[kept]
            assert slope == pytest.approx(expected, rel=1e-10, abs=1e-13), (of, by, place)


def test_a_wrong_block_would_be_seen() -> None:
    program = symbolic.load(recurrent("rnn")).program()
    (jacobian,) = step_jacobians(program)
    (block,) = jacobian.blocks
    wrong = replace(block, terms=tuple(replace(t, coefficient=1.01 * t.coefficient) for t in block.terms))
    sizes = choose_sizes(program, SIZES)
    values = draw(program, sizes, {t.name: np.full(shape_of(t, sizes), 0.3) for t in program.parameters}, seed=1).values
    with pytest.raises(AssertionError):
        check(replace(jacobian, blocks=(wrong,)), program, values, sizes)


def test_the_work_does_not_hang_on_the_sizes() -> None:
    small, large = (symbolic.load({**recurrent("lstm"), "sizes": {"D": 2, "H": h, "T": t}}).program()
                    for h, t in ((3, 4), (300, 4000)))
    assert [shown(b) for b in step_jacobian(small).blocks] == [shown(b) for b in step_jacobian(large).blocks]


def test_the_states_of_a_recurrence() -> None:
    (found,) = recurrences(symbolic.load(ROOT / "specs/leaky_integrator.yaml").program())
    assert found.states == ("cell.u", "cell.h")
    assert [str(s) for s in found.along] == ["T"]
