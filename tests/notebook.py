"""Running a notebook without Jupyter: its cells one after another, each last expression asked how it shows itself."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Output", "cells", "run"]

METHODS = {"text/html": "_repr_html_", "text/markdown": "_repr_markdown_", "text/latex": "_repr_latex_"}


@dataclass(frozen=True)
class Output:
    """What a cell printed, its last value, and how that shows itself, by type."""

    printed: str
    value: Any
    shown: dict[str, str]


def cells(path: Path, kind: str = "code") -> list[str]:
    """The texts of a notebook's cells of one kind."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def run(path: Path) -> list[Output]:
    """Run the code cells in the notebook's folder, as Jupyter does; the first error ends it."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    found = []
    with contextlib.chdir(path.parent):
        for k, text in enumerate(cells(path)):
            body, last = ast.parse(text).body, None
            if body and isinstance(body[-1], ast.Expr):
                last = ast.Expression(body.pop().value)  # type: ignore[attr-defined]
            name = f"<{path.name}, code cell {k + 1}>"
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(ast.Module(body, []), name, "exec"), scope)
                value = eval(compile(last, name, "eval"), scope) if last is not None else None
            shown = {kind: getattr(value, method)() for kind, method in METHODS.items() if hasattr(value, method)}
            if value is not None:
                shown["text/plain"] = repr(value)
            found.append(Output(printed.getvalue(), value, shown))
    return found
