"""Code generation: schedules, targets, verification and the command line of Chainrule."""

from __future__ import annotations

TYPE_CHECKING = False  # not typing's: this is read before the command can say that it was interrupted, and must be short
if TYPE_CHECKING:
    from typing import Any

    from codegen.pipeline import compile, generate  # noqa: A004 - the fixed name

__all__ = ["compile", "generate"]


def __getattr__(name: str) -> Any:
    """``codegen.generate`` and ``codegen.compile``, loaded at first use (SymPy is slow to import)."""
    if name in ("generate", "compile"):
        from importlib import import_module

        return getattr(import_module("codegen.pipeline"), name)
    raise AttributeError(f"module 'codegen' has no attribute '{name}'")
