"""From prepared Programs to the text of one NumPy module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Expr

from codegen.numpy.blocks import bare
from codegen.numpy.door import UNTOLD, check_text, free_sizes, untold
from codegen.numpy.helpers import needed
from codegen.numpy.plan import lay_out
from codegen.numpy.printer import integer_text
from codegen.numpy.selfcheck import selfcheck_text
from codegen.numpy.statements import Writer
from codegen.numpy.update import update_lines
from codegen.prepared import Prepared, Unit
from codegen.verdict import Verdict
from symbolic.program import Program, Tensor

__all__ = ["emit", "function", "shared_context", "signature", "verdicts"]


@dataclass(frozen=True)
class _Function:
    name: str
    signature: str
    doc: str
    door: tuple[str, ...]
    body: tuple[str, ...]
    result: tuple[str, ...]


@dataclass(frozen=True)
class _Row:
    key: str
    shape: str
    kind: str


def emit(prepared: Prepared) -> str:
    """The module's text."""
    functions = [function(unit, prepared) for unit in prepared.units]
    check = check_text(prepared.program)
    shared = shared_context(prepared)
    helpers = needed([*(line for f in functions for line in f.body), *shared["optimiser"]["lines"], check])
    context = {**shared, "what": "loss, gradients, prediction and update with NumPy alone", "functions": functions,
               "helpers": helpers, "check": check}
    return str(_template().render(m=context)).rstrip() + "\n"


def shared_context(prepared: Prepared) -> dict[str, Any]:
    """What the templates of every target's module know: the header, the tables, ``init``, ``update`` and ``selfcheck``."""
    program = prepared.program
    update = update_lines(prepared.update)
    inits, sources = _init(prepared)
    return {
        "name": prepared.name, "dtype": prepared.dtype, "source": prepared.source, "digest": prepared.digest[:16],
        "command": prepared.command, "cost": prepared.cost, "seed": prepared.seed,
        "constants": sorted((n, v) for n, v in program.sizes.items() if v is not None),
        "parameters": [_row(t) for t in program.parameters],
        "inputs": [_row(t) for t in program.inputs],
        "outputs": [_row(program.tensor(n), program.links.get(n)) for n in program.outputs],
        "init": inits, "initialisers": sources,
        "optimiser": {"name": update.name, "lines": update.lines},
        "selfcheck": selfcheck_text(program),
    }


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("codegen.numpy"), undefined=StrictUndefined, keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Python is written, not HTML
    )
    return environment.get_template("module.py.jinja")


def _row(tensor: Tensor, key: str | None = None) -> _Row:
    parts = [
        str(int(e)) if e.is_Integer else f'"{integer_text(e)}"' for e in tensor.shape
    ]
    comma = "," if len(parts) == 1 else ""
    return _Row(f'"{key or tensor.name}"', f"({', '.join(parts)}{comma})", f'"{tensor.kind}"')


# ---- functions -------------------------------------------------------------------------------------------------------


def function(unit: Unit, prepared: Prepared) -> _Function:
    """One function: door, body, result."""
    layout = lay_out(unit.program, frozenset(_returned(unit)), 8 if prepared.dtype == "float64" else 4,
                     prepared.block)
    program, storages, plan = layout.program, layout.storages, layout.plan
    writer = Writer(program, storages, plan)
    for name in plan.unwritten:
        writer.allocate_zero(name)
    body = writer.write(layout.nodes)
    free = free_sizes(unit.program)
    door = _door(unit, program, plan.codes, free)

    def array(name: str) -> str:
        storage = storages[name]
        if not storage.extents:
            return f"np.asarray({storage.code}, DTYPE)" if name != program.loss else storage.code
        return bare(storage)

    return _Function(*signature(unit), tuple(door), tuple(body), tuple(_result(unit, program, array)))


def verdicts(unit: Unit, itemsize: int = 4, block: int | None = None) -> tuple[Verdict, ...]:
    """The memory verdicts of one function."""
    return lay_out(unit.program, frozenset(_returned(unit)), itemsize, block).verdicts


def _returned(unit: Unit) -> Iterable[str]:
    """The tensors that leave the function."""
    program = unit.program
    yield from (program.loss, *program.outputs)
    yield from (program.gradients[name] for name in unit.wrt if name in program.gradients)
    yield from program.tangents.values()


def signature(unit: Unit) -> tuple[str, str, str]:
    """The name of a unit's function, its arguments and its docstring."""
    match unit.kind:
        case "value_and_grad":
            return ("value_and_grad", "params, batch, aux=False",
                    "The loss and its gradients, a dict like params: (loss, grads), with aux (loss, grads, aux).")
        case "loss":
            return "loss", "params, batch", "The loss alone."
        case "predict":
            return "predict", "params, batch", "The outputs alone, by name (no targets needed)."
        case "jvp":
            return ("jvp", "params, batch, direction",
                    "The loss and its derivative along a direction (a dict like params): (loss, slope).")
        case "hvp":
            return ("hvp", "params, batch, direction",
                    "The Hessian of the loss times a direction (a dict like params): a dict like params.")
    raise ValueError(unit.kind)


