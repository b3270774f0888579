"""From prepared Programs to the text of NAME.h and NAME.c."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Expr

from codegen.c.names import CIdentifiers, field_names
from codegen.c.printer import count_text, integer_text
from codegen.c.sections import defined, needed
from codegen.c.writer import INDENT, LOCALS, body_lines
from codegen.loops.ir import Buffer, Call, Place, Routine
from codegen.loops.memory import Slot, plan_memory, total
from codegen.loops.routine import routine
from codegen.loops.uses import sizes, touched
from codegen.numpy.emit import Prepared, Unit
from symbolic.analysis import is_nonnegative
from symbolic.program import Program, Role, Size, Tensor

__all__ = ["emit"]

_DOCS = {
    "value_and_grad": "The loss and its gradients; outputs may be NULL, and so may each of its fields.",
    "loss": "The loss alone.",
    "predict": "The outputs alone; a field that is NULL is not wanted.",
    "jvp": "The loss and its derivative along a direction.",
    "hvp": "The Hessian of the loss times a direction.",
}


@dataclass(frozen=True)
class _Struct:
    name: str
    doc: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Function:
    name: str
    doc: str
    head: str
    lines: tuple[str, ...]
    layout: tuple[str, ...]
    fields: str
    size_arguments: str
    size_values: str
    slots: tuple[Slot, ...]


def emit(prepared: Prepared) -> dict[str, str]:
    """The texts of NAME.h and NAME.c, by file name."""
    fields = field_names(prepared.program)
    functions = [_function(unit, prepared, fields) for unit in prepared.units]
    free = [n for n, v in prepared.program.sizes.items() if v is None]
    workspace = _workspace_lines(prepared, functions, free)
    text = "\n".join(line for f in functions for line in (*f.lines, *f.layout)) + "\n".join(workspace)
    context = {
        "name": prepared.name, "upper": prepared.name.upper(), "dtype": prepared.dtype, "source": prepared.source,
        "digest": prepared.digest[:16], "command": prepared.command,
        "constants": sorted((n, v) for n, v in prepared.program.sizes.items() if v is not None),
        "structs": _structs(prepared, fields, free), "functions": functions, "sections": needed(text),
        "workspace_lines": workspace, "workspace_bytes": None if free else _workspace_bytes(functions, prepared), "independent": "INDEPENDENT" in text,
    }
    return {f"{prepared.name}.h": _render("header.h.jinja", context), f"{prepared.name}.c": _render("source.c.jinja", context)}


def _render(name: str, context: Mapping[str, Any]) -> str:
    return str(_environment().get_template(name).render(m=context)).rstrip() + "\n"


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("codegen.c"), undefined=StrictUndefined, keep_trailing_newline=True,
                       autoescape=False)  # noqa: S701 - C is written, not HTML


# ---- the interface ---------------------------------------------------------------------------------------------------


def _structs(prepared: Prepared, fields: Mapping[str, str], free: Sequence[str]) -> list[_Struct]:
    program, name = prepared.program, prepared.name
    units = {unit.kind: unit for unit in prepared.units}
    wrt = [program.tensor(n) for n in units["value_and_grad"].wrt] if "value_and_grad" in units else []

    def pointers(tensors: Iterable[Tensor], const: str) -> tuple[str, ...]:
        rows = [f"{const}{name}_{'index' if t.is_index else 'real'} *{fields[t.name]};  /* {_shape(t)} */" for t in tensors]
        return tuple(rows) or ("const void *none;",)

    found = [
        _Struct("dims", "The sizes that are free.", (f"size_t {', '.join(free)};",) if free else ("size_t none;",)),
        _Struct("params", "The parameters.", pointers(program.parameters, "const ")),
        _Struct("inputs", "The inputs.", pointers(program.inputs, "const ")),
        _Struct("grads", "The derivatives of the loss, by what they are taken.", pointers(wrt, "")),
        _Struct("outputs", "The outputs.", pointers((program.tensor(n) for n in program.outputs), "")),
    ]
    if "jvp" in units or "hvp" in units:
        found.append(_Struct("direction", "A direction, as the gradients.", pointers(wrt, "const ")))
    return found


def _shape(tensor: Tensor) -> str:
    shape = "".join(f"[{integer_text(e)}]" for e in tensor.shape) or "one number"
    if not tensor.is_index or tensor.below is None:
        return f"{tensor.name} {shape}"
    ignored = f", or {tensor.ignore}" if tensor.ignore is not None else ""
    return f"{tensor.name} {shape}, {integer_text(tensor.low)} to {integer_text(sp.expand(tensor.below - 1))}{ignored}"


def _head(unit: Unit, name: str) -> str:
    arguments = [f"const {name}_dims *dims", f"const {name}_params *params", f"const {name}_inputs *inputs"]
    if unit.kind in ("jvp", "hvp"):
        arguments.append(f"const {name}_direction *direction")
    if unit.kind in ("value_and_grad", "loss", "jvp"):
        arguments.append(f"{name}_real *loss")
    if unit.kind == "jvp":
        arguments.append(f"{name}_real *slope")
    if unit.kind in ("value_and_grad", "hvp"):
        arguments.append(f"const {name}_grads *{'grads' if unit.kind == 'value_and_grad' else 'result'}")
    if unit.kind in ("value_and_grad", "predict"):
        arguments.append(f"const {name}_outputs *outputs")
    arguments += ["void *workspace", "size_t workspace_bytes"]
    text = f"int {name}_{unit.kind}("
    lines, line = [], text
    for k, argument in enumerate(arguments):
        piece = argument + (", " if k + 1 < len(arguments) else ")")
        if len(line) + len(piece.rstrip()) > 118:
            lines.append(line.rstrip())
            line = INDENT
        line += piece
    return "\n".join([*lines, line])


# ---- a function ------------------------------------------------------------------------------------------------------


def _function(unit: Unit, prepared: Prepared, fields: Mapping[str, str]) -> _Function:
    program = unit.program
    indices = {i.name for e in program.equations for i in e.indices}
    supply = CIdentifiers((*program.sizes, *indices, *(f"at_{i}" for i in indices), *LOCALS, *defined(), "at", "position",
                           *(f"i{axis}" for axis in range(12))))
    codes = {t.name: supply.fresh(t.name) for t in program.tensors}
    gradients = {n: program.gradients[n] for n in unit.wrt if n in program.gradients}
    outputs = program.outputs if unit.kind in ("value_and_grad", "predict") else ()
    made = routine(unit.kind, program, codes, gradients if unit.kind in ("value_and_grad", "hvp") else {},
                   unit.directions or {}, outputs, supply.fresh)
    slots = plan_memory(made, program, 8 if prepared.dtype == "float64" else 4)
    free = [n for n, v in program.sizes.items() if v is None]
    layout = _layout_lines(slots)
    said = {s.name for slot in slots for s in slot.buffer.entries.atoms(Size)}
    mine = [n for n in program.sizes if n in said]
    lines = [*_room_lines(unit, prepared, made, fields, bool(layout), mine), *_pointer_lines(made, slots, fields, unit),
             *body_lines(made, program), *_missing(unit, program, fields)]
    declared = sizes(made.body, made.buffers) | set(mine) | _sizes_of_missing(unit, program) | _sizes_of_checks(made)
    lines = [*_door_lines(unit, prepared, made, fields, free), *_size_lines(program, declared, prepared.name), *lines]
    return _Function(
        unit.kind, _DOCS[unit.kind], _head(unit, prepared.name), tuple(lines), tuple(layout),
        "\n    ".join(textwrap.wrap(f"size_t {', '.join([*(s.buffer.code for s in slots), 'bytes'])};", 112, subsequent_indent="    ")),
        ", ".join(f"ptrdiff_t {n}" for n in mine) or "void",
        ", ".join(mine), slots,
    )


def _size_lines(program: Program, declared: Iterable[str], name: str) -> list[str]:
    wanted = set(declared)
    lines = []
    for size_name, value in program.sizes.items():
        if size_name in wanted:
            text = f"{name}_{size_name}" if value is not None else f"(ptrdiff_t)dims->{size_name}"
            lines.append(f"const ptrdiff_t {size_name} = {text};")
    return lines


def _layout_lines(slots: Sequence[Slot]) -> list[str]:
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
        return [f"const size_t {end} = at.{buffer.code} + room({text if text.isdigit() else f'(size_t)({text})'}, sizeof({kind}));"]
    needs = sorted(f"{call.name}({', '.join(map(count_text, call.sizes))})" for call in calls)
    if len(needs) == 1:
        return [f"const size_t {end} = at.{buffer.code} + room({needs[0]}, sizeof({kind}));"]
    first, *others = needs
    name = f"most_of_{buffer.code}"
    lines = [f"size_t {name} = {first};", *(f"{name} = later({name}, {need});" for need in others)]
    return [*lines, f"const size_t {end} = at.{buffer.code} + room({name}, sizeof({kind}));"]


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
        lines += _unless(["dims == NULL"], f"{upper}_NULL_POINTER")
        lines += _unless([f"{prepared.name}_workspace_bytes(dims) == 0"], f"{upper}_BAD_SIZE")
    return [*lines, *_unless([f"{pointer} == NULL" for pointer in wanted], f"{upper}_NULL_POINTER")]


def _unless(tests: Sequence[str], error: str) -> list[str]:
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
            *_unless(["workspace == NULL"], f"{upper}_NULL_POINTER"),
            *_unless(["workspace_bytes < at.bytes + 64"], f"{upper}_SMALL_WORKSPACE"),
            "unsigned char *const base = aligned(workspace);"]


def _index_check(buffer: Buffer, fields: Mapping[str, str], upper: str) -> list[str]:
    tensor = buffer.tensor
    if tensor.below is None:
        return []
    item = f"inputs->{fields[buffer.field]}[k]"
    ignored = f"{item} != {tensor.ignore} && " if tensor.ignore is not None else ""
    entries = integer_text(sp.expand(sp.Mul(*tensor.shape)))
    below = integer_text(tensor.below)
    outside = f"{item} < {integer_text(tensor.low)} || {item} >= {below}"
    return [f"for (ptrdiff_t k = 0; k < {entries}; ++k) {{",
            f"    if ({f'{ignored}({outside})' if ignored else outside}) {{",
            f"        return {upper}_BAD_INDEX;", "    }", "}"]


def _sizes_of_checks(made: Routine) -> set[str]:
    found: set[Any] = set()
    for name in touched(made.body):
        buffer = made.buffers[name]
        if buffer.place is Place.INPUT and buffer.tensor.is_index and buffer.tensor.below is not None:
            for expr in (*buffer.tensor.shape, buffer.tensor.low, buffer.tensor.below):
                found |= sp.sympify(expr).atoms(Size)
    return {s.name for s in found}


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


def _sizes_of_missing(unit: Unit, program: Program) -> set[str]:
    return {s.name for t in _gone(unit, program) for e in t.shape for s in e.atoms(Size)}


# ---- the workspace ---------------------------------------------------------------------------------------------------


def _workspace_lines(prepared: Prepared, functions: Sequence[_Function], free: Sequence[str]) -> list[str]:
    """All sizes in range, all arrays together within what an integer can count; then the greatest of the layouts."""
    program = prepared.program
    lines: list[str] = []
    calls = [f"lay_out_{f.name}({f.size_values}).bytes" for f in functions if f.layout]
    if free:
        tests = " || ".join(f"dims->{n} < 1 || dims->{n} > limit" for n in free)
        lines += ["const size_t limit = PTRDIFF_MAX / 256;",
                  f"if (dims == NULL || {tests}) {{", "    return 0;", "}"]
    wanted = {n for f in functions if f.layout for n in f.size_values.split(", ") if n}
    moving = _moving(prepared)
    small = _may_be_negative(prepared)
    wanted |= {s.name for e in (*moving, *small) for s in e.atoms(Size)}
    lines += _size_lines(program, wanted, prepared.name)
    if small:
        lines += [f"if ({' || '.join(f'{integer_text(e)} < 0' for e in small)}) {{", "    return 0;", "}"]
    if moving:
        lines.append("double entries = 0;")
        lines += [f"entries += {'*'.join(f'(double)({integer_text(e)})' for e in sp.Mul.make_args(sp.factor_terms(total)))};"
                  for total in moving]
        lines += ["if (entries > (double)PTRDIFF_MAX / 16) {", "    return 0;", "}"]
    if not free:
        lines.append("(void)dims;")
    lines.append(f"return {_latest(calls)} + 64;" if calls else "return 64;")
    return [f"{INDENT}{line}" for line in lines]


def _workspace_bytes(functions: Sequence[_Function], prepared: Prepared) -> tuple[int, int]:
    """What ``NAME_workspace_bytes`` gives where no size is free, for float and for double."""
    programs = {unit.kind: unit.program for unit in prepared.units}
    single, double = (max(total(f.slots, programs[f.name], real_bytes) for f in functions) + 64 for real_bytes in (4, 8))
    return single, double


def _moving(prepared: Prepared) -> list[Expr]:
    """How many entries there are in each array whose size is free."""
    found: dict[Expr, None] = {}
    for unit in prepared.units:
        for tensor in unit.program.tensors:
            if any(e.atoms(Size) and unit.program.sizes.get(s.name) is None for e in tensor.shape for s in e.atoms(Size)):
                found.setdefault(sp.Mul(*tensor.shape))
    return list(found)


def _may_be_negative(prepared: Prepared) -> list[Expr]:
    """The extents that small sizes would make negative."""
    found: dict[Expr, None] = {}
    for unit in prepared.units:
        for tensor in unit.program.tensors:
            for extent in tensor.shape if tensor.role not in (Role.PARAMETER, Role.INPUT) else ():
                if extent.atoms(Size) and not is_nonnegative(extent, unit.program):
                    found.setdefault(extent)
    return list(found)


