"""Code generation: schedules, targets, verification and the command line of Chainrule."""

from __future__ import annotations

from symbolic.display import show_with

TYPE_CHECKING = False  # not typing's: this is read before the command can say that it was interrupted, and must be short
if TYPE_CHECKING:
    from typing import Any

    from codegen.derivation.derived import derive
    from codegen.pipeline import compile, generate  # noqa: A004 - the fixed name

__all__ = ["compile", "derive", "generate"]

_HOMES = {"compile": "codegen.pipeline", "derive": "codegen.derivation.derived", "generate": "codegen.pipeline"}

show_with("codegen.notebook")  # models, programs and equations, from now on


def __getattr__(name: str) -> Any:
    """``codegen.generate`` and the like, loaded at first use (SymPy is slow to import)."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'codegen' has no attribute '{name}'")
