"""Compilers, the cache of libraries, and what happens where one of them is missing, refuses, or was killed half way."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codegen import build
from codegen.c.templates import building
from symbolic.errors import MachineError

HEADER = "int answer(void);\n"
SOURCE = '#include "tiny.h"\n#ifndef ANSWER\n#define ANSWER 42\n#endif\nint answer(void) { return ANSWER; }\n'

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    for name in ("CC", "CHAINRULE_C_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(folder))
    return folder


def answer(path: Path | None = None, **options: Any) -> int:
    library = ctypes.CDLL(str(path)) if path else build.load("tiny", SOURCE, HEADER, **options)
    return int(library.answer())


def built(**options: Any) -> Path:
    return build.build("tiny", SOURCE, HEADER, **options)


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("tiny-*"))


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def compiles(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run from now on, without those that ask for a version."""
    commands: list[list[str]] = []
    plain = building._said

    def said(command: list[str], environment: Any = None) -> tuple[int, str]:
        if "--version" not in command:
            commands.append(command)
        return plain(command, environment)

    monkeypatch.setattr(building, "_said", said)
    return commands


def test_what_is_built_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = compiles(monkeypatch)
    path = built()
    assert answer(path) == 42
    assert built() == path
    assert len(commands) == 1
    assert kept(cache) == [path.name]
    assert list(cache.iterdir()) == [path]  # nothing else is left
    assert re.fullmatch(r"tiny-[0-9a-f]{32}-[0-9a-f]{16}\.(so|dylib|dll)", path.name)
    assert cache.stat().st_mode & 0o077 == 0


def test_whatever_a_library_hangs_on_makes_another_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [built(), build.build("tiny", SOURCE.replace("42", "41"), HEADER), built(flags=("-DANSWER=40",)),
             build.build("tiny", SOURCE, HEADER + "int other(void);\n")]
    monkeypatch.setenv("CHAINRULE_C_FLAGS", "-DANSWER=39")
    paths.append(built())
    monkeypatch.delenv("CHAINRULE_C_FLAGS")
    assert [answer(path) for path in paths] == [42, 41, 40, 42, 39]
    with monkeypatch.context() as patch:
        patch.setattr(building, "_machine", lambda native: ["another processor"])
        paths.append(built())
    with monkeypatch.context() as patch:
        patch.setattr(building, "FLAGS", tuple(f for f in building.FLAGS if f != "-march=native"))
        paths.append(built())
    assert len({path.name.split("-")[1] for path in paths}) == 7
    assert build.FLAGS[0] == "-std=c99"


def test_the_processor_counts_where_its_instructions_are_used() -> None:
    assert set(building._machine(False)) <= set(building._machine(True))
    if Path("/proc/cpuinfo").exists():
        assert any(row.startswith(("model name", "CPU part", "isa", "cpu")) for row in building._machine(True))


def test_files_by_their_paths(tmp_path: Path) -> None:
    for name, text in (("tiny.c", SOURCE), ("tiny.h", HEADER)):
        (tmp_path / name).write_text(text)
    assert build.build("tiny", tmp_path / "tiny.c", tmp_path / "tiny.h") == built()


