"""What can be chosen by name: for the command line, for Python, for the messages of both. It is read before anything heavy."""

from __future__ import annotations

__all__ = ["ADJOINTS", "DOCUMENTS", "DTYPES", "FORMATS", "LEVELS", "MODULES", "NOTATIONS", "TARGETS", "TOLD"]

TARGETS = {
    "numpy": "a Python module that imports NumPy alone",
    "c": "a C99 file that allocates nothing and needs the C library alone, and its Python binding",
    "latex": "the derivation as a LaTeX document",
    "html": "the derivation as one page, with the code beside it",
}
MODULES = ("numpy", "c")
"""The targets that compute; ``check`` can hold these."""
DOCUMENTS = ("latex", "html")
"""The targets that are read."""

FORMATS = {"text": ".txt", "latex": ".tex", "markdown": ".md", "html": ".html", "pdf": ".pdf", "svg": ".svg"}
"""The formats of a derivation, and the suffix of a file that asks for one."""
TOLD = ("text", "latex", "markdown", "html", "pdf")
"""Those with the derivation in words and formulas; the other is the drawing alone."""
NOTATIONS = ("index", "matrix")
ADJOINTS = ("frac", "bar", "delta")
"""How dL/dX is written: as a fraction, as X with a bar, as a delta with X above it."""
LEVELS = ("layers", "equations")
"""What a drawing has as nodes."""

DTYPES = ("float32", "float64")
