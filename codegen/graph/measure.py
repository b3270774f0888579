"""How wide a text prints, on the safe side: no font is asked, so the drawing is the same on every machine and fits on each.

The widths are those of DejaVu Sans, the widest of the fonts that browsers take for ``sans-serif`` and ``monospace``.
"""

from __future__ import annotations

__all__ = ["MONO", "SANS", "width"]

SANS, MONO = "sans", "mono"
_MONO = 0.61
_WIDE, _FULL = "mwMW@%—∂Σ…·−×–²", 1.0
_NARROW = "ijl.,:;'|![]()ftI "
_OTHER = {"narrow": 0.42, "lower": 0.65, "upper": 0.8}


def width(text: str, size: float, font: str = MONO, bold: bool = False) -> float:
    """The width of a text in pixels."""
    return size * sum(_advance(letter, font) for letter in text) * (1.1 if bold and font == SANS else 1)


def _advance(letter: str, font: str) -> float:
    if ord(letter) >= 0x1100:
        return 1.05 if ord(letter) >= 0x2E80 else max(_MONO, 0.9)
    if font == MONO:
        return _MONO if letter.isascii() else 0.72  # may come from another font
    if letter in _NARROW:
        return _OTHER["narrow"]
    if letter in _WIDE:
        return _FULL
    return _OTHER["upper"] if letter.isupper() else _OTHER["lower"]
