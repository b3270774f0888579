"""Checks of a whole model that no single layer can make: names in generated code, sizes at run time, cycles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from symbolic.check import check, plain_cycle
from symbolic.errors import ProgramError, SpecError
from symbolic.ledger import Ledger
from symbolic.program import Program, Role, Size
from symbolic.spec import mangle, spell

__all__ = ["check_laws", "check_names", "used_sizes"]


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


def check_laws(program: Program, ledger: Ledger) -> None:
    """The laws of the IR hold for the program of a spec. Raises SpecError at the equation that breaks one.

    A cycle without a shift is told by its tensors; cycles with shifts are the scheduler's.
    """
    found = plain_cycle(program.equations)
    if found is not None:
        names, first = found
        owners = [_owner(name, program, ledger) for name in names]
        shown = [name for k, name in enumerate(owners) if k == 0 or name != owners[k - 1]]
        shown += shown if len(shown) == 1 else []
        raise SpecError(
            f"expected tensors that do not need themselves, found the cycle {' <- '.join(shown)}; read an earlier "
            "step (such as t-1) somewhere in it",
            where=first.origin.where,
            path=spell(ledger.places.get(names[0], ())),
        )
    try:
        check(program, parsed=True)
    except ProgramError as error:
        raise SpecError(error.law, where=error.where) from None


def _owner(name: str, program: Program, ledger: Ledger) -> str:
    """The tensor that a text defines, for one that stages a reduction of it (``l_sum``): nobody wrote that name."""
    written = re.match(r"[\w.]+", program.writers[name][0].origin.text)
    prefix = name[: len(name) - len(name.rpartition(".")[2])]
    owner = prefix + written[0] if written else name
    staged = owner in ledger.tensors and re.fullmatch(re.escape(owner) + r"(_(sum|mean|max)(_\d+)?)+", name)
    return owner if staged else name
