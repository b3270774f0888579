"""From the text of a C file to a library that Python calls: find a compiler, compile, keep, load.

What stands below the mark is also a part of every ``NAME_c.py``, which stands alone (codegen/c/binding.py takes it from here);
codegen/build.py is the generator's way to it. Standard library only.
"""

import atexit
import ctypes
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import NamedTuple

# ---- building ----

FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
"""What a compiler is called with. ``CHAINRULE_C_FLAGS`` adds flags after these, so that the last word is theirs:
``-march=x86-64-v3`` for a library that other machines run."""


class BuildError(RuntimeError):
    """There is no library: no compiler, no place for it, or the compiler or the loader refuses."""


class Compiler(NamedTuple):
    """A C compiler: the name it was found by, the command with its arguments, and what ``--version`` says."""

    name: str
    command: tuple[str, ...]
    version: str


def compilers() -> Iterator[Compiler]:
    """The compilers of this machine, the first choice first: ``CC`` alone where it is set, else cc, gcc, clang and ziglang.
    Raises BuildError where ``CC`` names no command."""
    given = os.environ.get("CC", "").strip()
    if given:
        choices = [(given, [given] if shutil.which(given) else _words_of("CC"))]
    else:
        choices = [(name, [name]) for name in ("cc", "gcc", "clang") if shutil.which(name)]
        if importlib.util.find_spec("ziglang") is not None:
            choices.append(("ziglang", [sys.executable, "-m", "ziglang", "cc"]))
    for name, command in choices:
        command[0] = shutil.which(command[0]) or command[0]
        try:
            code, words = _said([*command, "--version"])
        except OSError as error:
            if given:
                raise BuildError(f"CC={given}: expected the command of a C compiler, found: {error.strerror or error}") from None
            continue
        if given or code == 0:  # else a name without its compiler, as on a Mac before it is installed
            yield Compiler(name, tuple(command), words)


def cache_folder() -> str:
    """Where libraries are kept: ``CHAINRULE_CACHE``, else the user's own folder for such files."""
    if given := os.environ.get("CHAINRULE_CACHE"):
        return os.path.abspath(os.path.expanduser(given))
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(base):
            base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise FileNotFoundError("no folder of the user's is known")
    return os.path.join(base, "chainrule")


def build(name: str, source: str, header: str, flags: tuple[str, ...] = (), private: bool = False) -> str:
    """The path of the library of NAME.c and NAME.h, compiled with FLAGS and ``flags`` where it is not kept already.

    A library is kept under a digest of its texts, flags, compiler and machine, and under a digest of its own bytes: one that
    was cut short is not taken. It gets its name when it is whole, so any number of processes may build at once. ``private``:
    in a temporary folder of this process, which also serves where the cache cannot be written. Raises BuildError.
    """
    compiler = next(compilers(), None)
    if compiler is None:
        raise BuildError("expected a C compiler, found none: install gcc or clang (Debian: apt install gcc; macOS: xcode-select "
                         "--install), or 'pip install ziglang', or name one in CC")
    options = [*FLAGS, *flags], [*_words_of("CHAINRULE_C_FLAGS"), "-lm"]
    called = [*compiler.command, *options[0], "", *options[1]]
    about = [source, header, compiler.version, *called, *_machine(any("native" in each for each in called))]
    stem = f"{name}-{hashlib.sha256(chr(0).join(about).encode()).hexdigest()[:32]}"
    reasons = []
    for place in (_private_folder,) if private else (cache_folder, _private_folder):
        folder = ""
        try:
            folder = place()
            return _kept(folder, stem) or _made(folder, stem, name, source, header, compiler, options)
        except OSError as error:
            reasons.append(f"{folder or 'cache'}: {error.strerror or error}")
        if len(reasons) == 1 and not private:
            warnings.warn(f"the library of {name} cannot be kept ({reasons[0]}): it is compiled in a temporary folder, again in "
                          "each process; CHAINRULE_CACHE names another folder", RuntimeWarning, stacklevel=2)
    raise BuildError(f"the library of {name} can be written nowhere ({'; '.join(reasons)}); CHAINRULE_CACHE names a folder")


