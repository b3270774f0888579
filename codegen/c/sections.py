"""The C text that every file may need: integer helpers, scalar functions, products; a file has the sections that it calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["defined", "needed", "sections"]

_HEAD = re.compile(r"^/\* === section (\w+): needs (.*?) === \*/\n", re.MULTILINE)
FILES = ("extensions.c", "products.c", "functions.c", "arithmetic.c")
"""In the order of a file: the products say how the compiler rounds, for all that follows."""


@cache
def sections() -> Mapping[str, tuple[tuple[str, ...], str]]:
    """Each section: what it needs, and its text, in the order in which they stand in a file."""
    found: dict[str, tuple[tuple[str, ...], str]] = {}
    for name in FILES:
        source = files("codegen.c").joinpath("templates", name)
        if not source.is_file():
            continue
        parts = _HEAD.split(source.read_text(encoding="utf-8"))
        for section, needs, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            wanted = () if needs == "nothing" else tuple(need.strip() for need in needs.split(","))
            found[section] = (wanted, text.strip("\n") + "\n")
    return found


def needed(text: str) -> list[str]:
    """The texts of the sections that a text calls, or a macro of which it says, with all that they need."""
    every = sections()
    wanted: set[str] = set()

    def want(section: str) -> None:
        if section not in wanted:
            wanted.add(section)
            for need in every[section][0]:
                want(need)

    said, called = set(re.findall(r"\w+", text)), set(re.findall(r"\w+(?=\()", text))
    for section, (_, body) in every.items():
        if called.intersection(_defined(body)) or said.intersection(_macros(body)):
            want(section)
    return [body for section, (_, body) in every.items() if section in wanted]


@cache
def _defined(text: str) -> tuple[str, ...]:
    """The functions that a section defines."""
    return tuple(re.findall(r"^(?:[A-Z]+ )?(?:static|INLINE) [\w ]*?\*?(\w+)\(", text, re.MULTILINE))


@cache
def _macros(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"^#define (\w+)", text, re.MULTILINE))


@cache
def defined() -> frozenset[str]:
    """Every name that a section gives to a function, a type, a constant or a macro: no array of a model has it."""
    found: set[str] = set()
    for _, text in sections().values():
        found.update(_defined(text))
        found.update(_macros(text))
        found.update(re.findall(r"^typedef .*?(\w+)(?: __attribute__.*)?;", text, re.MULTILINE))
        found.update(word for words in re.findall(r"enum \{(.*?)\}", text) for word in re.findall(r"(\w+) =", words))
    return frozenset(found)
