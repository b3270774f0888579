"""Compiles and loads generated C, and typesets documents: the generator's only way to other programs and to ``ctypes``.

The work is done by codegen/c/templates/building.py, whose text stands in every ``NAME_c.py`` too: both build alike, and find
each other's libraries in the cache.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from codegen.c.templates import building
from codegen.c.templates.building import FLAGS, Compiler
from symbolic.errors import MachineError

__all__ = ["FLAGS", "Compiler", "bind", "build", "compilers", "load", "typeset"]

Found = TypeVar("Found")


def compilers() -> list[Compiler]:
    """The C compilers of this machine, the first choice first. Raises MachineError where ``CC`` names no command."""
    return _worded(lambda: list(building.compilers()))


def build(name: str, source: str | Path, header: str | Path, flags: tuple[str, ...] = ()) -> Path:
    """The library of a C file and its header (texts, or the paths of files), compiled where the cache has none yet.

    ``flags`` come after FLAGS. Raises MachineError where there is no compiler, no place, or the compiler refuses.
    """
    return Path(_worded(lambda: building.build(name, _text(source), _text(header), flags)))


def load(name: str, source: str | Path, header: str | Path, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The loaded library; see ``build``."""
    return _worded(lambda: building.load(name, _text(source), _text(header), flags))


def bind(name: str, texts: Mapping[str, str]) -> types.ModuleType:
    """The module ``NAME_c.py`` of texts that are no files (NAME.c, NAME.h and NAME_c.py, by their names).

    Where the module of a file raises BuildError, this one raises MachineError.
    """
    import builtins
    import linecache

    text = texts[f"{name}_c.py"]
    module = types.ModuleType(f"{name}_c")
    module.__file__ = f"<chainrule {name}_c>"
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), module.__file__)
    exec(builtins.compile(text, module.__file__, "exec"), module.__dict__)  # noqa: S102 - our own emitted text, never a user's
    ours: dict[str, Any] = {"_sources": lambda: (texts[f"{name}.c"], texts[f"{name}.h"]), "BuildError": MachineError}
    module.__dict__.update(ours)
    return module


_QUIET = ("-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape")
ENGINES: Mapping[str, tuple[str, ...]] = {
    "pdflatex": _QUIET, "lualatex": _QUIET, "xelatex": _QUIET, "tectonic": ("--untrusted",),
}
"""TeX engines, the first choice first, with what keeps each from asking questions and from running other programs."""


def typeset(name: str, text: str) -> bytes:
    """A LaTeX document as PDF. Raises MachineError where no TeX engine is found, or the engine fails."""
    engine = next((path for path in map(shutil.which, ENGINES) if path), None)
    if engine is None:
        raise MachineError(
            f"a PDF needs a TeX engine, expected one of {', '.join(ENGINES)} on the PATH, found none; install TeX Live "
            "(Debian: apt-get install texlive-latex-base texlive-latex-recommended), MacTeX, MiKTeX or tectonic, or write "
            "--format latex"
        )
    with tempfile.TemporaryDirectory(prefix="chainrule-") as folder:
        path = Path(folder) / f"{name}.tex"
        path.write_text(text, encoding="utf-8")
        env = {**os.environ, "SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}  # the same text gives the same bytes
        command = [engine, *ENGINES[Path(engine).stem], path.name]
        for _ in range(1 if Path(engine).stem == "tectonic" else 2):  # the second time it knows the contents
            try:
                done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, errors="replace", check=False,  # noqa: S603
                                      stdin=subprocess.DEVNULL, timeout=300)
            except subprocess.TimeoutExpired:
                raise MachineError(f"{engine} did not end within 5 minutes; write --format latex and run it yourself") from None
            if done.returncode:
                said = [line for line in done.stdout.splitlines() if line.startswith(("!", "l."))] or done.stderr.splitlines()
                raise MachineError(f"{engine} failed: {' '.join(said[:3]) or f'exit status {done.returncode}'}; its packages "
                                   "amsmath, geometry and hyperref must be installed (Debian: texlive-latex-recommended)")
        return path.with_suffix(".pdf").read_bytes()


def _text(given: str | Path) -> str:
    return given.read_text(encoding="utf-8") if isinstance(given, Path) else given


def _worded(work: Callable[[], Found]) -> Found:
    try:
        return work()
    except building.BuildError as error:
        raise MachineError(str(error)) from None
