"""The door of an emitted module: free sizes read off the shapes, and words for what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sympy as sp
from sympy import Expr

from codegen.numpy.names import Identifiers
from codegen.numpy.printer import Text, integer_text
from symbolic.analysis import is_nonnegative
from symbolic.errors import SpecError
from symbolic.program import Program, Role, Size, Tensor

__all__ = ["check_text", "free_sizes"]


def free_sizes(program: Program) -> list[str]:
    """The sizes that a call fixes."""
    return [name for name, value in program.sizes.items() if value is None]


def check_text(program: Program) -> str:
    """``_check``: the free sizes, found in the shapes; a quick test of everything, and the words where it fails."""
    free = free_sizes(program)
    tensors = [(t, "params") for t in program.parameters] + [(t, "batch") for t in program.inputs]
    where = _places_of_sizes(program, tensors, free)
    lines = ["def _check(params, batch, names=tuple(INPUTS)):",
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
        lines += [f"    {call}"] if source == "params" else [f'    if "{tensor.name}" in names:', f"        {call}"]
    for extent, name in _derived(program, free).items():
        known = sorted(s.name for s in extent.free_symbols if s.name in free)
        told = " and ".join(f"{s} is not None" for s in known)
        lines.append(f"    if {told} and {integer_text(extent)} < 0:")
        lines.append(f'        raise ValueError(f"{_too_small(program, extent, name, known, where, sources)}")')
    lines.append("    for name in params:\n        if name not in PARAMETERS:\n"
                 "            raise ValueError(f\"params: unknown name '{name}'; expected {', '.join(PARAMETERS)}\")")
    result = ", ".join(free) + ("," if len(free) == 1 else "")
    lines.append(f"    return {result}" if free else "    return None")
    fast = _fast_check(program, tensors, where, free)
    return fast + "\n\n" + "\n".join(lines).replace("def _check(", "def _check_slowly(", 1) + "\n\n" + _WORDS


_BARE = sp.Dummy("length")
"""The length of an axis, in the expression that gives a size from it."""


def _places_of_sizes(
    program: Program, tensors: Sequence[tuple[Tensor, str]], free: Sequence[str]
) -> dict[str, tuple[str, int, Expr]]:
    """For each free size an axis and what gives the size from its length: the length itself, or ``length//2`` for ``2*H``.

    Raises SpecError where no axis gives a size, as for ``M*N`` alone.
    """
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
    for name in free:
        if name not in found:
            raise SpecError(f"expected an axis that gives the size '{name}' at run time, found it only inside products or "
                            f"quotients; write sizes: {{{name}: ...}}")
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
    alone = [e.xreplace(dict(program.fixed)) for e in _derived(program, [symbol.name])
             if {s.name for s in e.free_symbols if s.name in where} == {symbol.name}]
    least = None if others else next(
        (n for n in range(1, MOST) if all(e.xreplace({symbol: sp.Integer(n)}) >= 0 for e in alone)), None)
    wanted = f"{symbol} of at least {least}" if least is not None else f"{integer_text(extent)} of at least 0"
    return f"{arrays}: expected {wanted}, found {found}, which is too small for '{name}' ({integer_text(extent)} < 0)"


MOST = 4096
"""Sizes that are tried for the least that will do."""


def _fast_check(program: Program, tensors: Sequence[tuple[Tensor, str]], where: Mapping[str, tuple[str, int, Expr]],
                free: Sequence[str]) -> str:
    lines = ["def _check(params, batch, names=None):",
             '    """The free sizes, read off the shapes; ValueError says which array is wrong, what was expected, what came."""']
    names = Identifiers((*program.sizes, "array", "dtype", "names"))
    local = {t.name: names.fresh(t.name) for t, _ in tensors}
    quick = []
    for tensor, _ in tensors:
        shape = ", ".join(integer_text(e) for e in tensor.shape) + ("," if tensor.rank == 1 else "")
        item = local[tensor.name]
        if tensor.rank:
            quick.append(f"type({item}) is array")
        quick.append(f"{item}.shape == ({shape})")
        if tensor.is_index:
            quick.append(f'{item}.dtype.kind in "iu"')
            if tensor.below is not None and tensor.ignore is None:
                quick.append(f"_in_range({item}, {integer_text(tensor.low)}, {integer_text(tensor.below)})")
        else:
            quick.append(f"{item}.dtype == dtype")
    inputs_ignore = any(t.ignore is not None for t, _ in tensors)
    result = ", ".join(free) + ("," if len(free) == 1 else "")
    if not inputs_ignore and quick:
        lines.append("    if names is None:")
        lines.append("        try:")
        lines += [f'            {local[t.name]} = {source}["{t.name}"]' for t, source in tensors]
        lines += [f"            {name} = {integer_text(solved.xreplace({_BARE: Text(f'{local[array]}.shape[{axis}]')}))}"
                  for name, (array, axis, solved) in where.items()]
        ranked = any(tensor.rank for tensor, _ in tensors)
        lines.append(f"            {'array, dtype = np.ndarray, ' if ranked else 'dtype = '}np.dtype(DTYPE)")
        lines.append("            if (")
        lines.append(f"                len(params) == {len(program.parameters)}")
        lines += [f"                and {test}" for test in (*(f"{name} >= 1" for name in free), *quick)]
        lines += [f"                and {integer_text(extent)} >= 0" for extent in _derived(program, free)]
        lines.append("            ):")
        lines.append(f"                return {result}" if free else "                return None")
        lines.append("        except (KeyError, AttributeError, IndexError, TypeError):")
        lines.append("            pass  # said in words below")
    lines.append("    return _check_slowly(params, batch, tuple(INPUTS) if names is None else names)")
    return "\n".join(lines) + "\n"


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
