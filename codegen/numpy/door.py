"""The door of an emitted module: free sizes read off the shapes, and words for what does not fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy import Expr, Symbol

from codegen.numpy.names import Identifiers
from codegen.numpy.printer import Text, integer_text
from symbolic.analysis import is_nonnegative
from symbolic.errors import SpecError
from symbolic.program import Program, Role, Size, Tensor, size

__all__ = ["UNTOLD", "Quick", "check_text", "free_sizes", "least_sizes", "quick_check", "slow_check_text", "untold"]


def free_sizes(program: Program) -> list[str]:
    """The sizes that a call fixes."""
    return [name for name, value in program.sizes.items() if value is None]


def check_text(program: Program) -> str:
    """``_check``: the free sizes, found in the shapes; a quick test of everything, and the words where it fails."""
    return _fast_check(program) + "\n\n" + slow_check_text(program)


def slow_check_text(program: Program) -> str:
    """``_check_slowly`` and what it calls."""
    free = free_sizes(program)
    tensors = _tensors(program)
    where = _places_of_sizes(program, tensors, free)
    lines = ["def _check_slowly(params, batch, names=tuple(INPUTS)):",
             '    """The free sizes, read off the shapes. Raises ValueError: which array, what was expected, what came."""',
             f"    {'sizes = ' if free else ''}_sizes(params, batch, names)"]
    sources = {t.name: source for t, source in tensors}
    for name, (tensor_name, axis, solved) in where.items():
        if solved is _BARE:
            lines.append(f'    {name} = sizes.get("{name}")')
        else:
            source = sources[tensor_name]
            text = integer_text(solved.xreplace({_BARE: Text(f'{source}["{tensor_name}"].shape[{axis}]')}))
            lines.append(f"    {name} = {text}" + (f' if "{tensor_name}" in names else None' if source == "batch" else ""))
    for tensor, source in tensors:
        shape = ", ".join(integer_text(e) for e in tensor.shape) + ("," if tensor.rank == 1 else "")
        low = integer_text(tensor.low) if tensor.is_index else "None"
        below = integer_text(tensor.below) if tensor.is_index and tensor.below is not None else "None"
        call = f'_array({source}, "{tensor.name}", ({shape}), {low}, {below}, {tensor.ignore})'
        if source == "params":
            lines.append(f"    {call}")
            continue
        lines.append(f'    if "{tensor.name}" in names:')
        for asked in _asked(tensor, free):
            if sources[where[asked][0]] == "batch" and where[asked][0] != tensor.name:
                lines += [f"        if {asked} is None:", f"            {UNTOLD.format(asked)}"]
        lines.append(f"        {call}")
    for extent, name in _derived(program, free).items():
        known = sorted(s.name for s in extent.free_symbols if s.name in free)
        told = " and ".join(f"{s} is not None" for s in known)
        lines.append(f"    if {told} and {integer_text(extent)} < 0:")
        lines.append(f'        raise ValueError(f"{_too_small(program, extent, name, known, where, sources)}")')
    lines.append("    for name in params:\n        if name not in PARAMETERS:\n"
                 "            raise ValueError(f\"params: unknown name '{name}'; expected {', '.join(PARAMETERS)}\")")
    result = ", ".join(free) + ("," if len(free) == 1 else "")
    lines.append(f"    return {result}" if free else "    return None")
    return "\n".join(lines) + "\n\n" + _WORDS


UNTOLD = 'raise ValueError("predict: no input that is given tells the size {}; add one that has it")'


def _asked(tensor: Tensor, free: Sequence[str]) -> list[str]:
    """The free sizes that an extent of several parts needs."""
    parts = [e for e in tensor.shape if not isinstance(e, Size)]
    return [name for name in free if any(s.name == name for e in parts for s in e.free_symbols)]


_BARE = sp.Dummy("length")
"""The length of an axis, in the expression that gives a size from it."""


def _tensors(program: Program) -> list[tuple[Tensor, str]]:
    """What a call gives: each tensor, and the dict that has it."""
    return [(t, "params") for t in program.parameters] + [(t, "batch") for t in program.inputs]


def _places_of_sizes(
    program: Program, tensors: Sequence[tuple[Tensor, str]], free: Sequence[str]
) -> dict[str, tuple[str, int, Expr]]:
    """For each free size an axis and what gives the size from its length: the length itself, or ``length//2`` for ``2*H``.

    Raises SpecError where no axis gives a size, as for ``M*N`` alone.
    """
    found = _told(tensors, free)
    for name in free:
        if name not in found:
            raise SpecError(f"expected an axis that gives the size '{name}' at run time, found it only inside products or "
                            f"quotients; write sizes: {{{name}: ...}}")
    return found


def _told(tensors: Sequence[tuple[Tensor, str]], free: Sequence[str]) -> dict[str, tuple[str, int, Expr]]:
    """``_places_of_sizes`` for those sizes that these tensors tell."""
    found: dict[str, tuple[str, int, Expr]] = {}
    for bare in (True, False):
        progress = True
        while progress:
            progress = False
            for tensor, _ in tensors:
                for axis, extent in enumerate(tensor.shape):
                    unknown = [s for s in extent.free_symbols if s.name in free and s.name not in found]
                    if len(unknown) != 1 or bare and not isinstance(extent, Size):
                        continue
                    (symbol,) = unknown
                    step = sp.expand(extent).coeff(symbol)
                    rest = sp.expand(extent - step * symbol)
                    if rest.has(symbol) or step.has(symbol) or step == 0:
                        continue
                    solved = _BARE if bare else sp.floor((_BARE - rest) / step)
                    found[symbol.name], progress = (tensor.name, axis, solved), True
    return found


def _derived(program: Program, free: Sequence[str]) -> dict[Expr, str]:
    """The extents of computed tensors that small sizes would make negative (``A - 4``), each with its first tensor. An extent of
    0 is none to refuse: a sum over nothing is 0."""
    found: dict[Expr, str] = {}
    for tensor in program.tensors:
        for extent in tensor.shape if tensor.role not in (Role.PARAMETER, Role.INPUT) else ():
            if any(s.name in free for s in extent.free_symbols) and not is_nonnegative(extent, program):
                found.setdefault(extent, tensor.name)
    return found


def _too_small(
    program: Program, extent: Expr, name: str, known: Sequence[str], where: Mapping[str, tuple[str, int, Expr]],
    sources: Mapping[str, str],
) -> str:
    """The words for an extent that is less than 0: the array, its size, and the least that would do where one size decides."""
    found = ", ".join(f"{s} = {{{s}}}" for s in known)
    arrays = ", ".join(dict.fromkeys(f"{sources[where[s][0]]}['{where[s][0]}']" for s in known))
    (symbol, *others) = [s for s in extent.free_symbols if s.name in known]
    least = None if others else _least(program, symbol, where)
    wanted = f"{symbol} of at least {least}" if least is not None else f"{integer_text(extent)} of at least 0"
    return f"{arrays}: expected {wanted}, found {found}, which is too small for '{name}' ({integer_text(extent)} < 0)"


def _least(program: Program, symbol: Symbol, free: Collection[str]) -> int | None:
    """The least size for which no extent that hangs on it alone is negative."""
    alone = [e.xreplace(dict(program.fixed)) for e in _derived(program, [symbol.name])
             if {s.name for s in e.free_symbols if s.name in free} == {symbol.name}]
    return next((n for n in range(1, MOST) if all(e.xreplace({symbol: sp.Integer(n)}) >= 0 for e in alone)), None)


def least_sizes(program: Program) -> dict[str, int]:
    """For each free size a small one that is allowed."""
    free = free_sizes(program)
    return {name: _least(program, size(name), free) or 1 for name in free}


STRAIGHT = 0x101
"""NumPy's flags of an array that lies in memory as C takes it: contiguous and aligned."""

