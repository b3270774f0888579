"""The optimiser and clipping as ``NAME_update``: the same equations as in Python, over one parameter after the other, in place.

The equations of one entry become one loop over all entries of a parameter (codegen/loops). A total over all gradients is a loop
of its own before.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from codegen.c.function import unless
from codegen.c.interface import shape_text
from codegen.c.layout import size_lines
from codegen.c.names import CIdentifiers
from codegen.c.printer import CPrinter, integer_text
from codegen.c.sections import defined
from codegen.c.writer import INDENT, LOCALS, body_lines
from codegen.loops.ir import For, Local, Nest, Place, Routine
from codegen.loops.routine import routine
from codegen.loops.uses import touched
from codegen.prepared import Prepared
from symbolic.errors import ScheduleError
from symbolic.program import Program, Role, Size, Tensor, read, tensor_of

__all__ = ["Update", "update"]


@dataclass(frozen=True)
class Update:
    """What the templates need: the members of the structs, the functions over one parameter, the body of NAME_update."""

    name: str
    weights: tuple[str, ...]
    state: tuple[str, ...]
    hyper: tuple[str, ...]
    defaults: tuple[str, ...]
    steps: tuple[str, ...]
    lines: tuple[str, ...]


def update(prepared: Prepared, fields: Mapping[str, str], wrt: Sequence[str]) -> Update:
    """``NAME_update`` of a model; ``wrt``: what there are gradients of."""
    optimizer, clip = prepared.update.optimizer, prepared.update.clip
    program, name = prepared.program, prepared.name
    tensors = [t for t in program.parameters if t.name in set(wrt)]
    hyper = {**optimizer.hyper, **(clip.hyper if clip is not None else {})}
    together = clip is not None and clip.together
    step = _step(optimizer, clip)
    kept = [f"{slot}_{fields[t.name]}" for slot in optimizer.slots for t in tensors]
    about = optimizer.name + (f" after clipping by {clip.name.replace('_', ' ')}" if clip is not None else "")
    steps = [_function(step, "step", "One step for a parameter of P entries, in place.", optimizer.slots)]
    lines = []
    if together:
        total = _total(clip)
        steps.insert(0, _function(total, "add_total", "The sum of the squares of a gradient, added to what is there.", ()))
        lines += ["real all = 0;"]
        lines += [f"add_total({_count(t)}, grads->{fields[t.name]}, &all);" for t in tensors]
        lines += _scale_lines(clip)
    scalars = [f"hyper->{h}" for h in step.hyper]
    scalars += [*(["state->k[0]"] if optimizer.counts else []), *(["scale"] if together else [])]
    for t in tensors:
        slots = [f"state->{slot}_{fields[t.name]}" for slot in optimizer.slots]
        arguments = ", ".join([_count(t), f"params->{fields[t.name]}", f"grads->{fields[t.name]}", *slots, *scalars])
        lines += textwrap.wrap(f"step({arguments});", 112, subsequent_indent=INDENT, break_long_words=False)
    if optimizer.counts:
        lines.append("state->k[0] += 1;")
    said = {s.name for t in tensors for e in t.shape for s in e.atoms(Size)}
    pointers = [*(f"params->{fields[t.name]}" for t in tensors), *(f"grads->{fields[t.name]}" for t in tensors),
                *(f"state->{member}" for member in kept), *(["state->k"] if optimizer.counts else [])]
    free = [n for n, v in program.sizes.items() if v is None]
    needs_state = bool(optimizer.state)
    structs = ["params", "grads", "hyper", *(["state"] if needs_state else []), *(["dims"] if free else [])]
    tests = [f"{p} == NULL" for p in (*structs, *pointers)]
    begin = [f"(void){n};" for n, on in (("dims", bool(free)), ("state", needs_state)) if not on]
    head = [*begin, *unless(tests, f"{name.upper()}_NULL_POINTER")]
    if free:
        bad = f"{name.upper()}_BAD_SIZE"
        head += unless([f"{name}_workspace_bytes(dims) == 0"], bad)
    real = f"{name}_real"
    each = [f"{real} *{member};  /* as {t.name} */" for member, t in zip(kept, tensors * len(optimizer.slots), strict=True)]
    counted = [f"{real} *k;  /* the steps so far, one number */"] * optimizer.counts
    return Update(
        about, tuple(f"{real} *{fields[t.name]};  /* {shape_text(t)} */" for t in tensors) or ("const void *none;",),
        (*each, *counted) or ("const void *none;",),
        tuple(f"{real} {h};" for h in hyper) or (f"{real} none;",),
        tuple(f"(real){float(v)!r}" for v in hyper.values()) or ("0",), tuple(steps) if tensors else (),
        (*head, *size_lines(program, said, name), *lines),
    )


def _count(tensor: Tensor) -> str:
    return integer_text(sp.expand(sp.Mul(*tensor.shape)))


@dataclass(frozen=True)
class _Step:
    """A program over one parameter, and the hyperparameters that it reads."""

    program: Program
    hyper: tuple[str, ...]
    counts: bool
    scaled: bool


def _step(optimizer: Any, clip: Any) -> _Step:
    """The clipping of one gradient, then the optimiser."""
    steps: Program = optimizer.program()
    if clip is None:
        return _Step(steps, tuple(optimizer.hyper), optimizer.counts, False)
    cut: Program = clip.program()
    made = [e for e in cut.equations if not (clip.together and e.name in ("total", "scale"))]
    clipped = cut.tensor("g_next")
    rows = []
    for equation in steps.equations:
        rule = {r: read("g_next", r.indices) for r in equation.reads if tensor_of(r) == "g"}
        rows.append(equation.xreplace(rule))
    tensors = {t.name: t for t in (*steps.tensors, *cut.tensors)}
    tensors["g_next"] = clipped
    if clip.together:
        tensors.pop("total", None)
        tensors["scale"] = Tensor("scale", (), Role.INPUT)
    program = replace(steps, tensors=tuple(tensors.values()), equations=(*made, *rows))
    return _Step(program, (*optimizer.hyper, *clip.hyper) if not clip.together else tuple(optimizer.hyper), optimizer.counts,
                 clip.together)


def _total(clip: Any) -> _Step:
    cut: Program = clip.program()
    rows = tuple(e for e in cut.equations if e.name == "total")
    tensors = tuple(t for t in cut.tensors if t.name in ("g", "total"))
    return _Step(replace(cut, tensors=tensors, equations=rows, outputs=("total",)), (), False, False)


def _scale_lines(clip: Any) -> list[str]:
    cut: Program = clip.program()
    (equation,) = (e for e in cut.equations if e.name == "scale")
    names = {r: "all" if tensor_of(r) == "total" else f"hyper->{tensor_of(r)}" for r in equation.reads}
    body = equation.body.xreplace({r: Local(name) for r, name in names.items()})
    return [f"const real scale = {CPrinter(cut, {}).real(body)};"]


def _routine(program: Program, codes: Mapping[str, str]) -> Routine:
    indices = {i.name for e in program.equations for i in e.indices}
    supply = CIdentifiers((*program.sizes, *indices, *LOCALS, *defined(), "position", *codes.values()))
    named = {t.name: codes.get(t.name) or supply.fresh(t.name) for t in program.tensors}
    return routine("update", program, named, {}, {}, program.outputs, supply.fresh)


def _function(step: _Step, name: str, doc: str, slots: Sequence[str]) -> str:
    """One static function: a parameter, its gradient, its slots, then the scalars."""
    program = step.program
    made = _routine(program, {t.name: t.name for t in program.inputs})
    nests = [node for node in made.body if isinstance(node, Nest | For) and any(
        made.buffers[b].place is Place.OUTPUT for b in touched((node,)) if b in made.buffers)]
    if name == "step" and sum(any(made.buffers[b].tensor.rank for b in touched((n,))) for n in nests) > 1:
        raise ScheduleError(f"update: the equations of {program.name} do not make one loop, so they cannot be done in place")
    arrays = ["const real *g"] if name != "step" else ["real *p", "const real *g", *(f"real *{s}" for s in slots)]
    scalars = [*step.hyper, *(["k"] if step.counts else []), *(["scale"] if step.scaled else [])]
    arguments = ["ptrdiff_t P", *arrays, *(f"real {s}_" for s in scalars), *(["real *all"] if name != "step" else [])]
    lines = []
    for tensor in program.tensors:
        code = made.buffers[tensor.name].code if tensor.name in made.buffers else ""
        if tensor.name in scalars and tensor.name in touched(made.body):
            lines.append(f"const real {code}[1] = {{{tensor.name}_}};")
    for output in program.outputs:
        old = output.removesuffix("_next")
        buffer = made.buffers[output]
        if output == "k_next" or not buffer.tensor.rank:
            lines.append(f"real {buffer.code}[1];")
        else:
            lines.append(f"real *const {buffer.code} = {old};")
    for buffer in made.buffers.values():
        if buffer.place is Place.WORKSPACE and buffer.name in touched(made.body):
            if buffer.tensor.rank:
                raise ScheduleError(f"update: the equations of {program.name} need an array of their own; there is none")
            lines.append(f"real {buffer.code}[1];")
    body = body_lines(made)
    if name != "step":
        body.append(f"all[0] += {made.buffers['total'].code}[0];")
    unused = [f"(void){s}_;" for s in scalars if s not in touched(made.body)]
    text = "\n".join(f"{INDENT}{line}" for line in (*unused, *lines, *body))
    head = "\n".join(textwrap.wrap(f"static void {name}({', '.join(arguments)})", 116, subsequent_indent=INDENT))
    return f"/* {doc} */\n{head}\n{{\n{text}\n}}\n"
