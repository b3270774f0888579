"""What holds throughout a derivation, said once: only what this model needs; and what each tensor is."""

from __future__ import annotations

from collections.abc import Iterable

from sympy import Function

from codegen.derivation.document import Code, Inline, Math, Words, words
from codegen.derivation.formula import Fence, Letter, Number, Row, Script, Sign, Word, row
from codegen.derivation.index_form import IndexForm
from codegen.derivation.notation import Notation
from codegen.derivation.provenance import Derivation
from codegen.derivation.softmax import Softmax
from codegen.derivation.symbols import letter_or_word
from symbolic.functions import FUNCTIONS, Unspecified
from symbolic.program import IndexName, Kind, Program, Reduction, Role, Tensor

__all__ = ["conventions", "described", "sizes_of"]

_ROLES = {
    Role.PARAMETER: "parameter", Role.INPUT: "input", Role.STATE: "state", Role.INTERMEDIATE: "intermediate value",
    Role.OUTPUT: "output", Role.ADJOINT: "value of the backward pass",
}


def conventions(derivation: Derivation, notation: Notation) -> tuple[Words, ...]:
    """The conventions that this derivation uses."""
    program, form = derivation.derived, notation.index
    found = [sizes_of(program)]
    if notation.matrix is not None or derivation.rolled is not None:
        found += _matrices(form.adjoint == "code", notation.matrix is None)
    found.append(words("Indices count from 0. A sum without a range runs over the whole axis that its index subscripts."))
    loss = form.symbols[program.loss].entry()
    x = Letter("X")
    if form.adjoint == "code":
        found.append(words("The derivative of ", Math(loss), " by a tensor ", Math(x), ", its adjoint, is called ", Code("d_X"),
                           " and has the shape of ", Math(x), "."))
    else:
        by = derivation.wrt[0] if derivation.wrt else program.loss
        tensor = Math(notation.symbol(by))
        found.append(words(Math(notation.adjoint(by)), " is the derivative of ", Math(loss), " by ", tensor, ", its adjoint: it "
                           "has the shape of ", tensor, ", and is called ", Code(f"d_{by}"), " in code."))
    if _reads_outside(program):
        given = any(part.is_Integer and part.is_negative for e in program.equations for part in e.target.indices)
        found.append(words("An entry outside its tensor's bounds is 0", ", unless an equation gives it a value" if given else "",
                           ". So are all boundary terms: values before the first step, "
                           "adjoints after the last one, and what a window reads beyond the edge."))
    if any(e.guards for e in program.equations) or _gathers(program):
        found.append(words(Math(Fence(Word("condition"), "[]")),
                           " is 1 where the condition holds, and where it fails the term does not exist."))
    if any(e.reduction is not Reduction.SUM for e in program.equations):
        found.append(words("Of several greatest entries the first counts."))
    if functions := sorted({f.base for e in derivation.given.equations for f in e.body.atoms(Unspecified)}):
        shown = [Math(letter_or_word(name)) for name in functions]
        found.append(words("Left unspecified: ", *[p for k, m in enumerate(shown) for p in ((", ", m) if k else (m,))],
                           ", of one argument and differentiable; a prime marks a derivative."))
    kinks = _kinks(program)
    if kinks:
        found.append(words("Where a function has a kink, its derivative there is a convention: " + "; ".join(kinks) + "."))
    return tuple(found)


def _matrices(plain: bool, in_parts: bool) -> list[Words]:
    """How matrices are written; ``in_parts``: only where the network is rolled out."""
    x, ones, top = Letter("X", bold=True), Letter("one", bold=True), Letter("top")
    letters = ("The last two axes of a tensor make a matrix, a single one a column vector; the axes before them, and all that "
               "are stepped along, are subscripts.")
    if in_parts:
        letters = ("Where the network is rolled out, the last axes of a tensor make a matrix or a column vector: bold, a capital "
                   "or a small letter. The axes before them are subscripts; of vectors, a subscript that is the same throughout "
                   "may be left out.")
    elif not plain:
        letters += (" Bold capitals are matrices, bold small letters vectors, or matrices whose capital is another tensor's; the "
                    "table shows the subscripts of each. What has no matrix form is written entry by entry.")
    return [
        words(letters),
        words(Math(Sign("odot")), " multiplies entry by entry; functions, fractions and numbers added to a matrix work on "
                                  "each entry too. ",
              Math(Script(x, None, top)), " is the transpose, ", Math(ones), " a vector of ones, ",
              Math(Row((Letter("a"), Sign(":"), Letter("b")))), " as a subscript a slice from ", Math(Letter("a")), " to below ",
              Math(Letter("b")), ", ", Math(Word("diag")), " the diagonal matrix of a vector. Where a vector meets a matrix "
              "entry by entry, in a sum, a product, a fraction or a function, it stands for itself in every row."),
    ]


def described(tensor: Tensor, form: IndexForm, names: Iterable[Softmax] = ()) -> Words:
    """What a tensor is: its role, the range of an index tensor, why it counts as constant; for a name that is for formulas alone
    what it stands for."""
    about: list[Inline] = ["the loss" if tensor.name == form.program.loss else _ROLES[tensor.role]]
    if tensor.kind is Kind.INDEX:
        about.append(", integers")
        if tensor.below is not None:
            about += [" from ", Math(form.show(tensor.low)), " to below ", Math(form.show(tensor.below))]
        if tensor.ignore is not None:
            about += [f", or {tensor.ignore}, which is ignored"]
    if tensor.note:
        about.append(f", {tensor.note}")
    for made_up in names:
        if made_up.name == tensor.name and not made_up.given:
            stands = made_up.equation
            about += [": ", Math(row(form.show(stands.target), Sign("="), form.show(stands.body)))]
    if tensor.constant:
        about.append(", counts as constant")
    return words(*about)


def sizes_of(program: Program) -> Words:
    """The sizes of a program, those that are fixed first."""
    fixed = [(n, v) for n, v in program.sizes.items() if v is not None]
    free = [n for n, v in program.sizes.items() if v is None]
    found: list[Inline] = []
    for k, (name, value) in enumerate(fixed):
        found += [", " if k else "", Math(row(_size(name), Sign("="), Number(str(value))))]
    if free:
        found.append("; " if fixed else "")
        for k, name in enumerate(free):
            found += [", " if k else "", Math(_size(name))]
        found.append(" is any number" if len(free) == 1 else " are any numbers")
    return words("Sizes: ", *(found or ["none"]), ".")


def _size(name: str) -> Letter | Word:
    return Letter(name) if len(name) == 1 else Word(name)


def _reads_outside(program: Program) -> bool:
    """Whether some entry is read or written at a composite subscript, which may leave its axis."""
    return any(
        not isinstance(part, IndexName) and not part.is_Integer
        for e in program.equations for entry in (*e.reads, e.target) for part in entry.indices
    )


def _gathers(program: Program) -> bool:
    return any(part.args and not isinstance(part, IndexName) for e in program.equations for part in e.target.indices)


def _kinks(program: Program) -> list[str]:
    used = {type(f).__name__ for e in program.equations for f in e.body.atoms(Function)}
    return [row_.kinks for name, row_ in FUNCTIONS.items() if name in used and row_.kinks and not row_.kinks.startswith("jumps")]
