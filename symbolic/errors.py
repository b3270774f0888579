"""One tree of errors: each says what is wrong, where, what was expected and found, and what to do.

The exit status of the command line hangs on the class (see docs/errors.md): 1 a gradient is wrong, 2 the spec or the call
is wrong, 3 the machine lacks something.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

__all__ = [
    "ArgumentError",
    "ChainruleError",
    "EquationError",
    "GradientError",
    "Location",
    "MachineError",
    "ProgramError",
    "ScheduleError",
    "SpecError",
    "listed",
    "nearest",
]


@dataclass(frozen=True)
class Location:
    """A place in a text that a person wrote: file, line and column count from 1."""

    file: str = "<spec>"
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class ChainruleError(Exception):
    """Root of every error that is the user's to mend; anything else that escapes is a bug of ours."""

    exit_status = 2


class ArgumentError(ChainruleError, TypeError):
    """An argument of a Python call that is of another kind than the call takes."""


class SpecError(ChainruleError):
    """A spec that cannot be a model: ``file:line:column: path: what was expected, what was found, what to do``."""

    def __init__(self, message: str, *, where: Location | None = None, path: str = "") -> None:
        self.message, self.where, self.path = message, where, path
        prefix = "".join(f"{part}: " for part in (where, path) if part)
        super().__init__(f"{prefix}{message}")

    def at(self, where: Location | None = None, path: str = "") -> SpecError:
        """The same error with a place filled in where it has none yet."""
        return type(self)(self.message, where=self.where or where, path=self.path or path)


class EquationError(SpecError):
    """Equation text that has no meaning, shown with the line and a caret under the place."""

    def __init__(
        self, message: str, *, where: Location | None = None, path: str = "", line: str = "", offset: int = 0
    ) -> None:
        self.line, self.offset, self.bare_message = line, offset, message
        shown = f"{message}\n    {line}\n    {' ' * offset}^" if line else message
        super().__init__(shown, where=where, path=path)

    def at(self, where: Location | None = None, path: str = "") -> EquationError:
        return EquationError(
            self.bare_message, where=self.where or where, path=self.path or path, line=self.line, offset=self.offset
        )

    def add(self, more: str) -> EquationError:
        """The same error with more said."""
        return EquationError(
            self.bare_message + more, where=self.where, path=self.path, line=self.line, offset=self.offset
        )


class ProgramError(ChainruleError):
    """A Program that breaks a law of the IR (an illegal domain, an undefined tensor, an entry that needs itself).

    ``law``: the message without the program's name; ``where``: the place in a user's text, where the equation has one.
    """

    def __init__(self, message: str, *, law: str = "", where: Location | None = None) -> None:
        self.law, self.where = law or message, where
        super().__init__(message)


class ScheduleError(ChainruleError):
    """A Program that no order of loops can compute; the message names the cycle."""


class GradientError(ChainruleError):
    """A gradient that does not agree with its oracle."""

    exit_status = 1


class MachineError(ChainruleError):
    """Something the machine lacks: a compiler, TeX, space on the disk."""

    exit_status = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'tanh'?"`` where a known name is near, else an empty text.

    Near: seven letters of ten agree, or six of ten where one name begins with the other (``units`` is not ``init``).
    Capital letters do not count.
    """
    known = sorted(known)
    for other in known:
        if other.casefold() == name.casefold():
            return f"; did you mean '{other}'?"
    close = get_close_matches(name, known, n=3, cutoff=0.6)
    sure = set(get_close_matches(name, close, n=3, cutoff=0.7))
    found = [other for other in close if other in sure or other.startswith(name) or name.startswith(other)]
    return f"; did you mean '{found[0]}'?" if found else ""


def listed(known: Iterable[str], most: int = 12) -> str:
    """``"; known: x, y, hid"``, the first few of the names that would have been right; an empty text where there are none."""
    names = list(dict.fromkeys(known))
    return f"; known: {', '.join(names[:most])}{', ...' if len(names) > most else ''}" if names else ""
