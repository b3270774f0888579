"""The text of ``NAME_c.py``: the interface of the NumPy module over the functions of ``NAME.c``.

It stands alone beside ``NAME.c`` and ``NAME.h`` and imports NumPy and the standard library. Tables, ``init``, ``update``,
``selfcheck`` and the words of the door are those of the NumPy module; what compiles and loads is building.py, as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from codegen.numpy.door import UNTOLD, Quick, free_sizes, least_sizes, quick_check, slow_check_text, untold
from codegen.numpy.emit import shared_context, signature
from codegen.numpy.helpers import needed
from codegen.numpy.printer import integer_text
from codegen.prepared import Prepared, Unit
from symbolic.errors import SpecError
from symbolic.program import Tensor

__all__ = ["Fields", "binding_text", "double_macro", "fields"]


@dataclass(frozen=True)
class Fields:
    """The members of the structs of ``NAME.h``, in order, as names of tensors.

    ``dims``: free sizes. ``grads``: also the members of the struct of directions; a gradient has its tensor's name. ``outputs``:
    those of ``value_and_grad`` and of ``predict``.
    """

    dims: tuple[str, ...]
    params: tuple[str, ...]
    inputs: tuple[str, ...]
    grads: tuple[str, ...]
    outputs: tuple[str, ...]


def fields(prepared: Prepared) -> Fields:
    """The members of the structs of a model's header."""
    program = prepared.program
    wrt = next(unit.wrt for unit in prepared.units if unit.kind == "value_and_grad")
    return Fields(tuple(free_sizes(program)), tuple(t.name for t in program.parameters), tuple(t.name for t in program.inputs),
                  tuple(wrt), tuple(program.outputs))


def double_macro(name: str) -> str:
    """The macro that makes the reals of a float32 ``NAME.c`` double, as ``selfcheck`` needs them."""
    return f"{name.upper()}_DOUBLE"


def binding_text(prepared: Prepared, header: str) -> str:
    """The text of ``NAME_c.py`` for a model whose ``NAME.h`` has this text. Raises SpecError for a size whose name it needs."""
    for name in prepared.program.sizes:
        if name in WORDS:
            raise SpecError(f"expected another name for the size '{name}', which {prepared.name}_c.py uses; choose another")
    shared = shared_context(prepared)
    check = slow_check_text(prepared.program)
    members = fields(prepared)
    program = prepared.program
    asked = _asked(prepared)
    predicted = _unit(prepared, "predict").program.outputs
    context = {
        **shared, "what": "loss, gradients, prediction and update, computed by the C functions beside this file",
        "double": double_macro(prepared.name), "header": hashlib.sha256(header.encode()).hexdigest(),
        "functions": {unit.kind: signature(unit) for unit in prepared.units},
        "calls": _tuple(f'("{unit.kind}", {POINTERS[unit.kind]})' for unit in prepared.units),
        "dtypes": "(np.float32, np.float64)" if prepared.dtype == "float32" else "(np.float64,)",
        "dims": len(members.dims), "arguments": "".join(f", {name}" for name in members.dims),
        "members": _members(prepared, members, asked),
        "wrt": _tuple(map(_quoted, members.grads)), "directed": _directed(members),
        "gradients": _tuple(_array(program.tensor(name)) for name in members.grads),
        "rooms": _tuple(_array(program.tensor(name)) for name in members.outputs),
        "predicted": _tuple(_array(program.tensor(name)) for name in predicted),
        "predicted_names": _tuple(_quoted(program.links.get(name, name)) for name in predicted),
        "asked": _tuple(map(_quoted, asked)),
        "door": _door(prepared), "predict_door": _door_of_predict(prepared, asked),
        "building": building_text(), "check": check, "helpers": needed([*shared["optimiser"]["lines"], check]),
    }
    return str(_template().render(m=context)).rstrip() + "\n"


POINTERS = {"value_and_grad": 7, "loss": 5, "predict": 5, "jvp": 7, "hvp": 6}
"""How many pointers each C function takes before the size of its workspace."""

WORDS = frozenset(
    "BuildError Compiler FLAGS Iterator NamedTuple OSError FileNotFoundError PermissionError MemoryError RuntimeError "
    "RuntimeWarning any atexit bool build cache_folder chr compilers ctypes "
    "hashlib id importlib load next open os platform setattr shlex shutil sorted struct subprocess sys tempfile threading types "
    "warnings".split()
)
"""What the text says besides the words of the NumPy module: a size of such a name would change its meaning."""


