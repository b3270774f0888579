"""How models, programs and equations show themselves in a notebook.

Setting formulas is no mathematics, so nothing here knows how: whoever does says so once, with ``show_with``, and its module is
loaded when something is first shown. Until then formulas are SymPy's LaTeX, and all else is text.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # not typing's: this stands in the way of everything that imports a package
if TYPE_CHECKING:
    from typing import Protocol, cast

    class Printer(Protocol):
        """A module that can show values; ``None`` for one that it cannot show."""

        def latex(self, value: object) -> str | None: ...
        def html(self, value: object) -> str | None: ...


__all__ = ["Shown", "show_with"]

_module: str | None = None


def show_with(module: str | None) -> str | None:
    """Let values be shown by the functions ``latex`` and ``html`` of the module of this name; ``None``: plainly. Gives the name
    that it had before."""
    global _module
    before, _module = _module, module
    return before


class Shown:
    """A value that a notebook can show; a subclass says how it looks where nobody sets its formulas."""

    def _plain_latex(self) -> str:
        raise NotImplementedError

    def _plain_html(self) -> str:
        raise NotImplementedError

    def _repr_latex_(self) -> str:
        found = _printer().latex(self) if _module else None
        return self._plain_latex() if found is None else found

    def _repr_html_(self) -> str:
        found = _printer().html(self) if _module else None
        return self._plain_html() if found is None else found


def _printer() -> Printer:
    assert _module is not None
    module = import_module(_module)
    return cast("Printer", module) if TYPE_CHECKING else module
