"""What a text is read against, and what is known of its lines while it is read."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sympy import Expr

from symbolic.program import Equation, IndexName, Reduction, Tensor

__all__ = ["Line", "Parsed", "Scope", "Term"]


@dataclass(frozen=True)
class Scope:
    """What names in a text mean.

    ``prefix`` is put before every name that the text defines; ``tensors`` maps local names to tensors that exist;
    ``sizes`` local names to extents; ``ranges`` an index to its extent or (lower, upper); ``fixed`` sizes to their values (so
    that V and 65 are the same extent where V = 65); ``functions`` names functions that the model leaves unspecified.
    """

    prefix: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    sizes: Mapping[str, Expr] = field(default_factory=dict)
    ranges: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[Any, int] = field(default_factory=dict)
    functions: Collection[str] = ()


@dataclass(frozen=True)
class Parsed:
    """What a text defines: new intermediate tensors, and its equations in order."""

    tensors: tuple[Tensor, ...]
    equations: tuple[Equation, ...]


@dataclass
class Term:
    """One product term while it is read: its factor, guards, the reduction, and the indices reduced openly."""

    node: ast.AST
    body: Expr
    guards: list[Any] = field(default_factory=list)
    reduction: Reduction = Reduction.SUM
    over: tuple[IndexName, ...] | None = None


@dataclass
class Line:
    """One equation to be: target, terms, and where it stands. Staged reductions are lines of their own."""

    node: ast.AST
    name: str
    subscripts: tuple[Expr, ...]
    bare: tuple[IndexName | None, ...]
    terms: list[Term]
    text: str
    number: int
    staged: bool = False
    adds: bool = False
