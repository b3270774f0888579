"""What the arguments of the command line may be: their values, files and numbers, checked before anything heavy is loaded."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from codegen.choices import DTYPES, FORMATS
from symbolic.errors import ChainruleError, nearest

if TYPE_CHECKING:
    from symbolic.model import Model

__all__ = ["apart", "arrays", "check_dtype", "format_of", "one_of", "sizes"]


def one_of(option: str, value: str, known: Any) -> None:
    """Raises ChainruleError, with the nearest known value, for a value that is none of them."""
    if value not in known:
        raise ChainruleError(f"{option} {value}: expected {_listed(known)}, found '{value}'{nearest(value, known)}")


def _listed(words: Any) -> str:
    """``numpy, c or latex``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else str(last)


def check_dtype(dtype: str | None) -> None:
    """Raises ChainruleError for a type that is not computed in."""
    if dtype is not None:
        one_of("--dtype", dtype, DTYPES)


def sizes(given: list[str]) -> dict[str, int]:
    """``["T=5", "N=3"]`` as numbers."""
    found: dict[str, int] = {}
    for item in given:
        name, mark, number = item.partition("=")
        if not (mark and name.isidentifier() and number.isascii() and number.isdigit() and len(number) < 10):
            raise ChainruleError(f"--size {item}: expected NAME=NUMBER such as T=5, a number of at most 9 digits, found '{item}'")
        if name in found:
            raise ChainruleError(f"--size {item}: expected each size once, found '{name}' again")
        found[name] = int(number)
    return found


def format_of(output: Path | None) -> str:
    """The format that a file's name asks for; text where it has no suffix."""
    suffix = output.suffix.lower() if output is not None else ""
    found = next((name for name, own in FORMATS.items() if suffix == own), None if suffix else "text")
    if found is None:
        raise ChainruleError(f"-o {output}: expected a file name that ends in {', '.join(FORMATS.values())} or a --format, "
                             f"found '{suffix}'")
    return found


def arrays(path: Path) -> dict[str, Any]:
    """The arrays of a ``.npz`` file by name."""
    import numpy as np

    try:
        with path.open("rb") as opened:  # NumPy leaves a broken file open
            file = np.load(opened, allow_pickle=False)
            if not isinstance(file, np.ndarray):
                return {name: file[name] for name in file.files}
        found = "one array without a name"
    except OSError as error:
        found = (error.strerror or str(error)).lower()
    except (ValueError, EOFError, AttributeError, BadZipFile, RuntimeError, zlib.error):
        found = "something else"
    raise ChainruleError(f"--params {path}: expected a file of arrays by name (numpy.savez), found {found}")


def apart(specs: list[str], models: list[Model]) -> None:
    """Two models of one name would write the same files."""
    first: dict[str, str] = {}
    for spec, model in zip(specs, models, strict=True):
        key = model.name.lower()  # file systems that ignore case
        if key in first:
            raise ChainruleError(
                f"{spec}: expected models of different names, found '{model.name}' here and in {first[key]}; "
                "rename one (key 'name')"
            )
        first[key] = spec
