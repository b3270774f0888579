"""Lines that fit a terminal: broken between words there, whole where a file or a pipe takes them."""

from __future__ import annotations

import shutil
import sys
import textwrap

__all__ = ["fold", "tell"]


def fold(text: str, width: int | None, further: str = "") -> str:
    """The text in lines of ``width`` at most, broken at blanks; ``further`` stands before all but the first. ``None``: as it is.

    A word that is longer than a line stays whole: a path or an equation's term is to be copied, not cut.
    """
    if width is None:
        return text
    first = text[: len(text) - len(text.lstrip())]
    return textwrap.fill(text.strip(), width, initial_indent=first, subsequent_indent=first + further, break_long_words=False,
                         break_on_hyphens=False)


def tell(text: str, further: str = "   ") -> None:
    """Print a line, folded where the output is a terminal."""
    print(fold(text, shutil.get_terminal_size().columns if sys.stdout.isatty() else None, further))