@pytest.mark.parametrize("damage", [lambda b: b[:len(b)//2], lambda b: b"", lambda b: b[:-1] + b"x"], ids=["cut", "no", "other"])
def test_a_damaged_library_is_built_again(damage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = built()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    commands = compiles(monkeypatch)
    again = built()
    assert len(commands) == 1
    assert again.name == f"{again.name.rsplit('-', 1)[0]}-{building._digest(str(again))}{again.suffix}"
    assert answer(again) == 42


def test_four_processes_at_once(cache: Path) -> None:
    code = ("import sys, time; from codegen import build; source, header, start = sys.argv[1:]\n"
            "time.sleep(max(0, float(start) - time.time()))\n"
            "print(build.load('tiny', source, header).answer())")
    work = [subprocess.Popen([sys.executable, "-c", code, SOURCE, HEADER, str(time.time() + 1.5)], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parent.parent) for _ in range(4)]
    assert [each.communicate() for each in work] == [("42\n", "")]*4
    assert len(kept(cache)) >= 1
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []
    for path in cache.glob("tiny-*"):
        assert answer(path) == 42


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning, match=r"tiny cannot be kept \(.*file.cache: Not a directory\).*CHAINRULE_CACHE"):
        path = built()
    assert answer(path) == 42
    assert not path.is_relative_to(tmp_path / "file")


def test_a_cache_that_can_only_be_read_is_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = built()

    def refused(*_: Any, **__: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(building.tempfile, "mkdtemp", refused)
    assert built() == path
    with (pytest.warns(RuntimeWarning, match="cannot be kept .*Permission denied"),
          pytest.raises(MachineError, match=r"the library of tiny can be written nowhere .*CHAINRULE_CACHE names a folder")):
        built(flags=("-DANSWER=1",))


def test_a_full_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fsync
    calls = []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(number)

    monkeypatch.setattr(building.os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="cannot be kept .*No space left on device"):
        path = built()
    assert answer(path) == 42
    assert list(cache.iterdir()) == []


def test_a_folder_from_which_nothing_may_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ctypes.CDLL

    def refused(path: str) -> Any:
        if Path(path).is_relative_to(cache):
            raise OSError("failed to map segment from shared object")
        return plain(path)

    monkeypatch.setattr(building.ctypes, "CDLL", refused)
    with pytest.warns(RuntimeWarning, match="cannot be loaded .failed to map segment"):
        assert build.load("tiny", SOURCE, HEADER).answer() == 42

    def never(path: str) -> Any:
        raise OSError("wrong ELF class")

    monkeypatch.setattr(building.ctypes, "CDLL", never)
    with pytest.warns(RuntimeWarning, match="cannot be loaded"), pytest.raises(MachineError, match="cannot be loaded: wrong ELF"):
        build.load("tiny", SOURCE, HEADER)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert building.cache_folder() == os.environ["CHAINRULE_CACHE"]
    monkeypatch.delenv("CHAINRULE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(building.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert building.cache_folder() == str(tmp_path / "xdg" / "chainrule")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the standard says to leave alone
    assert building.cache_folder() == str(tmp_path / ".cache" / "chainrule")
    monkeypatch.setattr(building.sys, "platform", "darwin")
    assert building.cache_folder() == str(tmp_path / "Library" / "Caches" / "chainrule")
    monkeypatch.setattr(building.sys, "platform", "linux")
    monkeypatch.setattr(building.os.path, "expanduser", lambda path: path)  # no home
    with pytest.raises(OSError, match="no folder of the user's is known"):
        building.cache_folder()
    with pytest.warns(RuntimeWarning, match="cannot be kept .cache: no folder of the user's is known"):
        assert answer(built()) == 42


# ---- compilers -------------------------------------------------------------------------------------------------------


def test_compilers_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gcc", "clang"):
        script(tmp_path / name, f"echo {name} 1.0")
    script(tmp_path / "cc", "echo 'xcrun: error: no developer tools' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: None)
    assert build.compilers() == [build.Compiler(name, (str(tmp_path / name),), f"{name} 1.0") for name in ("gcc", "clang")]


def test_no_compiler_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: None)
    assert build.compilers() == []
    with pytest.raises(MachineError, match=r"expected a C compiler, found none: install .*pip install ziglang") as error:
        built()
    assert error.value.exit_status == 3


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_each_compiler(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("CC", name)
    (found,) = build.compilers()
    assert (found.name, found.command) == (name, (shutil.which(name),))
    assert name in found.version
    assert answer() == 42


@pytest.mark.slow
def test_the_compiler_of_the_package_ziglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ziglang")
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = build.compilers()
    assert (found.name, found.command) == ("ziglang", (sys.executable, "-m", "ziglang", "cc"))
    assert answer() == 42


def test_a_compiler_with_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    cc = shutil.which("cc")
    monkeypatch.setenv("CC", "cc -DANSWER='(1 + 2)'")
    (found,) = build.compilers()
    assert found.command == (cc, "-DANSWER=(1 + 2)")
    assert answer() == 3


def test_a_compiler_whose_path_has_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my tools").mkdir()
    monkeypatch.setenv("CC", script(tmp_path / "my tools" / "cc", 'exec cc -DANSWER=7 "$@"'))
    assert answer() == 7


@pytest.mark.parametrize("cc", ["no-such-compiler", "/no/such/compiler -O3"])
def test_a_compiler_that_is_not_there(cc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", cc)
    with pytest.raises(MachineError, match=f"^CC={cc}: expected the command of a C compiler, found: No such file or directory$"):
        built()
    with pytest.raises(MachineError, match="CC="):
        build.compilers()


@pytest.mark.parametrize("variable", ["CC", "CHAINRULE_C_FLAGS"])
def test_words_without_an_end(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "cc 'x")
    with pytest.raises(MachineError, match=f"^{variable}=cc 'x: expected words as of a command line, found: No closing"):
        built()


def test_a_compiler_that_refuses(cache: Path) -> None:
    wrong = SOURCE.replace("return", "retrun")
    for _ in range(2):
        with pytest.raises(MachineError, match=r"the C compiler refuses .*tiny\.c:\n.*tiny\.c:(?s:.*)retrun") as error:
            build.build("tiny", wrong, HEADER)
    (path,) = re.findall(r"refuses (.*tiny\.c):\n", str(error.value))
    assert Path(path).read_text() == wrong
    (command,) = re.findall(r"The command was: (.*)$", str(error.value))
    assert path in command
    assert ".tiny-" not in str(error.value)
    assert sorted(str(p.relative_to(cache)) for p in cache.rglob("*")) == [
        "failed", "failed/tiny", "failed/tiny/tiny.c", "failed/tiny/tiny.h"]


def test_a_compiler_that_says_much_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", script(tmp_path / "cc", "head -c 5000 /dev/zero | tr '\\0' x; exit 1"))
    with pytest.raises(MachineError, match=r"x{3000}\n\.\.\. \(2000 more characters\)\n"):
        built()
    monkeypatch.setenv("CC", script(tmp_path / "cc", "exit 4"))
    with pytest.raises(MachineError, match=r"no message, exit status 4"):
        built()
    monkeypatch.setenv("CC", script(tmp_path / "cc", "exit 0"))  # says yes, and makes nothing
    with pytest.raises(MachineError, match=r"no message, exit status 0"):
        built()


def test_a_compiler_that_does_not_know_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'for each in "$@"; do [ "$each" = -march=native ] && { echo "unknown argument" >&2; exit 1; }; done; exec cc "$@"'
    monkeypatch.setenv("CC", script(tmp_path / "cc", text))
    assert answer() == 42


def test_a_source_is_not_read_from_the_place_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the same name beside the caller are others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.h").write_text("#error wrong\n")
    (tmp_path / "tiny.c").write_text("#error wrong\n")
    assert answer() == 42
