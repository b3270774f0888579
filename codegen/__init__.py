"""Code generation: schedules, targets, verification and the command line of Chainrule."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["compile", "generate"]


def __getattr__(name: str) -> Any:
    """``codegen.generate`` and ``codegen.compile``, loaded at first use (SymPy is slow to import)."""
    if name in ("generate", "compile"):
        return getattr(import_module("codegen.pipeline"), name)
    raise AttributeError(f"module 'codegen' has no attribute '{name}'")
