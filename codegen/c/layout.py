"""Where arrays lie in a workspace, and how large it is, as lines of C."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sympy as sp
from sympy import Expr

from codegen.c.printer import count_text, integer_text
from codegen.c.writer import INDENT
from codegen.loops.ir import SCRATCH, Buffer, Call, Place
from codegen.loops.memory import Slot, total, weight
from codegen.prepared import Prepared
from symbolic.analysis import is_nonnegative
from symbolic.program import Program, Role, Size

if TYPE_CHECKING:
    from codegen.c.function import Function

__all__ = ["layout_lines", "size_lines", "words", "workspace_bytes", "workspace_lines"]


def words(lines: Iterable[str]) -> set[str]:
    """The identifiers that lines of C say, but for members of structs."""
    return {word for line in lines for word in re.findall(r"(?<![\w.>])[A-Za-z_]\w*", line)}


def size_lines(program: Program, declared: Iterable[str], name: str) -> list[str]:
    """The sizes that are said, as constants."""
    wanted = set(declared)
    lines = []
    for size_name, value in program.sizes.items():
        if size_name in wanted:
            text = f"{name}_{size_name}" if value is not None else f"(ptrdiff_t)dims->{size_name}"
            lines.append(f"const ptrdiff_t {size_name} = {text};")
    return lines


def layout_lines(slots: Sequence[Slot]) -> list[str]:
    """Each array above those that it meets; the end of the highest is the size of all."""
    if not slots:
        return []
    lines = []
    ends = {s.buffer.name: f"end_of_{s.buffer.code}" for s in slots}
    for slot in slots:
        code = slot.buffer.code
        lines.append(f"at.{code} = {_latest([ends[other] for other in slot.above])};")
        lines += _end_lines(slot.buffer, ends[slot.buffer.name])
    hidden = {other for s in slots for other in s.above}
    lines.append(f"at.bytes = {_latest([ends[s.buffer.name] for s in slots if s.buffer.name not in hidden])};")
    return lines


def _latest(ends: Sequence[str]) -> str:
    text = ends[0] if ends else "0"
    for end in ends[1:]:
        text = f"later({text}, {end})"
    return text


def _end_lines(buffer: Buffer, end: str) -> list[str]:
    """Where an array ends: of several needs the greatest."""
    kind = "ptrdiff_t" if buffer.place is Place.OFFSETS else "position" if buffer.tensor.is_index else "real"
    entries = buffer.entries
    calls = [entries] if isinstance(entries, Call) else list(entries.args) if isinstance(entries, sp.Max) else []
    if not calls or not all(isinstance(call, Call) for call in calls):
        text = integer_text(entries)
        count = text if text.isdigit() else f"(size_t)({text})"
        return [f"const size_t {end} = at.{buffer.code} + room({count}, sizeof({kind}));"]
    needs = sorted(f"{call.name}({', '.join(map(count_text, call.sizes))})" for call in calls)
    most, lines = needs[0], []
    if len(needs) > 1:
        most = f"most_of_{buffer.code}"
        lines = [f"size_t {most} = {needs[0]};", *(f"{most} = later({most}, {need});" for need in needs[1:])]
    if buffer.name != SCRATCH:
        return [*lines, f"const size_t {end} = at.{buffer.code} + room({most}, sizeof({kind}));"]
    each = f"at.each_{buffer.code}"
    return [*lines, f"{each} = room({most}, sizeof({kind})) / sizeof({kind});",
            f"const size_t {end} = at.{buffer.code} + THREADS*{each}*sizeof({kind});"]


def workspace_lines(prepared: Prepared, functions: Sequence[Function], free: Sequence[str]) -> list[str]:
    """All sizes in range, all arrays together within what an integer can count; then the greatest of the layouts."""
    program = prepared.program
    lines: list[str] = []
    calls = [f"lay_out_{f.name}({f.size_values}).bytes" for f in functions if f.layout]
    if free:
        tests = " || ".join(f"dims->{n} < 1 || dims->{n} > limit" for n in free)
        lines += ["const size_t limit = PTRDIFF_MAX / 256;",
                  f"if (dims == NULL || {tests}) {{", "    return 0;", "}"]
    wanted = {n for f in functions if f.layout for n in f.size_values.split(", ") if n}
    moving = _moving(functions)
    small = _may_be_negative(prepared)
    wanted |= {s.name for extents in (*moving, tuple(small)) for e in extents for s in e.atoms(Size)}
    lines += size_lines(program, wanted, prepared.name)
    if small:
        lines += [f"if ({' || '.join(f'{integer_text(e)} < 0' for e in small)}) {{", "    return 0;", "}"]
    if moving:
        several = any("THREADS" in line for f in functions for line in f.layout)
        lines += ["/* All arrays together, in a number that cannot wrap round; a million for the scratch of products. */",
                  f"double entries = 1e6{'*(double)THREADS' if several else ''};"]
        for extents, count in moving.items():
            product = "*".join(f"(double)({integer_text(e)})" for e in extents if e != 1)
            lines.append(f"entries += {f'{count}*' if count > 1 else ''}{product};")
        lines += ["if (entries > (double)PTRDIFF_MAX / 16) {", "    return 0;", "}"]
    if not free:
        lines.append("(void)dims;")
    lines.append(f"return {_latest(calls)} + 64;" if calls else "return 64;")
    return [f"{INDENT}{line}" for line in lines]


def workspace_bytes(functions: Sequence[Function], prepared: Prepared) -> tuple[tuple[int, int], tuple[int, int]]:
    """What ``NAME_workspace_bytes`` gives where no size is free, for float and for double: for one thread, and how much more it
    is at most for each other one."""
    programs = {unit.kind: unit.program for unit in prepared.units}

    def of(real_bytes: int) -> tuple[int, int]:
        scratch = [weight(s.buffer, programs[f.name], real_bytes)
                   for f in functions for s in f.slots if s.buffer.name == SCRATCH]
        return max(total(f.slots, programs[f.name], real_bytes) for f in functions) + 64, max(scratch, default=0)

    return of(4), of(8)


def _moving(functions: Sequence[Function]) -> Counter[tuple[Expr, ...]]:
    """The extents of all arrays of all functions whose size is free, and how many there are of each."""
    found: Counter[tuple[Expr, ...]] = Counter()
    for function in functions:
        for name, buffer in function.made.buffers.items():
            extents = buffer.extents
            if extents and isinstance(extents[0], Call):  # packed: rounded up
                extents = tuple(factor + 64 for size in extents[0].sizes for factor in sp.Mul.make_args(size))
            moves = any(s.name in function.free for extent in extents for s in extent.atoms(Size))
            if name != SCRATCH and moves:
                found[extents] += 1
    return found


def _may_be_negative(prepared: Prepared) -> list[Expr]:
    """The extents that small sizes would make negative."""
    found: dict[Expr, None] = {}
    for unit in prepared.units:
        for tensor in unit.program.tensors:
            for extent in tensor.shape if tensor.role not in (Role.PARAMETER, Role.INPUT) else ():
                if extent.atoms(Size) and not is_nonnegative(extent, unit.program):
                    found.setdefault(extent)
    return list(found)