MOST = 4096
"""Sizes that are tried for the least that will do."""


@dataclass(frozen=True)
class Quick:
    """A quick test that a call is right: lines that fetch the arrays and the sizes, and the tests that must all hold.

    ``local``: the variable of each tensor. ``told``: the free sizes that the shapes tell. In the tests ``array`` stands for
    the class of arrays, ``dtype`` for that of real ones; ``ranked``: whether they say ``array``.
    """

    local: Mapping[str, str]
    told: tuple[str, ...]
    fetch: tuple[str, ...]
    tests: tuple[str, ...]
    ranked: bool


def quick_check(program: Program, inputs: Collection[str] | None = None, memory: bool = False) -> Quick:
    """The quick test of the parameters and of all inputs, or the named ones.

    ``memory``: the arrays must lie in memory as C takes them, and their subscripts are left for C to check.
    """
    free = free_sizes(program)
    tensors = [(t, source) for t, source in _tensors(program) if source == "params" or inputs is None or t.name in inputs]
    where = _places_of_sizes(program, tensors, free) if inputs is None else _told(tensors, free)
    names = Identifiers((*program.sizes, "array", "dtype", "names", "len", "type", "tuple"))
    local = {t.name: names.fresh(t.name) for t, _ in tensors}
    quick = []
    for tensor, _ in tensors:
        shape = ", ".join(integer_text(e) for e in tensor.shape) + ("," if tensor.rank == 1 else "")
        item = local[tensor.name]
        if tensor.rank or memory:
            quick.append(f"type({item}) is array")
        quick.append(f"{item}.shape == ({shape})")
        if tensor.is_index and memory:
            quick.append(f"{item}.dtype == np.int64")
        elif tensor.is_index:
            quick.append(f'{item}.dtype.kind in "iu"')
            if tensor.below is not None and tensor.ignore is None:
                quick.append(f"_in_range({item}, {integer_text(tensor.low)}, {integer_text(tensor.below)})")
        else:
            quick.append(f"{item}.dtype == dtype")
    fetch = [f'{local[t.name]} = {source}["{t.name}"]' for t, source in tensors]
    fetch += [f"{name} = {integer_text(solved.xreplace({_BARE: Text(f'{local[array]}.shape[{axis}]')}))}"
              for name, (array, axis, solved) in where.items()]
    extents = [e for e in _derived(program, free) if {s.name for s in e.free_symbols if s.name in free} <= {*where}]
    tests = [f"len(params) == {len(program.parameters)}", *(f"{name} >= 1" for name in free if name in where), *quick,
             *(f"{integer_text(extent)} >= 0" for extent in extents)]
    items = list(local.values()) if memory else []
    for k in range(0, len(items), 5):
        tests.append(f"{' & '.join(f'{item}.flags.num' for item in items[k:k + 5])} & {STRAIGHT} == {STRAIGHT}")
    return Quick(local, tuple(name for name in free if name in where), tuple(fetch), tuple(tests),
                 memory or any(tensor.rank for tensor, _ in tensors))


