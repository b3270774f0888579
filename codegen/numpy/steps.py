"""Loops over views instead of subscripts: ``for h_tm1, a_t, h_t in zip(h[:T], a, h[1:])``.

A step of a recurrence on a small net costs as much in subscripts as in arithmetic; iterating over an array yields the same
views at a third of the price, and the names say what a step reads and writes. Rewrites the text of one innermost loop:
every access ``X[t + c, ...]`` that is in bounds at all steps becomes a name of the loop's header. What is left that needs
``t`` itself (a mask, an entry of a vector) keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import sympy as sp

from codegen.lower import Storage
from codegen.numpy.printer import integer_text
from codegen.schedule import Loop
from symbolic.analysis import is_equal, is_nonnegative
from symbolic.program import Program

__all__ = ["iterate", "loop_range"]

WIDTH = 116
_POSITIONAL = re.compile(r"^(\s*(?:np\.(?!maximum|minimum|clip)\w+|_sigmoid|\w+\.dot)\(.*), out=([\w\[\]., :+-]+)\)$")
"""Calls that take the result's place as a last argument (for maximum and minimum NumPy wants the keyword)."""


def iterate(
    body: Sequence[str], loop: Loop, code: str, indent: str, storages: Mapping[str, Storage], program: Program,
    fresh: Callable[[str], str],
) -> list[str]:
    """The lines of a loop: its header, and its body over named views. ``storages`` by identifier."""
    access = re.compile(rf"(?<![\w.\"])(\w+)\[{code}(?: ([+-]) (\d+))?((?:, [^\[\]]*)?)\]")
    found: dict[tuple[str, int, str], str] = {}
    for line in body:
        if line.lstrip().startswith("#"):
            continue
        for match in access.finditer(line):
            key = (match[1], int(f"{match[2] or '+'}{match[3] or 0}"), match[4])
            storage = storages.get(match[1])
            if key not in found and storage is not None and _iterable(storage, key, loop, program):
                found[key] = fresh(_name(storage, key, code, found))

    def named(match: re.Match[str]) -> str:
        key = (match[1], int(f"{match[2] or '+'}{match[3] or 0}"), match[4])
        return found.get(key, match[0])

    lines = []
    for line in body:
        if line.lstrip().startswith("#"):
            lines.append(line)
            continue
        replaced = access.sub(named, line)
        stored = re.match(r"(\s*)(\w+) = ", replaced)
        if stored and stored[2] in found.values():  # fill the view, do not bind its name anew
            replaced = f"{stored[1]}{stored[2]}[...] = {replaced[stored.end():]}"
        # Inside a loop calls count, and a keyword costs a tenth of one: the result's place is the last argument.
        lines.append(_POSITIONAL.sub(r"\1, \2)", replaced))
    uses = re.compile(rf"(?<![\w.]){code}(?!\w)")
    needed = any(uses.search(line) for line in lines if not line.lstrip().startswith("#"))
    names = [code] if needed or not found else []
    sources = [loop_range(loop)] if needed or not found else []
    for key, name in found.items():
        names.append(name)
        sources.append(_steps(storages[key[0]], key, loop, program))
    return [*_header(names, sources, indent), *lines]


def _iterable(storage: Storage, key: tuple[str, int, str], loop: Loop, program: Program) -> bool:
    """Whether the access is a view (not a number) whose other subscripts stay the same, in bounds at every step."""
    _, offset, rest = key
    if any(word not in program.sizes for word in re.findall(r"[A-Za-z_]\w*", rest)):
        return False  # it moves with this loop (h[t, :t]) or with one inside it
    parts = [part.strip() for part in rest.split(",")[1:]] if rest else []
    axes = len(storage.extents) - 1 - sum(":" not in part for part in parts)
    return (
        axes >= 1
        and is_nonnegative(loop.upper - loop.lower, program)
        and is_nonnegative(loop.lower + offset, program)
        and is_nonnegative(storage.extents[0] - loop.upper - offset, program)
    )


def _name(storage: Storage, key: tuple[str, int, str], code: str, found: Mapping[tuple[str, int, str], str]) -> str:
    """``h_t``, ``h_tm1``, ``h_tp1`` by the subscript that the equation has (the halo taken off); slices are counted."""
    name, offset, rest = key
    before = storage.before[0]
    lag = offset - int(before) if before.is_Integer else offset
    suffix = code if lag == 0 else f"{code}{'m' if lag < 0 else 'p'}{abs(lag)}"
    part = sum(other[0] == name and other[1] == offset and other[2] != "" for other in found) if rest else 0
    return f"{name}_{suffix}" if not rest else f"{name}_{suffix}_part{part + 1}"


def loop_range(loop: Loop) -> str:
    """The ``range`` that a loop's variable runs over."""
    start, stop = integer_text(loop.lower), integer_text(loop.upper)
    if loop.descending:
        last = integer_text(sp.expand(loop.lower - 1))
        return f"range({integer_text(sp.expand(loop.upper - 1))}, {last}, -1)"
    return f"range({stop})" if start == "0" else f"range({start}, {stop})"


def _steps(storage: Storage, key: tuple[str, int, str], loop: Loop, program: Program) -> str:
    """The array whose items are the views of all steps, in the order of the loop."""
    name, offset, rest = key
    first, last = sp.expand(loop.lower + offset), sp.expand(loop.upper + offset)
    whole = is_equal(last, storage.extents[0], program)
    if loop.descending and is_nonnegative(loop.upper - loop.lower - 1, program) and (
        first == 0 or is_nonnegative(first - 1, program)
    ):
        start = "" if whole else integer_text(sp.expand(last - 1))
        stop = "" if first == 0 else integer_text(sp.expand(first - 1))
        return f"{name}[{start}:{stop}:-1{rest}]"
    start, stop = "" if first == 0 else integer_text(first), "" if whole else integer_text(last)
    if loop.descending:  # there may be no step at all: T-2::-1 would be the last one where T is 1
        return f"{name}[{start}:{stop}{rest}][::-1]"
    if not start and not stop and not rest:
        return name
    return f"{name}[{start}:{stop}{rest}]"


def _header(names: Sequence[str], sources: Sequence[str], indent: str) -> list[str]:
    if len(names) == 1:
        return [f"{indent}for {names[0]} in {sources[0]}:"]
    head = f"{indent}for {', '.join(names)} in zip({', '.join(sources)}):"
    if len(head) <= WIDTH:
        return [head]
    lines = [f"{indent}for ("]
    lines += _wrapped(names, indent + "    ")
    lines.append(f"{indent}) in zip(")
    lines += _wrapped(sources, indent + "    ")
    lines.append(f"{indent}):")
    return lines


def _wrapped(parts: Sequence[str], indent: str) -> list[str]:
    lines, line = [], indent
    for part in parts:
        if len(line) + len(part) + 2 > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent
        line += f"{part}, "
    lines.append(line.rstrip())
    return lines

