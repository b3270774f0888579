"""Identifiers of the C files: a tensor ``rnn.W`` is ``rnn_W``, and nothing is called as C or its headers call theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from codegen.numpy.names import Identifiers
from symbolic.program import Program
from symbolic.spec.names import C_KEYWORDS

__all__ = ["RESERVED", "CIdentifiers", "field_names"]

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


def field_names(program: Program) -> Mapping[str, str]:
    """For each tensor of a program its identifier in C, the same one wherever it stands (as a field, or as a variable): those
    of the interface first, so that theirs hang on nothing else.

    >>> from symbolic import load
    >>> names = field_names(load("loss = exp_[n]*w[n]", inputs={"exp_": ["N"]}, parameters={"w": ["N"]}, loss="loss").program())
    >>> [names["w"], names["exp_"], names["loss"]]
    ['w', 'exp_', 'loss_2']
    """
    supply = CIdentifiers(program.sizes)
    first = [t.name for t in (*program.parameters, *program.inputs)]
    first += [name for name in program.outputs if name not in first]
    ordered = [*first, *(t.name for t in program.tensors if t.name not in set(first))]
    return {name: supply.fresh(name) for name in ordered}
