"""From prepared Programs to the text of NAME.h and NAME.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from codegen.c.function import Function, function
from codegen.c.interface import structs
from codegen.c.layout import workspace_bytes, workspace_lines
from codegen.c.names import field_names, with_sizes
from codegen.c.sections import needed
from codegen.c.update import update
from codegen.prepared import Prepared

__all__ = ["emit"]


def emit(prepared: Prepared) -> dict[str, str]:
    """The texts of NAME.h and NAME.c, by file name."""
    prepared = replace(prepared, program=with_sizes(prepared.program, prepared.name), units=tuple(
        replace(unit, program=with_sizes(unit.program, prepared.name)) for unit in prepared.units))
    fields = field_names(prepared.program)
    functions = [function(unit, prepared, fields) for unit in prepared.units]
    free = [n for n, v in prepared.program.sizes.items() if v is None]
    workspace = workspace_lines(prepared, functions, free)
    updated = update(prepared, fields, next(unit.wrt for unit in prepared.units if unit.kind == "value_and_grad"))
    lines = [*(line for f in functions for line in (*f.lines, *f.layout)), *workspace, *updated.steps, *updated.lines]
    text = "\n".join(lines)
    sections = needed(text)
    context = {
        "name": prepared.name, "upper": prepared.name.upper(), "dtype": prepared.dtype, "source": prepared.source,
        "digest": prepared.digest[:16], "command": prepared.command,
        "constants": sorted((n, v) for n, v in prepared.program.sizes.items() if v is not None),
        "structs": structs(prepared, fields, free), "updating": updated, "functions": functions, "sections": sections,
        "workspace_lines": workspace, "workspace_bytes": None if free else _bytes_texts(functions, prepared),
        "threads": "THREADS" in text,
        "library": any("by_library(" in section for section in sections),
    }
    return {f"{prepared.name}.h": _render("header.h.jinja", context), f"{prepared.name}.c": _render("source.c.jinja", context)}


def _bytes_texts(functions: Sequence[Function], prepared: Prepared) -> list[str]:
    """The bytes of the workspace as a constant, for float and for double."""
    return [f"({one} + ({prepared.name.upper()}_THREADS - 1)*{more})" if more else str(one)
            for one, more in workspace_bytes(functions, prepared)]


def _render(name: str, context: Mapping[str, Any]) -> str:
    return str(_environment().get_template(name).render(m=context)).rstrip() + "\n"


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(loader=PackageLoader("codegen.c"), undefined=StrictUndefined, keep_trailing_newline=True,
                       autoescape=False)  # noqa: S701 - C is written, not HTML
