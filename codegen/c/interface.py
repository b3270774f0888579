"""What NAME.h declares: the structs, and the head of each function."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from codegen.c.printer import integer_text
from codegen.c.writer import INDENT
from codegen.prepared import Prepared, Unit
from symbolic.program import Tensor

__all__ = ["DOCS", "Struct", "head", "shape_text", "structs"]

DOCS = {
    "value_and_grad": "The loss and its gradients; outputs may be NULL, and so may each of its fields.",
    "loss": "The loss alone.",
    "predict": "The outputs alone; a field that is NULL is not wanted.",
    "jvp": "The loss and its derivative along a direction.",
    "hvp": "The Hessian of the loss times a direction.",
}


@dataclass(frozen=True)
class Struct:
    """One struct: its name after the model's, what it holds, its members."""

    name: str
    doc: str
    lines: tuple[str, ...]


def structs(prepared: Prepared, fields: Mapping[str, str], free: Sequence[str]) -> list[Struct]:
    """The structs of a model; ``free``: the sizes that a call gives."""
    program, name = prepared.program, prepared.name
    units = {unit.kind: unit for unit in prepared.units}
    wrt = [program.tensor(n) for n in units["value_and_grad"].wrt] if "value_and_grad" in units else []

    def pointers(tensors: Iterable[Tensor], const: str) -> tuple[str, ...]:
        rows = [f"{const}{name}_{'index' if t.is_index else 'real'} *{fields[t.name]};  /* {shape_text(t)} */" for t in tensors]
        return tuple(rows) or ("const void *none;",)

    found = [
        Struct("dims", "The sizes that are free.", (f"size_t {', '.join(free)};",) if free else ("size_t none;",)),
        Struct("params", "The parameters.", pointers(program.parameters, "const ")),
        Struct("inputs", "The inputs.", pointers(program.inputs, "const ")),
        Struct("grads", "The derivatives of the loss, by what they are taken.", pointers(wrt, "")),
        Struct("outputs", "The outputs.", pointers((program.tensor(n) for n in program.outputs), "")),
    ]
    if "jvp" in units or "hvp" in units:
        found.append(Struct("direction", "A direction, as the gradients.", pointers(wrt, "const ")))
    return found


def shape_text(tensor: Tensor) -> str:
    """What stands beside a pointer: the name in the spec, the shape, what entries may be."""
    shape = "".join(f"[{integer_text(e)}]" for e in tensor.shape) or "one number"
    if not tensor.is_index or tensor.below is None:
        return f"{tensor.name} {shape}"
    ignored = f", or {tensor.ignore}" if tensor.ignore is not None else ""
    return f"{tensor.name} {shape}, {integer_text(tensor.low)} to {integer_text(sp.expand(tensor.below - 1))}{ignored}"


def head(unit: Unit, name: str) -> str:
    """The head of one function, folded where it is long."""
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
