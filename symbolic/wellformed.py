"""Checks of a whole model that no single layer can make: names in generated code, sizes at run time, cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from symbolic.errors import SpecError
from symbolic.ledger import Ledger
from symbolic.program import Equation, IndexName, Role, Size, tensor_of
from symbolic.spec import mangle, spell

__all__ = ["check_acyclic", "check_names", "used_sizes"]


def used_sizes(ledger: Ledger, declared: Mapping[str, int | None]) -> dict[str, int | None]:
    """Every fixed size, and every free one that a shape, a range or an equation has.

    Raises SpecError for a free size that the shapes of no array could give at run time.
    """
    known: set[Any] = set()
    used: set[Any] = set()
    for tensor in ledger.tensors.values():
        found = {symbol for extent in tensor.shape for symbol in extent.free_symbols}
        used |= found
        if tensor.role in (Role.PARAMETER, Role.INPUT):
            known |= found
        used |= tensor.low.free_symbols | (tensor.below.free_symbols if tensor.below is not None else set())
    for equation in ledger.equations:
        for part in (equation.body, *equation.guards, *equation.target.indices):
            used |= part.atoms(Size)
        for i in equation.indices:
            used |= i.lower.atoms(Size) | i.upper.atoms(Size)
    for name, symbol in ledger.sizes.items():
        if symbol in used and symbol not in known and symbol not in ledger.fixed:
            raise ledger.fail(
                f"expected a value for the size '{name}', found none, and no input or parameter has it in its "
                f"shape; write sizes: {{{name}: ...}}",
                ("sizes", name),
            )
    return {
        name: declared.get(name) for name, symbol in ledger.sizes.items() if symbol in used or symbol in ledger.fixed
    }


def check_names(ledger: Ledger) -> None:
    """No two tensors may be one identifier in generated code (``a.b_c`` and ``a_b.c``). Raises SpecError."""
    seen: dict[str, str] = {}
    for name in ledger.tensors:
        other = seen.setdefault(mangle(name), name)
        if other != name or mangle(name) in ledger.sizes:
            found = f"'{other}' and '{name}'" if other != name else f"the tensor '{name}' and a size"
            raise ledger.fail(
                f"expected names that stay apart in generated code, found {found}, both '{mangle(name)}' there"
                f"{ledger.seen_at([other, name])}; rename one",
                ledger.places[name],
            )


def check_acyclic(ledger: Ledger) -> None:
    """Refuse tensors that need themselves with no shift on any axis. Raises SpecError, naming the cycle.

    Law: where every subscript is bare (or 0), every index starts at 0 and no guard holds instances off, entry
    [0,...,0] reads entry [0,...,0]; a cycle of such reads has no value. Cycles with shifts are the scheduler's.
    """
    plain: dict[str, dict[str, Equation]] = {}
    for equation in ledger.equations:
        if not equation.guards and all(i.lower == 0 for i in equation.indices) and _bare(equation.target.indices):
            for entry in equation.reads:
                if _bare(entry.indices):
                    plain.setdefault(equation.name, {}).setdefault(tensor_of(entry), equation)
    cycle = _cycle(plain)
    if cycle:
        first = plain[cycle[0]][cycle[1]]
        raise SpecError(
            f"expected tensors that do not need themselves, found the cycle {' <- '.join(cycle)}; read an earlier "
            "step (such as t-1) somewhere in it",
            where=first.origin.where,
            path=spell(ledger.places.get(cycle[0], ())),
        )


def _bare(subscripts: Iterable[Any]) -> bool:
    return all(isinstance(part, IndexName) or part == 0 for part in subscripts)


def _cycle(graph: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A cycle of a graph, first node repeated at the end, or an empty list. Iterative: programs are long."""
    state: dict[str, int] = {}
    for root in graph:
        if root in state:
            continue
        path, stack = [root], [iter(graph[root])]
        state[root] = 1
        while stack:
            following = next(stack[-1], None)
            if following is None:
                state[path.pop()] = 2
                stack.pop()
            elif state.get(following) == 1:
                return [*path[path.index(following) :], following]
            elif following not in state and following in graph:
                state[following] = 1
                path.append(following)
                stack.append(iter(graph[following]))
    return []
