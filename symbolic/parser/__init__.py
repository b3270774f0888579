"""Equation text to Equations: a whitelist over Python's ``ast``; nothing in the text is ever evaluated.

    a[t,n,i] = W[i,k]*x[t,n,k] + U[i,j]*h[t-1,n,j] + b[i]
    h[t,n,i] = tanh(a[t,n,i])

Each product term of a right-hand side is one Equation and sums over its own indices that are missing on the left. Inside a
function or a power a missing index is reduced openly, ``sum(e, over=k)``, ``mean(e, over=k)``, ``max(e, over=(p, q))``, and
staged in a tensor of its own; left out, it is an error that shows both readings. A comparison as a factor is a guard.
The grammar is in docs/equations.md.
"""

from __future__ import annotations

from symbolic.errors import Location
from symbolic.parser.build import build
from symbolic.parser.extent import parse_extent
from symbolic.parser.reader import Reader
from symbolic.parser.scope import Parsed, Scope

__all__ = ["Parsed", "Scope", "parse", "parse_extent"]


def parse(text: str, scope: Scope, where: Location | None = None, first_number: int = 1) -> Parsed:
    """The equations of a text. Raises EquationError with line, column and a caret."""
    return build(Reader(text, scope, where or Location("<equations>"), first_number).read())
