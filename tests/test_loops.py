"""The loop IR: every routine of every model is sound under its checker, spoilt ones are refused, fusion has its verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

import symbolic
from codegen.c.names import CIdentifiers
from codegen.loops.check import check, check_memory
from codegen.loops.fuse import Action, judge
from codegen.loops.ir import SCRATCH, For, How, If, Local, Nest, Node, Product, Routine, Set, Shares, Store, Zero, walk
from codegen.loops.memory import number, plan_memory
from codegen.loops.packing import Most
from codegen.loops.routine import routine
from codegen.loops.scratch import entries
from codegen.pipeline import Options, stages
from symbolic.errors import ProgramError
from symbolic.program import Index, Program, index, read, size
from tests.oracle.cases import FAMILIES

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
CASES = [case for cases in FAMILIES.values() for case in cases]


def routine_of(model: symbolic.Model, wrt: str = "all") -> tuple[Routine, Program]:
    """The loops of value_and_grad."""
    done = stages(model, Options(wrt=wrt))
    program = done.optimised
    supply = CIdentifiers((*program.sizes, *(i.name for e in program.equations for i in e.indices)))
    codes = {t.name: supply.fresh(t.name) for t in program.tensors}
    gradients = {n: program.gradients[n] for n in done.wrt if n in program.gradients}
    return routine("value_and_grad", program, codes, gradients, {}, program.outputs, supply.fresh), program


@cache
def lstm() -> tuple[Routine, Program]:
    return routine_of(symbolic.load(ROOT / "specs" / "lstm_lm.yaml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_specs_are_sound(path: Path) -> None:
    made, program = routine_of(symbolic.load(path))
    check(made)
    check_memory(plan_memory(made, program, 4))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layers_are_sound(case: Any) -> None:
    made, program = routine_of(symbolic.load({**case.spec(), "name": "layer"}))
    check(made)
    check_memory(plan_memory(made, program, 8))


# ---- the checker refuses ---------------------------------------------------------------------------------------------


def changed(node: Node, spoil: Callable[[Node], Node | None]) -> Node:
    """The node with ``spoil`` applied to everything in it, inside out; ``None`` leaves a node as it is."""
    match node:
        case If():
            node = replace(node, body=tuple(changed(n, spoil) for n in node.body),
                           otherwise=tuple(changed(n, spoil) for n in node.otherwise))
        case For() | Nest():
            node = replace(node, body=tuple(changed(n, spoil) for n in node.body))
    return spoil(node) or node


def spoilt(spoil: Callable[[Node], Node | None]) -> Routine:
    made, _ = lstm()
    return replace(made, body=tuple(changed(node, spoil) for node in made.body))


def longer(node: Node) -> Node | None:
    if isinstance(node, For) and any(isinstance(inner, Store) for inner in node.body):
        return replace(node, index=Index(node.index.symbol, node.index.lower, node.index.upper + 1))
    return None


def without_loops(node: Node) -> Node | None:
    return node.body[0] if isinstance(node, For) and len(node.body) == 1 else None


def taller(node: Node) -> Node | None:
    return replace(node, rows=node.rows + 1) if isinstance(node, Product) else None


def undeclared(node: Node) -> Node | None:
    return replace(node, declares=False) if isinstance(node, Set) else None


def into_parameters(node: Node) -> Node | None:
    return Zero("lstm.W") if isinstance(node, Zero) else None


def unshared(node: Node) -> Node | None:
    return replace(node, shared=False) if isinstance(node, For) and node.shared else None


def over_time(node: Node) -> Node | None:
    """Shares of the steps of the recurrence, of which each waits for the one before."""
    steps = Index(index("share"), sp.S.Zero, size("T"))
    match node:
        case Product() if node.packed:
            return replace(node, shared="")
        case For() if str(node.index.symbol) == "t" and any(isinstance(leaf, Product) for leaf, _ in walk((node,))):
            return replace(node, shared=True, body=tuple(changed(inner, unshared) for inner in node.body))
        case Shares() if any(isinstance(inner, For) and inner.shared for inner in node.body):
            return replace(node, over=steps)
    return None


def of_other_rows(node: Node) -> Node | None:
    if isinstance(node, Shares):
        return replace(node, over=Index(node.over.symbol, sp.S.Zero, node.over.extent + 1))
    return None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unshared, "shares meet at"),
        (over_time, r"shares meet at lstm\..\[t, n, k\]"),
        (of_other_rows, "not in one share alone"),
        (longer, "not proved to stay"),
        (without_loops, "stands in no loop over it"),
        (taller, "not proved to stay"),
        (undeclared, "before it is declared"),
        (into_parameters, "is the caller's and is written to"),
    ],
    ids=lambda value: getattr(value, "__name__", "says so"),
)
def test_spoilt_routines_are_refused(spoil: Callable[[Node], Node | None], message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        check(spoilt(spoil))


def test_what_nobody_wrote_is_not_read() -> None:
    made, _ = lstm()
    first = next(k for k, node in enumerate(made.body) if any(isinstance(leaf, Product) for leaf, _ in walk((node,))))
    with pytest.raises(ProgramError, match="is read before anything is written to it"):
        check(replace(made, body=made.body[first + 1 :]))


def test_slots_of_one_time_may_not_share_a_byte() -> None:
    made, program = lstm()
    slots = plan_memory(made, program, 4)
    k = next(k for k, slot in enumerate(slots) if slot.above)
    with pytest.raises(ProgramError, match="are needed at once"):
        check_memory([*slots[:k], replace(slots[k], above=()), *slots[k + 1 :]])


# ---- fusion ----------------------------------------------------------------------------------------------------------


def pair(second: str, extent: str = "T") -> tuple[Nest, Nest, Routine, Program]:
    """A nest ``y[t] = x[t]`` and one over the same range that stores ``z[t] = second``, a read of y."""
    model = symbolic.load("y[t] = x[t]*x[t]\nz[t] = y[t] + 1\nloss = sum(z[t], over=t)", inputs={"x": ["T"]}, loss="loss")
    made, program = routine_of(model)
    t = index("t")
    entries = {"y[t]": read("y", (t,)), "y[t-1]": read("y", (t - 1,)), "y[t+1]": read("y", (t + 1,)), "x[t]": read("x", (t,))}
    over = Index.over(t, next(s for s in program.tensor("x").shape))
    if extent != "T":
        over = Index(t, over.lower + 1, over.upper)
    first = Nest((), (For(Index.over(t, program.tensor("x").shape[0]), (Store(read("y", (t,)), entries["x[t]"], How.SET),)),))
    other = Nest((), (For(over, (Store(read("z", (t,)), entries[second], How.SET),)),))
    return first, other, made, program


@pytest.mark.parametrize(
    ("second", "extent", "action"),
    [
        ("y[t]", "T", Action.FUSE),
        ("x[t]", "T", Action.FUSE),
        ("y[t-1]", "T", Action.FORBID),
        ("y[t+1]", "T", Action.FORBID),
        ("y[t]", "T-1", Action.KEEP),
    ],
)
def test_verdicts(second: str, extent: str, action: Action) -> None:
    """What another iteration stores may not be read at once, before or after; other ranges are other loops."""
    first, other, made, program = pair(second, extent)
    verdict = judge(first, other, made.buffers, program)
    assert verdict.action is action
    assert verdict.reason


def loops_over_time(made: Routine) -> list[For]:
    """In shares of the batch."""
    return [loop for node in made.body if isinstance(node, Shares) for loop in node.body if isinstance(loop, For)]


def test_a_cell_is_one_loop() -> None:
    """All gates of a step stand in one loop, each value in a scalar; so do all their adjoints."""
    made, _ = lstm()
    loops = loops_over_time(made)
    assert len(loops) == 2
    for loop in loops:
        nests = [node for node in loop.body if isinstance(node, Nest)]
        assert [any(isinstance(leaf, Product) for leaf, _ in walk(nest.body)) for nest in nests].count(False) == 1
    scalars = [leaf.local for leaf, _ in walk(loops[0].body) if isinstance(leaf, Set)]
    assert Local("lstm_i_tnk") in scalars
    assert all(loop.independent for leaf, around in walk(loops[0].body) if isinstance(leaf, Store)
               for loop in around[-1:] if isinstance(loop, For))


def test_a_weight_is_packed_once_for_all_steps() -> None:
    made, _ = lstm()
    loops = loops_over_time(made)
    assert loops
    assert all(leaf.packed for loop in loops for leaf, _ in walk(loop.body) if isinstance(leaf, Product))


def test_a_convolution_lists_the_places_of_its_patches() -> None:
    made, _ = routine_of(symbolic.load(ROOT / "specs" / "lenet.yaml"), "params")
    products = [leaf for leaf, _ in walk(made.body) if isinstance(leaf, Product)]
    assert any(leaf.b.row_offsets for leaf in products)
    assert any(leaf.c.row_offsets for leaf in products)


def test_sums_are_kept_in_parts() -> None:
    made, _ = routine_of(symbolic.load("s = sum(x[n], over=n)\nloss = s*s", inputs={"x": ["N"]}, loss="loss"))
    running = [loop for leaf, around in walk(made.body) for loop in around
               if isinstance(leaf, Set) and not leaf.declares and isinstance(loop, For)]
    assert running
    assert all(loop.in_parts for loop in running)
    assert sp.S.Zero in [leaf.value for leaf, _ in walk(made.body) if isinstance(leaf, Set)]


def test_copies_take_names_that_no_tensor_has() -> None:
    """The halo of x is laid out in a copy; what is given has a name beside ``x_given``, which is the user's."""
    made, _ = routine_of(symbolic.load("h[t] = x[t-1]*x_given[t]\nloss = sum(h[t]**2, over=t)", loss="loss",
                                       inputs={"x": ["T"], "x_given": ["T"]}))
    codes = [buffer.code for buffer in made.buffers.values()]
    assert len(set(codes)) == len(codes)
    assert "x_given_2" in codes