def building_text() -> str:
    """The part of building.py that every ``NAME_c.py`` has."""
    text = files("codegen.c").joinpath("templates/building.py").read_text(encoding="utf-8")
    return re.sub(r"  # noqa: .*", "", text.split("# ---- building ----\n", 1)[1]).strip()


@lru_cache(maxsize=1)
def _template() -> Any:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("codegen.c"), PackageLoader("codegen.numpy")]), undefined=StrictUndefined,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 - Python is written, not HTML
    )
    return environment.get_template("binding.py.jinja")


# ---- the door --------------------------------------------------------------------------------------------------------


def _door(prepared: Prepared) -> list[str]:
    """The body of ``_door``: what is right is found out at once, what is not is converted or said in words."""
    program = prepared.program
    quick = quick_check(program, memory=True)
    lines = _quickly(quick, free_sizes(program), [quick.local[t.name] for t in program.parameters],
                     [quick.local[t.name] for t in program.inputs])
    return [*lines, "return _door_slowly(params, batch, dtype, tuple(INPUTS))"]


def _door_of_predict(prepared: Prepared, asked: Sequence[str]) -> list[str]:
    """The body of ``_door_of_predict``: only the inputs that it needs; sizes that nobody needs are small."""
    program = prepared.program
    unit = _unit(prepared, "predict")
    unknown = untold(unit.program, [program.tensor(name) for name in asked])
    free = free_sizes(program)
    quick = quick_check(program, asked, memory=True)
    least = least_sizes(program)
    lines = []
    if not unknown:
        sizes = [name if name in quick.told else str(least[name]) for name in free]
        lines = _quickly(quick, sizes, [quick.local[t.name] for t in program.parameters],
                         [quick.local[name] for name in asked])
    if all(name in quick.told for name in free):
        return [*lines, f"return _door_slowly(params, batch, dtype, {_tuple(map(_quoted, asked))})"]
    lines.append(f"{_tuple(free)}, *_arrays = _door_slowly(params, batch, dtype, {_tuple(map(_quoted, asked))})")
    for name in unknown:
        lines += [f"if {name} is None:", f"    {UNTOLD.format(name)}"]
    sizes = [name if name in (*quick.told, *unknown) else f"{least[name]} if {name} is None else {name}" for name in free]
    return [*lines, f"return {_tuple(sizes)}, *_arrays"]


def _quickly(quick: Quick, sizes: Sequence[str], params: Sequence[str], inputs: Sequence[str]) -> list[str]:
    return [
        "try:",
        *(f"    {line}" for line in quick.fetch),
        "    array = np.ndarray",
        "    if (",
        *(f"        {'and ' if k else ''}{test}" for k, test in enumerate(quick.tests)),
        "    ):",
        f"        return {_tuple(sizes)}, {_tuple(params)}, {_tuple(inputs)}",
        "except (KeyError, AttributeError, IndexError, TypeError):",
        "    pass  # said in words below",
    ]


# ---- parts -----------------------------------------------------------------------------------------------------------


def _unit(prepared: Prepared, kind: str) -> Unit:
    return next(unit for unit in prepared.units if unit.kind == kind)


def _asked(prepared: Prepared) -> list[str]:
    """The inputs that ``predict`` needs."""
    needed_by = {t.name for t in _unit(prepared, "predict").program.inputs}
    return [t.name for t in prepared.program.inputs if t.name in needed_by]


def _members(prepared: Prepared, members: Fields, asked: Sequence[str]) -> Mapping[str, str]:
    """The structs of pointers as texts, a letter for each member: P, or 0 for what predict leaves null."""
    predicted = _unit(prepared, "predict").program.outputs
    return {**{name: "P" * len(getattr(members, name)) for name in ("params", "inputs", "grads", "outputs")},
            "predict_inputs": "".join("P" if name in asked else "0" for name in members.inputs),
            "predict_outputs": "".join("P" if name in predicted else "0" for name in members.outputs)}


def _directed(members: Fields) -> str:
    """What a direction is like, as the text of a dict."""
    params = "dict(zip(PARAMETERS, weights))"
    found = [f'"{n}": inputs[{members.inputs.index(n)}]' for n in members.grads if n in members.inputs]
    return f"{{**{params}, {', '.join(found)}}}" if found else params


def _array(tensor: Tensor) -> str:
    return f"np.empty({_tuple(map(integer_text, tensor.shape))}, {'np.int64' if tensor.is_index else 'dtype'})"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _tuple(items: Iterable[str]) -> str:
    items = list(items)
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
