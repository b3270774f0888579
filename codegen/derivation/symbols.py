"""A symbol for each tensor: ``rnn.W`` is W, with its layer above it where several layers have a W.

``W_h`` is a W with an h below, ``h0`` an h with a 0 above; what is no letter stands upright in full. Indices, sizes and tensors
are three namespaces, and stay apart on paper too: a tensor without axes that is called like an index or a size is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from codegen.derivation.formula import Fence, Formula, Letter, List, Number, Script, Word
from symbolic.program import Program, Role

__all__ = ["GREEK", "Symbol", "free", "letter_or_word", "symbols"]

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega".split()
)


@dataclass(frozen=True)
class Symbol:
    """A letter or a word, what belongs to the name below it (the h of W_h) and above it (the layer)."""

    base: Letter | Word
    below: Formula | None = None
    above: tuple[Formula, ...] = ()

    def entry(self, subscripts: Iterable[Formula] = (), base: Formula | None = None) -> Formula:
        """The symbol with subscripts; ``base``: what stands in the place of its letter (the letter with a bar)."""
        letter = base or self.base
        below = tuple(subscripts)
        above = Fence(List(self.above)) if self.above else None
        if self.below is not None:
            named = Script(letter, self.below, above)
            return Script(Fence(named), List(below)) if below else named
        return Script(letter, List(below) if below else None, above) if below or above else letter


def letter_or_word(name: str, bold: bool = False) -> Letter | Word:
    """A letter where the name is one, or of one."""
    return Letter(name, bold) if len(name) == 1 or name in GREEK else Word(name, bold)


def symbols(program: Program) -> Mapping[str, Symbol]:
    """A symbol for each tensor of a program but adjoints and tangents; all are distinct."""
    adjoints = set(program.gradients.values())
    names = [t.name for t in program.tensors if t.role is not Role.TANGENT and t.name not in adjoints]
    taken = {i.name for e in program.equations for i in e.indices} | set(program.sizes)
    own: dict[str, list[str]] = {}
    for name in names:
        own.setdefault(name.rpartition(".")[2], []).append(name)
    found: dict[str, Symbol] = {}
    for name in names:
        layer, _, local = name.rpartition(".")
        symbol = _split(local)
        if not program.tensor(name).rank and symbol == Symbol(Letter(local)) and local in taken:
            symbol = Symbol(Word(local))
        below = getattr(symbol.below, "name", getattr(symbol.below, "text", ""))
        if below in taken and local.rpartition("_")[0] in own:
            symbol = Symbol(Word(local))  # u_i beside u[i]
        if layer and len(own[local]) > 1:
            symbol = replace(symbol, above=(_level(layer), *symbol.above))
        found[name] = symbol
    if program.loss in found:
        found[program.loss] = Symbol(Letter("calL" if "L" in taken else "L"))
    return _distinct(found, program.loss)


def free(choices: Sequence[str], known: Mapping[str, Symbol], program: Program) -> Letter:
    """The first of some letters that no tensor, index or size of a document has; the last where all are taken."""
    taken = {i.name for e in program.equations for i in e.indices} | set(program.sizes)
    taken |= {symbol.base.name for symbol in known.values() if isinstance(symbol.base, Letter)}
    return Letter(next((letter for letter in choices if letter not in taken), choices[-1]))


def _level(layer: str) -> Formula:
    return Number(layer) if layer.isdigit() else Word(layer)


def _split(local: str) -> Symbol:
    """The symbol of a name within its layer."""
    stem, _, last = local.rpartition("_")
    if stem and last.isdigit():
        inner = _split(stem)
        return replace(inner, above=(*inner.above, Number(last)))
    if stem and last and (len(stem) == 1 or stem in GREEK):
        return Symbol(Letter(stem), letter_or_word(last))
    if split := re.fullmatch(r"([A-Za-z])(\d+)", local):  # below stand the subscripts
        return Symbol(Letter(split[1]), None, (Number(split[2]),))
    if split := re.fullmatch(r"([A-Z])([a-z]+)", local):
        return Symbol(Letter(split[1]), letter_or_word(split[2]))
    return Symbol(letter_or_word(local))


def _distinct(found: Mapping[str, Symbol], loss: str) -> dict[str, Symbol]:
    """Where two names have one symbol (``W_h`` and ``Wh``), the later stands as a word in full; the loss yields first."""
    done: dict[str, Symbol] = {}
    seen: set[Symbol] = set()
    for name, symbol in sorted(found.items(), key=lambda pair: pair[0] == loss):
        if symbol in seen:
            symbol = Symbol(Letter("calL") if name == loss else Word(name))
        seen.add(symbol)
        done[name] = symbol
    return {name: done[name] for name in found}