def test_shares_of_a_range_that_is_a_product() -> None:
    """``N*(K + 1)`` and ``K*N + N`` are one end."""
    model = symbolic.load("y[u] = tanh(x[u])*exp(x[u])\nloss = sum(y[u]*w[0], over=u)", loss="loss", outputs=["y"],
                          inputs={"x": ["N*(K+1)"], "z": ["N", "K"]}, parameters={"w": [2]})
    assert "in shares of" in str(check(routine_of(model)[0]))


def test_the_scratch_is_enough_wherever_the_loops_are() -> None:
    """Rows that get fewer with the steps: the last step needs least."""
    text = "h[t+1+s,i] = K[j,s]*a[t,j,i]\na[t,j,i] = tanh(x[t,j,i] + V[j]*h[t,i])\nloss = sum(h[t,i]**2, over=(t,i))"
    model = symbolic.load(text, loss="loss", name="m", inputs={"x": ["T", "J", "I"]}, parameters={"K": ["J", "S"], "V": ["J"]},
                          shapes={"h": ["T", "I"], "a": ["T", "J", "I"]})
    done = stages(model, Options())
    sizes = {"T": 300, "S": 300, "J": 256, "I": 40}
    made = routine("loss", done.loss, {t.name: t.name.replace(".", "_") for t in done.loss.tensors}, {}, {}, (), str)
    room = int(number(made.buffers[SCRATCH].entries, made.program, sizes))
    needs = []
    for leaf, loops in walk(made.body):
        if isinstance(leaf, Product) and not leaf.packed:
            assert [str(loop.index.symbol) for loop in loops if isinstance(loop, For)] == ["t"]
            for t in (0, 150, 299):
                at = [int(number(size.xreplace({index("t"): sp.Integer(t)}), made.program, sizes))
                      for size in (leaf.rows, leaf.columns, leaf.inner)]
                needs.append(entries("product_scratch", (at[0], at[1], at[2]), 4))
    assert needs
    assert max(needs) <= room


@pytest.mark.parametrize(("expr", "most", "least"), [
    ("3*t + 2", "3*T - 1", "2"), ("T - t - 1", "T - 1", "0"),
    ("Max(0, Min(S, T - t - 1))", "Max(0, Min(S, T - 1))", "Max(0, Min(S, 0))"),
    ("floor(t/2) + 1", "floor(T/2 - Rational(1, 2)) + 1", "1"),
])
def test_what_a_size_is_at_most_in_a_loop(expr: str, most: str, least: str) -> None:
    """For ``t = 0..T-1``."""
    words = {"t": index("t"), "T": size("T"), "S": size("S")}
    loop = For(Index.over(index("t"), size("T")), ())
    bounds = Most([loop], Program("p", (), (), {"T": None, "S": None}))
    assert sp.simplify(bounds.of(sp.sympify(expr, words)) - sp.sympify(most, words)) == 0
    assert sp.simplify(bounds.of(sp.sympify(expr, words), most=False) - sp.sympify(least, words)) == 0
