"""One function of NAME.c: what it asks of its arguments, its arrays under their names, its loops."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from codegen.c.interface import DOCS, head
from codegen.c.layout import layout_lines, size_lines, words
from codegen.c.names import CIdentifiers, is_taken, with_indices
from codegen.c.printer import integer_text
from codegen.c.sections import defined
from codegen.c.writer import INDENT, LOCALS, body_lines
from codegen.loops.ir import SCRATCH, Buffer, Place, Routine
from codegen.loops.memory import Slot, plan_memory
from codegen.loops.routine import routine
from codegen.loops.uses import touched
from codegen.prepared import Prepared, Unit
from symbolic.program import Program, Size, Tensor

__all__ = ["Function", "function", "routine_of", "unless"]


@dataclass(frozen=True)
class Function:
    """What the template needs of a function; ``slots``: its arrays in the workspace."""

    name: str
    doc: str
    head: str
    lines: tuple[str, ...]
    layout: tuple[str, ...]
    fields: str
    size_arguments: str
    size_values: str
    slots: tuple[Slot, ...]
    made: Routine
    free: frozenset[str]


def routine_of(unit: Unit, real_bytes: int = 4, steps: int | None = None) -> Routine:
    """The loops of a function, its arrays under names that C and this file leave free; ``steps``: of a block."""
    program = with_indices(unit.program, unit.program.name)
    indices = {i.name for e in program.equations for i in e.indices}
    own = ("at", "bytes", "position", "spot", *(f"i{axis}" for axis in range(12)))
    supply = CIdentifiers((*program.sizes, *indices, *(f"at_{i}" for i in indices), *LOCALS, *defined(), *own))
    codes = {t.name: supply.fresh(f"{t.name}_" if is_taken(t.name, program.name) else t.name) for t in program.tensors}
    gradients = {n: program.gradients[n] for n in unit.wrt if n in program.gradients}
    return routine(
        unit.kind, program, codes, gradients if unit.kind in ("value_and_grad", "hvp") else {}, unit.directions or {},
        program.outputs if unit.kind in ("value_and_grad", "predict") else (), supply.fresh, real_bytes, steps,
    )


def function(unit: Unit, prepared: Prepared, fields: Mapping[str, str]) -> Function:
    """The text of one function; ``fields``: what the members of the structs are called."""
    real_bytes = 8 if prepared.dtype == "float64" else 4
    program, made = unit.program, routine_of(unit, real_bytes, prepared.block)
    slots = plan_memory(made, program, real_bytes)
    free = [n for n, v in program.sizes.items() if v is None]
    layout = layout_lines(slots)
    said = {s.name for slot in slots for s in slot.buffer.entries.atoms(Size)}
    mine = [n for n in program.sizes if n in said]
    lines = [*_room_lines(unit, prepared, made, fields, bool(layout), mine), *_pointer_lines(made, slots, fields, unit),
             *body_lines(made), *_missing(unit, program, fields)]
    declared = words(lines) & set(program.sizes)
    lines = [*_door_lines(unit, prepared, made, fields, free), *size_lines(program, declared, prepared.name), *lines]
    scratch = [f"each_{s.buffer.code}" for s in slots if s.buffer.name == SCRATCH]
    fields_of_layout = [*(s.buffer.code for s in slots), *scratch, "bytes"]
    members = textwrap.wrap(f"size_t {', '.join(fields_of_layout)};", 112, subsequent_indent=INDENT)
    return Function(
        unit.kind, DOCS[unit.kind], head(unit, prepared.name), tuple(lines), tuple(layout), "\n    ".join(members),
        ", ".join(f"ptrdiff_t {n}" for n in mine) or "void", ", ".join(mine), slots, made,
        frozenset(free),
    )


def _door_lines(
    unit: Unit, prepared: Prepared, made: Routine, fields: Mapping[str, str], free: Sequence[str]
) -> list[str]:
    """What is asked of pointers and sizes before anything is computed."""
    upper = prepared.name.upper()
    used = [made.buffers[n] for n in touched(made.body)]
    wanted: list[str] = []
    unused = [] if free else ["dims"]
    for struct in ("params", "inputs", *(["direction"] if unit.kind in ("jvp", "hvp") else [])):
        mine = [f"{struct}->{fields[b.field]}" for b in used if b.place.value == struct]
        wanted += [struct, *mine] if mine else []
        unused += [] if mine else [struct]
    wanted += {"value_and_grad": ["loss"], "loss": ["loss"], "jvp": ["loss", "slope"]}.get(unit.kind, [])
    if unit.kind in ("value_and_grad", "hvp"):
        struct = "grads" if unit.kind == "value_and_grad" else "result"
        wanted += [struct, *(f"{struct}->{fields[n]}" for n in unit.wrt)]
    lines = [f"(void){name};" for name in unused]
    if free:
        lines += unless(["dims == NULL"], f"{upper}_NULL_POINTER")
        lines += unless([f"{prepared.name}_workspace_bytes(dims) == 0"], f"{upper}_BAD_SIZE")
    return [*lines, *unless([f"{pointer} == NULL" for pointer in wanted], f"{upper}_NULL_POINTER")]


def unless(tests: Sequence[str], error: str) -> list[str]:
    """Return the error where one of the tests holds."""
    lines, line = [], "if ("
    for k, test in enumerate(tests):
        piece = f"{test}{' || ' if k + 1 < len(tests) else ') {'}"
        if len(line) + len(piece) > 110:
            lines.append(line.rstrip())
            line = INDENT
        line += piece
    return [*lines, line, f"{INDENT}return {error};", "}"] if tests else []


def _room_lines(
    unit: Unit, prepared: Prepared, made: Routine, fields: Mapping[str, str], layout: bool, mine: Sequence[str]
) -> list[str]:
    """What is asked of index arrays and of the workspace."""
    upper = prepared.name.upper()
    lines: list[str] = []
    for name in touched(made.body):
        buffer = made.buffers[name]
        if buffer.place is Place.INPUT and buffer.tensor.is_index:
            lines += _index_check(buffer, fields, upper)
    if not layout:
        return [*lines, "(void)workspace;", "(void)workspace_bytes;"]
    return [*lines, f"const layout_of_{unit.kind} at = lay_out_{unit.kind}({', '.join(mine)});",
            *unless(["workspace == NULL"], f"{upper}_NULL_POINTER"),
            *unless(["workspace_bytes < at.bytes + 64"], f"{upper}_SMALL_WORKSPACE"),
            "unsigned char *const base = aligned(workspace);"]


def _index_check(buffer: Buffer, fields: Mapping[str, str], upper: str) -> list[str]:
    tensor = buffer.tensor
    if tensor.below is None:
        return []
    item = f"inputs->{fields[buffer.field]}[spot]"
    ignored = f"{item} != {tensor.ignore} && " if tensor.ignore is not None else ""
    entries = integer_text(sp.expand(sp.Mul(*tensor.shape)))
    below = integer_text(tensor.below)
    outside = f"{item} < {integer_text(tensor.low)} || {item} >= {below}"
    return [f"for (ptrdiff_t spot = 0; spot < {entries}; ++spot) {{",
            f"    if ({f'{ignored}({outside})' if ignored else outside}) {{",
            f"        return {upper}_BAD_INDEX;", "    }", "}"]



def _pointer_lines(
    made: Routine, slots: Sequence[Slot], fields: Mapping[str, str], unit: Unit
) -> list[str]:
    """The arrays under the names of the model."""
    placed = {slot.buffer.name for slot in slots}
    lines = []
    for name in touched(made.body):
        buffer = made.buffers[name]
        kind = "position" if buffer.tensor.is_index else "real"
        here = f"({kind} *)(void *)(base + at.{buffer.code})" if name in placed else ""
        match buffer.place:
            case Place.PARAMETER | Place.INPUT | Place.DIRECTION:
                lines.append(f"const {kind} *const {buffer.code} = {buffer.place.value}->{fields[buffer.field]};")
            case Place.GRADIENT:
                struct = "grads" if unit.kind == "value_and_grad" else "result"
                lines.append(f"{kind} *const {buffer.code} = {struct}->{fields[buffer.field]};")
            case Place.OUTPUT:
                field = f"outputs->{fields[buffer.field]}"
                here = here or "NULL"
                lines.append(f"{kind} *const {buffer.code} = outputs != NULL && {field} != NULL ? {field} : {here};")
            case Place.SCALAR:
                if buffer.code != buffer.field:
                    lines.append(f"real *const {buffer.code} = {buffer.field};")
            case Place.OFFSETS:
                lines.append(f"ptrdiff_t *const {buffer.code} = (ptrdiff_t *)(void *)(base + at.{buffer.code});")
            case Place.WORKSPACE | Place.PACKED:
                lines.append(f"{kind} *const {buffer.code} = {here};")
    return lines


def _gone(unit: Unit, program: Program) -> list[Tensor]:
    """What the loss does not depend on, by name of the gradient: its derivative is 0."""
    if unit.kind not in ("value_and_grad", "hvp"):
        return []
    return [program.tensor(n) for n in unit.wrt if n not in program.gradients]


def _missing(unit: Unit, program: Program, fields: Mapping[str, str]) -> list[str]:
    struct = "grads" if unit.kind == "value_and_grad" else "result"
    lines = []
    for tensor in _gone(unit, program):
        entries = integer_text(sp.expand(sp.Mul(*tensor.shape)))
        lines += [f"/* The loss does not depend on {tensor.name}. */",
                  f"memset({struct}->{fields[tensor.name]}, 0, (size_t)({entries})*sizeof(real));"]
    if unit.kind == "jvp" and program.loss not in program.tangents:
        lines += ["/* The loss does not depend on the direction. */", "slope[0] = 0;"]
    return lines
