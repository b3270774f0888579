"""Writes a set of files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from symbolic.errors import ChainruleError, MachineError

__all__ = ["write_all"]

_CALL = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOENT}
"""Reasons that lie in the path that was asked for, not in the machine."""


def write_all(files: Mapping[Path, str]) -> None:
    """Write every text (UTF-8, ``\\n``) to its path; folders are made as needed.

    All texts go to temporary files beside their places first and are renamed when the last one is complete, so a full
    disk or a refused folder leaves nothing behind. A reader never sees half a file. Raises MachineError where the
    machine refuses (permission, space), ChainruleError where the path cannot be a file.
    """
    made: list[Path] = []
    waiting: dict[Path, Path] = {}
    path = Path()
    try:
        for path, text in files.items():
            made += _make_folder(path.parent)
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            waiting[path] = _write_beside(path, text)
        for path in files:
            waiting[path].replace(path)
            del waiting[path]
    except BaseException as error:
        for temporary in waiting.values():
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            _remove_empty(folder)
        if isinstance(error, OSError):
            raise _worded(path, error) from None
        raise


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder and its parents; the ones that did not exist, outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for part in reversed(missing):
        part.mkdir(exist_ok=True)
    return missing[::-1]


def _write_beside(path: Path, text: str) -> Path:
    """The text in a temporary file of the same folder (a rename across file systems would not be atomic)."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod((path.stat().st_mode & 0o777) if path.exists() else 0o666 & ~mask)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # somebody else's files are in it now


def _worded(path: Path, error: OSError) -> ChainruleError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in _CALL:
        return ChainruleError(f"{path}: expected a place for a file, found: {reason}; name another folder with --out")
    return MachineError(f"{path}: cannot be written: {reason}; free some space or name another folder with --out")
