"""Identifiers of the C files: a tensor ``rnn.W`` is ``rnn_W``, and nothing is called as C or its headers call theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sympy import Expr

from codegen.numpy.names import Identifiers
from symbolic.program import Index, Names, Program, size
from symbolic.spec.names import C_KEYWORDS

__all__ = ["RESERVED", "CIdentifiers", "field_names", "is_taken", "with_indices", "with_sizes"]

_MATH = (
    "acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh erf erfc exp exp2 expm1 fabs fdim floor fma fmax fmin "
    "fmod frexp hypot ilogb ldexp lgamma llrint llround log log10 log1p log2 logb lrint lround modf nan nearbyint nextafter "
    "nexttoward pow remainder remquo rint round scalbln scalbn sin sinh sqrt tan tanh tgamma trunc"
).split()
"""<math.h>."""

RESERVED = frozenset({
    *C_KEYWORDS, *_MATH, *(f"{name}f" for name in _MATH), *(f"{name}l" for name in _MATH),
    *("NULL EOF NAN INFINITY HUGE_VAL HUGE_VALF HUGE_VALL FLT_MAX DBL_MAX FLT_EPSILON DBL_EPSILON SIZE_MAX errno offsetof assert "
      "isnan isinf isfinite isnormal signbit fpclassify isless isgreater isunordered math_errhandling float_t double_t "
      "main size_t ptrdiff_t wchar_t intptr_t uintptr_t intmax_t uintmax_t abs labs div malloc calloc realloc free exit abort "
      "memcpy memmove memset memcmp memchr strlen linux unix").split(),
    *(f"{sign}int{kind}{bits}_t" for sign in ("", "u") for kind in ("", "_least", "_fast") for bits in (8, 16, 32, 64)),
    *"real dims params inputs grads outputs direction result slope loss workspace workspace_bytes none".split(),
})
"""Keywords, what the headers declare or define, and what the signatures of the exported functions say."""


class CIdentifiers(Identifiers):
    """One supply of identifiers for one C function, or for one file."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        super().__init__()
        self.taken = {*RESERVED, *taken}


_PARTS = ("real index dims params inputs grads outputs direction weights state hyper hyper_of_spec update loss predict jvp hvp "
          "value_and_grad workspace_bytes").split()
"""What stands after a model's name in the names of its types and functions: its sizes are constants beside them."""
_MACROS = frozenset({"NAN", "EOF", "REAL_IS_FLOAT", "PLAIN_C99", "REAL_CBLAS", "PRAGMA", "IN_SHARES", "THREADS"})
_OF_MODEL = ("H", "THREADS", "WORKSPACE_BYTES", "DOUBLE", "PLAIN_C99", "USE_CBLAS", "OK", "NULL_POINTER", "BAD_SIZE", "BAD_INDEX",
             "SMALL_WORKSPACE")
"""What stands after a model's name in capitals in macros and error codes."""
_OWN = frozenset({"at", "base", "bytes", "entries", "limit", "position", "spot", *_MACROS, *(f"i{axis}" for axis in range(12))})
_BEGINNINGS = ("layout_of_", "lay_out_", "end_of_", "most_of_", "same_", "real_", "at_")


def is_taken(word: str, model: str) -> bool:
    """Whether a file of the model uses the word for something else than a size or an index."""
    from codegen.c.sections import defined
    from codegen.c.writer import LOCALS

    macro = word.upper() == word and (word.endswith(("_MAX", "_MIN")) or word.startswith(f"{model.upper()}_"))
    return (word in RESERVED or word in LOCALS or word in defined() or word in _PARTS or word in _OWN or macro
            or word.startswith(_BEGINNINGS))


def with_sizes(program: Program, model: str) -> Program:
    """The program with other names for sizes that its file uses for something else."""
    indices = (i.name for e in program.equations for i in e.indices)
    supply = CIdentifiers((*program.sizes, *(t.name for t in program.tensors), *indices))
    names = {n: supply.fresh(f"{n}_size") for n in program.sizes if is_taken(n, model)}
    if not names:
        return program
    rule = {size(old): size(new) for old, new in names.items()}

    def changed(expr: Any) -> Any:
        return expr.xreplace(rule) if isinstance(expr, Expr) else expr

    tensors = tuple(
        replace(t, shape=tuple(map(changed, t.shape)), margin=tuple((changed(a), changed(b)) for a, b in t.margin),
                low=changed(t.low), below=changed(t.below)) for t in program.tensors)
    equations = tuple(
        replace(e.xreplace(rule), indices=tuple(Index(i.symbol, changed(i.lower), changed(i.upper)) for i in e.indices))
        for e in program.equations)
    return replace(program, tensors=tensors, equations=equations, sizes={names.get(n, n): v for n, v in program.sizes.items()})


def with_indices(program: Program, model: str) -> Program:
    """The program with other names for indices that its file uses for something else."""
    names = Names.of(program)
    equations = []
    for equation in program.equations:
        clashing = {i.symbol: names.index(f"{i.name}_index") for i in equation.indices if is_taken(i.name, model)}
        equations.append(equation.renamed(clashing) if clashing else equation)
    return program.with_equations(equations)


def field_names(program: Program) -> Mapping[str, str]:
    """For each tensor of a program its identifier in C, the same one wherever it stands (as a field, or as a variable): those
    of the interface first, so that theirs hang on nothing else.

    >>> from symbolic import load
    >>> names = field_names(load("loss = exp_[n]*w[n]", inputs={"exp_": ["N"]}, parameters={"w": ["N"]}, loss="loss").program())
    >>> [names["w"], names["exp_"], names["loss"]]
    ['w', 'exp_', 'loss_2']
    """
    from codegen.c.sections import defined

    macros = (word for word in defined() if word.isupper())
    supply = CIdentifiers((*program.sizes, *macros, *_MACROS, *(f"{program.name.upper()}_{word}" for word in _OF_MODEL)))
    first = [t.name for t in (*program.parameters, *program.inputs)]
    first += [name for name in program.outputs if name not in first]
    ordered = [*first, *(t.name for t in program.tensors if t.name not in set(first))]
    return {name: supply.fresh(name) for name in ordered}
