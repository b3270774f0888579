"""Which names a spec may use: plain ASCII identifiers that mean nothing else in Python, C or the generated modules.

A name that passes here is safe wherever it is printed: source text, a file name, a LaTeX or HTML page.
"""

from __future__ import annotations

import keyword
import re
import sys

from symbolic.spec.reading import show

__all__ = ["C_KEYWORDS", "RESERVED", "check_model_name", "check_name", "mangle"]

MAX_NAME = 60
"""The longest name; C99 promises 63 significant characters of an identifier."""

C_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "alignas alignof asm atomic bool complex constexpr false generic imaginary noreturn nullptr static_assert "
    "thread_local true typeof typeof_unqual".split()
)
"""Keywords of C99 to C23, and the macros that stand for them."""

RESERVED = frozenset(
    "np loss params batch grads aux range dict list tuple set str type print object super self slice enumerate zip "
    "isinstance reversed sorted ValueError TypeError KeyError numpy main NULL size_t ptrdiff_t errno stdin stdout "
    "stderr DTYPE "
    "value_and_grad predict init update jvp hvp selfcheck seed sizes hyper direction dims workspace".split()
)
"""Names that the generated modules need for themselves."""

SPOKEN = frozenset(
    "AssertionError AttributeError IndexError INPUTS OUTPUTS PARAMETERS abs above all array below dtype error expected found "
    "getattr globals hasattr int len map max min name names rng step "
    "zeros constant uniform normal fan_uniform glorot_uniform glorot_normal he_uniform he_normal lecun_uniform lecun_normal "
    "orthogonal identity forget_gate".split()
)
"""Names that sizes cannot have either: they are variables of the generated module beside what these words mean there."""

_DEVICES = frozenset(["con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))])
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def check_name(name: object, what: str, reserved: bool = True, adjoint: bool = True) -> str:
    """Why ``name`` cannot be a name of ``what``, or an empty text.

    ``reserved``: it stands in generated code by itself, with no layer's name before it. ``adjoint``: it names a tensor,
    so that ``d_...`` would be taken for an adjoint.
    """
    expected = f"expected the name of {what} (a letter, then letters, digits and _)"
    if not isinstance(name, str):
        return f"{expected}, found {show(name)}"
    if not _NAME.fullmatch(name):
        return f"{expected}, found {show(name)}"
    if len(name) > MAX_NAME:
        return f"expected a name of at most {MAX_NAME} characters, found {len(name)} in {show(name)}"
    if "__" in name:
        return f"{expected}, found {show(name)}; two underscores in a row are reserved"
    if keyword.iskeyword(name):
        return f"expected the name of {what}, found the Python keyword {show(name)}; choose another"
    if name in C_KEYWORDS:
        return f"expected the name of {what}, found the C keyword {show(name)}; choose another"
    spoken = name in RESERVED or what == "a size" and name in SPOKEN
    if reserved and (spoken or (adjoint and name.startswith("d_"))):
        why = "the generated module uses it" if spoken else "adjoints are called d_..."
        return f"expected the name of {what}, found {show(name)}, which is reserved ({why}); choose another"
    return ""


def check_model_name(name: object) -> str:
    """Why ``name`` cannot name a model, its files and its functions, or an empty text."""
    found = check_name(name, "a model")
    if found:
        return found
    if str(name) in sys.stdlib_module_names or str(name) in ("numpy", "generated", "symbolic", "codegen"):
        hidden = f"which is a Python module; a file {name}.py would hide it"
        return f"expected the name of a model, found {show(name)}, {hidden}"
    if str(name).lower() in _DEVICES:
        return f"expected the name of a model, found {show(name)}, which Windows reserves; choose another"
    return ""


def mangle(name: str) -> str:
    """A tensor's name as an identifier of generated code: ``rnn.W`` is ``rnn_W``."""
    return name.replace(".", "_")
