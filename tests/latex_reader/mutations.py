"""Small wrongs in a formula: an index dropped, two swapped, a sign turned, a factor left out, a step shifted, another letter."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

__all__ = ["MATRICES", "MUTATIONS", "Kinds", "mutated"]

SUBSCRIPTS = re.compile(r"_\{([^{}]*,[^{}]*)\}")
FACTOR = re.compile(
    r"(?:\\frac\{\\partial L\}\{\\partial (?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
    r"|(?<![\\a-z{])[A-Za-z]_\{[^{}]*\}(?:\^\{(?:[^{}]|\{[^{}]*\})*\})?)(?:\\,| |$)"
)
Place = tuple[int, int, str]
Kinds = dict[str, Callable[[str], Iterator[Place]]]


def _dropped_index(text: str) -> Iterator[Place]:
    for match in SUBSCRIPTS.finditer(text):
        parts = match[1].split(",")
        for k in range(len(parts)):
            yield match.start(1), match.end(1), ",".join(parts[:k] + parts[k + 1 :])


def _swapped_indices(text: str) -> Iterator[Place]:
    for match in SUBSCRIPTS.finditer(text):
        parts = match[1].split(",")
        if text[: match.start()].endswith((r"\sum", r"\max")):
            continue  # the order of sums is nobody's business
        for k in range(len(parts) - 1):
            if parts[k].strip() != parts[k + 1].strip():
                yield match.start(1), match.end(1), ",".join([*parts[:k], parts[k + 1], parts[k], *parts[k + 2 :]])


def _turned_sign(text: str) -> Iterator[Place]:
    for match in re.finditer(r"(?<=\{\})[+-]|(?<=\w|\}) ([+-]) (?=[\w\\])|(?<== )-", text):
        sign = "-" if "+" in match[0] else "+"
        yield match.start(), match.end(), "" if text[: match.start()].endswith("= ") else match[0].replace(match[0].strip(), sign)


def _dropped_factor(text: str) -> Iterator[Place]:
    for match in FACTOR.finditer(text):
        yield match.start(), match.end(), ""


def _shifted_step(text: str) -> Iterator[Place]:
    for match in re.finditer(r"\bt ([+-]) 1\b", text):
        yield match.start(1), match.end(1), "-" if match[1] == "+" else "+"


def _other_letter(text: str) -> Iterator[Place]:
    for match in re.finditer(r"(?<![\\A-Za-z])[UWVh](?=[_^])", text):
        yield match.start(), match.end(), {"U": "W", "W": "U", "V": "U", "h": "a"}[match[0]]


def _other_number(text: str) -> Iterator[Place]:
    for match in re.finditer(r"(?<![\d.])\d+(?![\d.])", text):
        yield match.start(), match.end(), str(int(match[0]) + 1)


def _other_bound(text: str) -> Iterator[Place]:
    for match in re.finditer(r"\\le(?![a-z])|<|>", text):
        yield match.start(), match.end(), {r"\le": "<", "<": r"\le ", ">": "<"}[match[0]]


def _other_function(text: str) -> Iterator[Place]:
    for match in re.finditer(r"\\tanh|\\sigma|\\exp|\\log", text):
        yield match.start(), match.end(), r"\sigma" if match[0] != r"\sigma" else r"\tanh"


MUTATIONS: Kinds = {
    "dropped index": _dropped_index, "swapped indices": _swapped_indices, "turned sign": _turned_sign,
    "dropped factor": _dropped_factor, "shifted step": _shifted_step, "other letter": _other_letter,
    "other number": _other_number, "other bound": _other_bound, "other function": _other_function,
}


NESTED = r"(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*"
MATRIX = rf"(?:\\mathbf\{{\w+\}}(?:_\{{{NESTED}\}})?(?:\^\{{{NESTED}\}})?|\\frac\{{{NESTED}\}}\{{{NESTED}\}})"
BESIDE = r"(?: (?:\\brkp )?|\\,)"


def _dropped_transpose(text: str) -> Iterator[Place]:
    for match in re.finditer(r"\\,\\top(?=\})|\^\{\\top\}", text):
        yield match.start(), match.end(), ""


def _swapped_matrices(text: str) -> Iterator[Place]:
    for match in re.finditer(rf"({MATRIX})({BESIDE})(?=({MATRIX}))", text):
        yield match.start(), match.end(3), match[3] + match[2] + match[1]


def _dropped_entrywise(text: str) -> Iterator[Place]:
    for match in re.finditer(rf"{MATRIX} (?:\\brks )?\\odot ", text):
        yield match.start(), match.end(), ""


def _same_step(text: str) -> Iterator[Place]:
    for match in re.finditer(r"\bt [+-] 1\b", text):
        yield match.start(), match.end(), "t"


def _other_matrix(text: str) -> Iterator[Place]:
    for match in re.finditer(r"(?<=\\mathbf\{)[UWHbs](?=\})", text):
        yield match.start(), match.end(), {"U": "W", "W": "U", "H": "A", "b": "s", "s": "l"}[match[0]]


def _products_entrywise(text: str) -> Iterator[Place]:
    for match in re.finditer(rf"{MATRIX}({BESIDE})(?={MATRIX})| \\odot ", text):
        yield (match.start(1), match.end(1), r" \odot ") if match[1] else (match.start(), match.end(), " ")


MATRICES: Kinds = {
    "dropped transpose": _dropped_transpose, "swapped matrices": _swapped_matrices, "same step": _same_step,
    "dropped entrywise factor": _dropped_entrywise, "shifted step": _shifted_step, "turned sign": _turned_sign,
    "other matrix": _other_matrix, "another product": _products_entrywise, "other number": _other_number,
    "other function": _other_function,
}
"""Wrongs in lines of matrices."""


def mutated(text: str, chance: random.Random, most: int, kinds: Kinds = MUTATIONS) -> Iterator[tuple[str, str]]:
    """At most ``most`` wrongs of each kind on the right side of a line, before a condition that stands beside it."""
    start = text.index("=") + 1
    right, apart, rest = text[start:].partition(r"\qquad")
    for kind, places in kinds.items():
        found = list(places(right))
        for first, last, new in chance.sample(found, min(most, len(found))):
            yield kind, text[:start] + right[:first] + new + right[last:] + apart + rest
