r"""LaTeX mathematics as a row of marks: letters, words, numbers, signs, brackets, braces. Spaces and breaks mean nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["LatexError", "Token", "argument", "tokens", "unescaped"]


class LatexError(Exception):
    """What is no mathematics, has no meaning, or has two."""


@dataclass(frozen=True, slots=True)
class Token:
    r"""``kind``: name, bold, number, sign, open, close, bar, command, text; ``text``: the letter, the word, the sign itself."""

    kind: str
    text: str


SPACES = frozenset((
    *r"\, \: \; \! \quad \displaystyle \brk \brkp \brks \brkh \allowbreak \bigl \bigr \nobreak \dmore \limits".split(),
    r"\nolimits", "\\ "))
SIGNS = {
    r"\le": "<=", r"\leq": "<=", r"\ge": ">=", r"\geq": ">=", r"\ne": "!=", r"\neq": "!=", r"\lt": "<", r"\gt": ">",
    r"\cdot": "*", r"\times": "*", r"\odot": "odot", r"\cdots": "dots", r"\dots": "dots", r"\ldots": "dots", r"\in": "in",
    r"\to": "to", r"\\": "row", r"\qquad": "apart",
}
OPENING = {"(": "(", "[": "[", "|": "|", r"\lfloor": "floor", r"\lceil": "ceil", r"\{": "{", r"\|": "||"}
CLOSING = {")": "(", "]": "[", "|": "|", r"\rfloor": "floor", r"\rceil": "ceil", r"\}": "{", r"\|": "||"}
WORDS = frozenset((r"\mathrm", r"\operatorname", r"\operatorname*", r"\mathit", r"\mathsf"))
LETTERS = frozenset(
    r"\alpha \beta \gamma \delta \epsilon \varepsilon \zeta \eta \theta \iota \kappa \lambda \mu \nu \xi \pi \rho \sigma \tau "
    r"\upsilon \phi \varphi \chi \psi \omega \Gamma \Delta \Theta \Lambda \Xi \Pi \Sigma \Phi \Psi \Omega \ell \infty".split()
)
FUNCTIONS = frozenset(r"\tanh \sinh \cosh \sin \cos \tan \arctan \exp \log \ln \max \min".split())
MARK = re.compile(r"\\[A-Za-z]+\*?|\\.|\d+(?:\.\d+)?|[A-Za-z]|\s+|.", re.DOTALL)


def argument(text: str, start: int) -> tuple[str, int]:
    """What stands between the braces that open at or after ``start``, and the place after them."""
    while start < len(text) and text[start].isspace():
        start += 1
    if start >= len(text) or text[start] != "{":
        raise LatexError(f"expected an argument in braces at {text[start : start + 20]!r}")
    depth, at = 0, start
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
        if not depth:
            return text[start + 1 : at - 1], at
    raise LatexError(f"a brace is not closed: {text[start : start + 40]!r}")


def unescaped(text: str) -> str:
    """Running text without its escapes: ``y\\_max`` is y_max."""
    return re.sub(r"\\([_%&#${} ])", r"\1", text.replace(r"\allowbreak{}", "").replace(r"\,", " ")).strip()


def tokens(text: str) -> list[Token]:
    """The marks of a formula. Raises LatexError for a command that is no mathematics."""
    found: list[Token] = []
    at = 0
    while at < len(text):
        match = MARK.match(text, at)
        assert match is not None
        mark, start, at = match[0], at, match.end()
        if mark.endswith("*") and mark != r"\operatorname*":
            mark, at = mark[:-1], at - 1
        if text.startswith("{:}", start):
            found.append(Token("sign", ":"))
            at = start + 3
        elif mark.isspace() or mark in SPACES or mark == "~" or text.startswith("{}", start):
            at = start + 2 if mark == "{" else at
        elif mark in (r"\left", r"\right"):
            inner = MARK.match(text, at)
            table = OPENING if mark == r"\left" else CLOSING
            if inner is None or inner[0] not in table:
                raise LatexError(f"no bracket after {mark}: {text[at : at + 10]!r}")
            found.append(Token("open" if mark == r"\left" else "close", table[inner[0]]))
            at = inner.end()
        elif mark in WORDS or mark in (r"\text", r"\mathbf", r"\boldsymbol", r"\mathcal"):
            inside, at = argument(text, at)
            kind = "text" if mark == r"\text" else "bold" if mark in (r"\mathbf", r"\boldsymbol") else "name"
            word = unescaped(inside)
            alone = mark == r"\mathcal" or mark == r"\mathrm" and len(word) == 1  # another letter than the plain one
            found.append(Token(kind, rf"{mark}{{{word}}}" if alone else word))
        elif mark == r"\mathrel":
            inside, at = argument(text, at)
            found += tokens(inside)
        elif mark in (r"\begin", r"\end"):
            inside, at = argument(text, at)
            found.append(Token("command", f"{mark}{{{inside}}}"))
        else:
            found.append(_single(mark))
    return found


def _single(mark: str) -> Token:
    if mark[0].isdigit():
        if mark[0] == "0" and mark.isdigit() and len(mark) > 1:
            return Token("name", mark)  # 00 is a label, and another than 0
        return Token("number", mark)
    if len(mark) == 1 and mark.isalpha():
        return Token("name", mark)
    if mark in SIGNS:
        return Token("sign", SIGNS[mark])
    if mark in LETTERS:
        return Token("name", mark)
    if mark in FUNCTIONS:
        return Token("name", mark[1:])
    if mark in OPENING and mark != "|":
        return Token("open", OPENING[mark])
    if mark in CLOSING and mark != "|":
        return Token("close", CLOSING[mark])
    if mark in (r"\frac", r"\sqrt", r"\sum", r"\prod", r"\bar", r"\partial", r"\prime", r"\top") or mark in "{}_^&":
        return Token("command", mark)
    if mark == "|":
        return Token("bar", mark)  # opens or closes: the grammar knows
    if mark in "+-=<>,/*:;'.":
        return Token("sign", mark)
    raise LatexError(f"{mark!r} is no mathematics that this reader knows")