def _door(unit: Unit, program: Program, codes: Mapping[str, str], free: Sequence[str]) -> list[str]:
    lines = []
    directions = unit.directions or {}
    inputs = [t for t in program.inputs if t.name not in directions.values()]
    listed = f"({', '.join(repr(t.name) for t in inputs)}{',' if len(inputs) == 1 else ''})".replace("'", '"')
    call = "_check(params, batch)" if unit.kind != "predict" else f"_check(params, batch, {listed})"
    if unit.kind in ("jvp", "hvp"):
        call = "_check(params, batch)"
    if free:
        lines.append(f"{', '.join(free)}{',' if len(free) == 1 else ''} = {call}")
    else:
        lines.append(call)
    if unit.kind in ("jvp", "hvp"):
        lines.append('_check_like("direction", direction, params)')
    if unit.kind == "predict":
        for name in untold(program, inputs):
            lines += [f"if {name} is None:", f"    {UNTOLD.format(name)}"]
    used = _used(program)
    entry = {t.name: "" if t.rank else "[()]" for t in program.tensors}  # [()]: the number itself, no view of the caller's
    lines += [f'{codes[t.name]} = params["{t.name}"]{entry[t.name]}' for t in program.parameters if t.name in used]
    # Subscripts are computed with: 8 bits, or no sign, would wrap round.
    wide = {t.name: ".astype(np.intp, copy=False)" if t.is_index else "" for t in inputs}
    lines += [f'{codes[t.name]} = batch["{t.name}"]{wide[t.name]}{entry[t.name]}' for t in inputs if t.name in used]
    lines += [f'{codes[made]} = direction["{name}"]{entry[made]}' for name, made in directions.items() if made in used]
    return lines


def _used(program: Program) -> set[str]:
    from symbolic.program import tensor_of

    used = {tensor_of(entry) for equation in program.equations for entry in equation.reads}
    used.update(program.outputs)
    return used


def _result(unit: Unit, program: Program, array: Any) -> list[str]:
    outputs = [f'"{program.links.get(name, name)}": {array(name)}' for name in program.outputs]
    match unit.kind:
        case "loss":
            return [f"return float({array(program.loss)})"]
        case "predict":
            return _dict("return ", outputs)
        case "jvp":
            slope = program.tangents.get(program.loss)  # none where nothing of the loss depends on the parameters
            return [f"return float({array(program.loss)}), {f'float({array(slope)})' if slope else '0.0'}"]
        case "hvp":
            pairs = [(n, program.gradients.get(n)) for n in unit.wrt]
            given = {t.name: "params" for t in program.parameters}
            return _dict("return ", [
                f'"{n}": {array(t)}' if t else f'"{n}": np.zeros_like({given.get(n, "batch")}["{n}"])' for n, t in pairs])
    lines = _dict("grads = ", [f'"{name}": {array(program.gradients[name])}' for name in unit.wrt])
    lines.append("if aux:")
    lines += [f"    {line}" for line in _dict(f"return float({array(program.loss)}), grads, ", outputs)]
    lines.append(f"return float({array(program.loss)}), grads")
    return lines


def _dict(head: str, items: Sequence[str]) -> list[str]:
    one = f"{head}{{{', '.join(items)}}}"
    if len(one) <= 110:
        return [one]
    return [f"{head}{{", *(f"    {item}," for item in items), "}"]


# ---- init -----------------------------------------------------------------------------------------------------------


def _init(prepared: Prepared) -> tuple[list[str], list[str]]:
    from symbolic.initialisers import fans

    program = prepared.program
    lines = []
    used: dict[str, str] = {}
    free = sorted({str(s) for t in program.parameters for e in t.shape for s in e.free_symbols
                   if program.sizes.get(str(s)) is None})
    lines.append("for name in sizes:")
    lines.append(f"    if name not in {tuple(free)!r}:".replace("'", '"'))
    listed = ", ".join(free) or "none"
    lines.append(f"        raise ValueError(f\"init: the size {{name}} is not free here; free sizes of parameters: {listed}\")")
    lines.append("rng = np.random.default_rng(seed)")
    for name in free:
        lines.append(f'if "{name}" not in sizes:')
        lines.append(f'    raise ValueError("init: the size {name} is free; give it, init({name}=...)")')
        lines.append(f'{name} = sizes["{name}"]')
    items = []
    for tensor in program.parameters:
        init = prepared.initialisers[tensor.name]
        used[init.initialiser.name] = init.initialiser.source
        made = tensor.shape[::-1] if init.transposed else tensor.shape
        fan_in, fan_out = fans(made)
        shape = ", ".join(map(integer_text, made)) + ("," if tensor.rank == 1 else "")
        extra = "".join(f", {_number(a)}" for a in init.arguments)
        call = f"{init.initialiser.name}(rng, ({shape}), {integer_text(fan_in)}, {integer_text(fan_out)}{extra})"
        stored = f"np.ascontiguousarray({call}.T, DTYPE)" if init.transposed else f"np.asarray({call}, DTYPE)"
        items.append(f'"{tensor.name}": {stored}')
    lines += ["return {", *(f"    {item}," for item in items), "}"]
    return lines, [used[name].strip() + "\n\n" for name in sorted(used)]


def _number(value: Expr) -> str:
    return repr(float(value)) if isinstance(value, sp.Float) else integer_text(value)
