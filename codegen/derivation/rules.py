"""The names of rules: what happened at one step of a derivation, read off the equation, the read and the partial derivative."""

from __future__ import annotations

from collections.abc import Iterator

from sympy import Expr, Function, Indexed, Mul, Pow, exp

from codegen.derivation.provenance import Path
from symbolic.analysis import index_reads
from symbolic.functions import row_of
from symbolic.program import Equation, Reduction, index_symbols, operands

__all__ = ["FORMS", "FORWARD", "MACHINE", "RESCALES", "functions_around", "rules_of", "shift_of"]

FORMS = {
    "constants": "put in, for it is a number",
    "zeros": "what no equation writes is 0",
    "reuse": "reuse of a forward value",
    "cancel": "multiplied out, because terms cancel",
    "closed": "with the known adjoints put in",
    "normalised": "softmax:",
    "sigmoid": "1 minus the sigmoid of x is that of -x",
}
"""Why an adjoint takes its next form."""

FORWARD = {
    "logistic": ("A logistic function.", "As written, the exponential overflows where the function itself is finite."),
    "logarithm": ("The logarithm of a product.", "As written, the product underflows where its logarithm is finite."),
    "log_sum_exp": ("Exponentials under a sum.", (
        "As written, the exponential overflows for large arguments. From here on all terms and their sum have a common factor, "
        "which makes the greatest term 1, so that nothing overflows, and which cancels in what reads them. That shift counts as "
        "constant: the value does not depend on it.")),
    "monotone": ("A maximum of what never falls.", "The function may be applied after the maximum, to fewer entries."),
    "specialise": ("A sum of one term.", "An equality fixes the index of the sum, so nothing is left to add up."),
    "blend": ("A weighted mean.", "One product does instead of two."),
}
"""Why a forward equation is not computed as it was written."""

RESCALES = frozenset(("log_sum_exp",))
"""Those that give tensors between other values, and the loss the same."""

MACHINE = {
    "inline": ("Put into the one reader.", "An adjoint that one equation makes and one reads is not stored."),
    "gather": ("Index shifts.", "Each entry is written once, at its own place."),
    "common": ("Computed once.", "A costly term of several equations gets a place of its own."),
    "contractions": ("Factors taken out of sums.", "What does not depend on the index of a sum may stand outside."),
    "duplicates": ("One sum instead of two.", "Two sums over one domain are one."),
    "reuse": ("Forward values read again.", "A term that is stored already is read."),
    "cancel": ("Multiplied out.", "Terms cancel."),
    "constants": ("Numbers put in.", "A tensor that is the same number everywhere is that number."),
    "zeros": ("Zeros left out.", "What no equation writes is 0."),
    "separate": ("One equation for each entry of a maximum.", ""),
}
"""What was done for the machine after the mathematics was there."""


def rules_of(path: Path) -> list[str]:
    """The rules by which ``d source / d read`` is what it is, by their usual names."""
    if path.source is None or path.origin.read is None:
        return []
    source, read = path.source, path.origin.read
    found = []
    if source.reduction is Reduction.MAX:
        found.append("rule of the maximum, which goes to the entry that attains it first")
    around = functions_around(source.body, read)
    if _is_factor(source.body, read):
        found.append("product rule")
    found += [f"derivative of {name}" for name in dict.fromkeys(around)]
    if not found:
        found.append("sum rule")
    if index_reads(read.indices):
        found.append("rule of the gather, by which only the entry that was read receives something")
    return found


def shift_of(source: Equation, read: Indexed) -> list[tuple[str, Expr]]:
    """The indices at which an entry is read at another place than the target's: ``t`` with ``-1`` for ``h[t-1]``."""
    found = []
    own = {part: part for part in source.target.indices}
    for part in read.indices:
        symbols = index_symbols(part)
        if len(symbols) == 1 and not part.atoms(Indexed):
            (symbol,) = symbols
            distance = part - symbol
            if distance != 0 and not index_symbols(distance) and symbol in own:
                found.append((str(symbol), distance))
    return found


def functions_around(body: Expr, read: Indexed) -> list[str]:
    """The functions that are applied to something with the read in it, outermost first."""
    found = []
    for node in _around(body, read):
        if isinstance(node, exp):
            found.append("exp")
        elif isinstance(node, Function) and row_of(node) is not None:
            found.append(type(node).__name__)
        elif isinstance(node, Pow):
            found.append("1/x" if node.exp == -1 else "a power")
    return found


def _is_factor(body: Expr, read: Indexed) -> bool:
    """Whether something with the read in it is multiplied by other values."""
    return any(
        isinstance(node, Mul) and any(operands(part) for part in node.args if not part.has(read)) for node in _around(body, read)
    )


def _around(body: Expr, read: Indexed) -> Iterator[Expr]:
    """The nodes above every occurrence of the read, from the top."""
    if isinstance(body, Indexed) or not body.has(read):
        return
    yield body
    for part in body.args:
        yield from _around(part, read)