def _fast_check(program: Program) -> str:
    lines = ["def _check(params, batch, names=None):",
             '    """The free sizes, read off the shapes; ValueError says which array is wrong, what was expected, what came."""']
    tensors = _tensors(program)
    free = free_sizes(program)
    result = ", ".join(free) + ("," if len(free) == 1 else "")
    if tensors and not any(t.ignore is not None for t, _ in tensors):
        quick = quick_check(program)
        lines.append("    if names is None:")
        lines.append("        try:")
        lines += [f"            {line}" for line in quick.fetch]
        lines.append(f"            {'array, dtype = np.ndarray, ' if quick.ranked else 'dtype = '}np.dtype(DTYPE)")
        lines.append("            if (")
        lines += [f"                {'and ' if k else ''}{test}" for k, test in enumerate(quick.tests)]
        lines.append("            ):")
        lines.append(f"                return {result}" if free else "                return None")
        lines.append("        except (KeyError, AttributeError, IndexError, TypeError):")
        lines.append("            pass  # said in words below")
    lines.append("    return _check_slowly(params, batch, tuple(INPUTS) if names is None else names)")
    return "\n".join(lines) + "\n"


def untold(program: Program, inputs: Sequence[Tensor]) -> list[str]:
    """The free sizes that the equations of ``predict`` ask for, and no parameter and none of these inputs has in its shape."""
    told = {str(s) for t in (*program.parameters, *inputs) for e in t.shape for s in e.free_symbols}
    asked = {str(s) for e in program.equations for i in e.indices for s in (i.lower + i.upper).free_symbols}
    return [name for name in free_sizes(program) if name in asked - told]