def load(name: str, source: str, header: str, flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of NAME.c and NAME.h, compiled where it must be. Raises BuildError."""
    path = build(name, source, header, flags)
    try:
        return ctypes.CDLL(path)
    except OSError as error:  # a folder from which nothing may run, or a library of another system
        warnings.warn(f"{path}: cannot be loaded ({error}); it is compiled in a temporary folder", RuntimeWarning, stacklevel=2)
    path = build(name, source, header, flags, private=True)
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise BuildError(f"{path}: cannot be loaded: {error}") from None


def _words_of(variable: str) -> list[str]:
    """The words of an environment variable, as a shell takes them."""
    text = os.environ.get(variable, "")
    try:
        return shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise BuildError(f"{variable}={text}: expected words as of a command line, found: {error}") from None


def _machine(native: bool) -> list[str]:
    """What a library hangs on besides its compiler; ``native``: on the processor too (homes move between machines)."""
    about = [sys.platform, platform.machine(), str(struct.calcsize("P")), *platform.libc_ver()]
    if native:
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
                rows = stream.read().split("\n\n")[0].splitlines()
            about += [row for row in rows if row.split("\t")[0].split(":")[0] in _OF_A_PROCESSOR]
        except OSError:
            about.append(platform.processor())
            if sys.platform == "darwin":
                about.append(_said(["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"])[1])
    return about


_OF_A_PROCESSOR = ("model name", "flags", "Features", "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "isa",
                   "cpu")


def _private_folder() -> str:
    """A new folder that goes with the process, unless the source of a failure stands in it."""
    folder = tempfile.mkdtemp(prefix="chainrule-")

    def leave() -> None:
        if not os.path.exists(os.path.join(folder, "failed")):
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(leave)
    return folder


def _kept(folder: str, stem: str) -> str:
    """The path of a library that is there and whole, or an empty text."""
    try:
        names = os.listdir(folder)
    except OSError:
        return ""
    for each in sorted(names):
        path = os.path.join(folder, each)
        try:
            if each.startswith(f"{stem}-") and each == f"{stem}-{_digest(path)}{_SUFFIX}":
                return path
        except OSError:
            continue  # nobody's to read, or gone meanwhile
    return ""


_SUFFIX = ".dll" if os.name == "nt" else ".dylib" if sys.platform == "darwin" else ".so"


def _digest(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()[:16]


def _made(folder: str, stem: str, name: str, source: str, header: str, compiler: Compiler,
          options: tuple[list[str], list[str]]) -> str:
    """Compile in a folder of its own beside the place, then rename. Raises OSError where nothing can be written."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    work = tempfile.mkdtemp(prefix=f".{name}-", dir=folder)
    try:
        for end, text in ((".c", source), (".h", header)):
            with open(os.path.join(work, name + end), "w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
        made = os.path.join(work, name + _SUFFIX)
        command = [*compiler.command, *options[0], os.path.join(work, f"{name}.c"), "-o", made, *options[1]]
        words = _run(command, work, folder)
        if words and "-march=native" in command:  # some compilers do not know this processor
            command.remove("-march=native")
            words = _run(command, work, folder) and words
        if words:
            failed = os.path.join(folder, "failed", name)
            shutil.rmtree(failed, ignore_errors=True)
            shutil.copytree(work, failed, dirs_exist_ok=True)
            raise BuildError(f"the C compiler refuses {failed}{os.sep}{name}.c:\n{words}\n"
                             f"The command was: {shlex.join(command)}".replace(work, failed))
        with open(made, "rb+") as library:
            os.fsync(library.fileno())
        path = os.path.join(folder, f"{stem}-{_digest(made)}{_SUFFIX}")
        try:
            os.replace(made, path)
        except PermissionError:  # Windows: another process has the same one loaded
            if not _kept(folder, stem):
                raise
        return path
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _run(command: list[str], work: str, folder: str) -> str:
    """What a compiler that fails says, shortened; an empty text where it made the library."""
    places = {**dict.fromkeys(("TMPDIR", "TMP", "TEMP"), work), "ZIG_GLOBAL_CACHE_DIR": os.path.join(folder, "zig")}
    try:
        code, words = _said(command, {**places, **os.environ, "TMPDIR": work})
    except OSError as error:
        return f"{command[0]}: {error.strerror or error}"
    if code == 0 and os.path.exists(command[command.index("-o") + 1]):
        return ""
    words = words or f"no message, exit status {code}"
    return words if len(words) <= 3000 else f"{words[:3000]}\n... ({len(words) - 3000} more characters)"


def _said(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit status of a command and all that it wrote."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,  # noqa: S603 - the user's own compiler
                          stderr=subprocess.STDOUT, check=False, env=environment)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()