_WORDS = '''def _sizes(params, batch, names):
    """What the shapes say of the free sizes; two axes of one size must agree."""
    sizes, seen = {}, {}
    tables = [(params, PARAMETERS, tuple(PARAMETERS), "params"), (batch, INPUTS, names, "batch")]
    for arrays, table, listed, source in tables:
        if not hasattr(arrays, "keys"):
            raise ValueError(f"{source}: expected a dict of arrays, found {type(arrays).__name__}")
        for name in listed:
            if name not in arrays:
                raise ValueError(f"{source}: '{name}' is missing; expected {', '.join(listed)}, found {', '.join(arrays)}")
            shape, found = table[name][0], getattr(arrays[name], "shape", None)
            if not isinstance(arrays[name], np.ndarray | np.generic):
                raise ValueError(f"{source}['{name}']: expected a NumPy array, found {type(arrays[name]).__name__}")
            if isinstance(arrays[name], np.matrix | np.ma.MaskedArray):
                raise ValueError(f"{source}['{name}']: expected a plain NumPy array, found {type(arrays[name]).__name__}; "
                                 "convert with np.asarray (a masked array with .filled)")
            if len(shape) != len(found):
                raise ValueError(f"{source}['{name}']: expected {len(shape)} axes {shape}, found shape {found}")
            for extent, have in zip(shape, found):
                if have < 1:
                    raise ValueError(f"{source}['{name}']: expected sizes of at least 1, found shape {found}")
                if isinstance(extent, str) and extent.isidentifier() and extent not in globals():
                    if sizes.setdefault(extent, have) != have:
                        raise ValueError(f"{source}['{name}']: expected {extent} = {sizes[extent]} as in {seen[extent]}, "
                                         f"found shape {found}")
                    seen.setdefault(extent, f"{source}['{name}']")
    for name, (shape, _) in INPUTS.items():  # what is given beyond what is needed may still tell a size
        if name not in names and name in batch and len(shape) == np.ndim(batch[name]):
            for extent, have in zip(shape, np.shape(batch[name])):
                if isinstance(extent, str) and extent.isidentifier() and extent not in globals():
                    sizes.setdefault(extent, have)
    return sizes


def _array(arrays, name, shape, low, below, ignore):
    """One array against its shape, type and range."""
    array = arrays[name]
    if array.shape != shape:
        raise ValueError(f"'{name}': expected shape {shape}, found {array.shape}")
    if low is None:
        if array.dtype != DTYPE:
            raise ValueError(f"'{name}': expected dtype {np.dtype(DTYPE).name}, found {array.dtype}; "
                             f"convert with .astype(np.{np.dtype(DTYPE).name})")
        return
    if array.dtype.kind not in "iu":
        raise ValueError(f"'{name}': expected an integer dtype, found {array.dtype}")
    values = array if ignore is None else array[array != ignore]
    if values.size and (values.min() < low or (below is not None and values.max() >= below)):
        wrong = (array < low) | (False if below is None else array >= below)
        place = tuple(map(int, np.argwhere(wrong & (True if ignore is None else array != ignore))[0]))
        raise ValueError(f"'{name}': expected {low} <= entries{'' if below is None else f' < {below}'}"
                         f"{'' if ignore is None else f' or {ignore}'}, found {array[place]} at {list(place)}")


def _check_like(what, arrays, params):
    """The arrays have the names, shapes and types of the parameters."""
    for name, array in params.items():
        found = arrays.get(name) if hasattr(arrays, "get") else None
        if getattr(found, "shape", None) != array.shape or found.dtype != array.dtype:
            raise ValueError(f"{what}['{name}']: expected shape {array.shape} and dtype {array.dtype}, "
                             f"found {(found.shape, found.dtype) if hasattr(found, 'shape') else 'no array'}")
'''
