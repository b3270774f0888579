"""Calls of generated C that are wrong, unusual or at once, as a C program would make them; and what an object file holds."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import symbolic
from codegen import build
from codegen.c.names import _MATH
from codegen.pipeline import Options
from symbolic.program import Size
from tests.c_driver import WARNINGS, Driven, compile_c, compiler
from tests.c_models import MODELS
from tests.conftest import ROOT

OK, NULL_POINTER, BAD_SIZE, BAD_INDEX, SMALL_WORKSPACE = range(5)
MOST = 2**64 - 1
HEAD = ("dims", "params", "inputs")
TAIL = ("workspace", "bytes")
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "value_and_grad": (*HEAD, "loss", "grads", "outputs", *TAIL),
    "loss": (*HEAD, "loss", *TAIL),
    "predict": (*HEAD, "outputs", *TAIL),
    "jvp": (*HEAD, "direction", "loss", "slope", *TAIL),
    "hvp": (*HEAD, "direction", "grads", *TAIL),
}
LABELS = {"shape": ["T", "N"], "kind": "index", "below": "V"}
SPEC: dict[str, Any] = {
    "name": "calls", "dtype": "float64", "sizes": {"V": 5, "H": 4},
    "inputs": {"x": LABELS, "y": {**LABELS, "ignore": -1}, "z": ["T", "N", "H"]},
    "layers": [{"name": "e", "type": "embedding", "classes": "V", "units": "H"}, {"name": "s", "type": "add", "from": ["e", "z"]},
               {"name": "rnn", "type": "rnn", "units": "H", "state": "carry"}, {"name": "out", "type": "dense", "units": "V"}],
    "loss": {"type": "softmax_cross_entropy", "target": "y"},
}


class Called:
    """The library of a model, and the arguments of a good call, of which a test spoils some."""

    def __init__(self, spec: Any, **options: Any) -> None:
        self.driven = Driven(spec if isinstance(spec, symbolic.Model) else symbolic.load(spec), Options(**options))
        self.made, self.members = self.driven.made, self.driven.members

    @cached_property
    def library(self) -> ctypes.CDLL:
        name, texts = self.made.name, self.driven.texts
        found = build.load(name, texts[f"{name}.c"], texts[f"{name}.h"], ("-O0",))
        self.function(found, "workspace_bytes").restype = ctypes.c_size_t
        return found

    def function(self, library: ctypes.CDLL, kind: str) -> Any:
        return getattr(library, f"{self.made.name}_{kind}")

    def workspace_bytes(self, *sizes: int) -> int:
        return int(self.function(self.library, "workspace_bytes")((ctypes.c_size_t * len(sizes))(*sizes)))

    def good(self, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
        """Arguments by name; those that are structs as dicts of arrays."""
        values = self.driven.values(sizes, self.made.dtype)
        real = np.random.default_rng(seed)
        values = {n: a + real.uniform(-0.1, 0.1, a.shape) if a.dtype.kind == "f" else a for n, a in values.items()}
        shapes = {n: self._shape(n, sizes) for n in self.members.outputs}
        return {
            "dims": [sizes[n] for n in self.members.dims], "params": {n: values[n] for n in self.members.params},
            "inputs": {n: values[n] for n in self.members.inputs}, "direction": {n: values[n] + 1 for n in self.members.grads},
            "grads": {n: np.full_like(values[n], np.nan) for n in self.members.grads},
            "outputs": {n: np.full(shape, np.nan, self.made.dtype) for n, shape in shapes.items()},
            "loss": np.full((), np.nan, self.made.dtype), "slope": np.full((), np.nan, self.made.dtype),
            "workspace": None, "bytes": self.workspace_bytes(*(sizes[n] for n in self.members.dims)),
        }

    def _shape(self, name: str, sizes: Mapping[str, int]) -> tuple[int, ...]:
        known = {**self.made.program.sizes, **sizes}
        return tuple(int(e.xreplace({s: known[s.name] for s in e.atoms(Size)})) for e in self.made.program.tensor(name).shape)

    def call(self, kind: str, arguments: Mapping[str, Any]) -> int:
        """The code of a call. A workspace that is not given is made; an address is a number."""
        room = np.full(max(int(arguments["bytes"]) // 8 + 1, 1), np.nan) if arguments["workspace"] is None else None
        passed = []
        for name in ARGUMENTS[kind]:
            value = arguments[name]
            if name == "bytes":
                passed.append(ctypes.c_size_t(value))
            elif name == "workspace":
                passed.append(ctypes.c_void_p(room.ctypes.data if room is not None else value))
            elif name == "dims":
                passed.append((ctypes.c_size_t * max(len(value), 1))(*value) if value is not None else None)
            elif isinstance(value, dict):
                addresses = [array.ctypes.data if array is not None else None for array in value.values()]
                passed.append((ctypes.c_void_p * max(len(addresses), 1))(*addresses))
            else:
                passed.append(ctypes.c_void_p(value.ctypes.data if value is not None else None))
        return int(self.function(self.library, kind)(*passed))


def results(kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a call wrote, copied."""
    found: dict[str, Any] = {}
    for name in ("loss", "slope", "grads", "outputs"):
        if name in ARGUMENTS[kind] and arguments[name] is not None:
            value = arguments[name]
            rows = value if isinstance(value, dict) else {name: value}
            found |= {f"{name} {key}": np.copy(array) for key, array in rows.items() if array is not None}
    return found


def same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The same bits: nothing hangs on where things lie."""
    assert set(found) <= set(expected)
    for name, array in found.items():
        assert np.all(np.isfinite(array)), name
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Called]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = Called(SPEC, wrt="all", tangent=True, hvp=True)
        assert found.library
        yield found


SIZES = {"T": 3, "N": 2}
KINDS = tuple(ARGUMENTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_call(calls: Called, kind: str) -> None:
    arguments = calls.good(SIZES)
    assert calls.call(kind, arguments) == OK
    assert all(np.all(np.isfinite(a)) for a in results(kind, arguments).values())


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [
    (0, 2), (2, 0), (0, 0), (MOST, 1), (1, MOST), (MOST, MOST), (2**63, 1), (1, 2**63), (2**63 - 1, 1), (2**32, 2**32),
    (2**33, 2**31), (2**62, 4), (2**40, 2**24), (2**31, 2**33), (2**59, 2), (3, 2**61), (2**61 + 1, 8), (MOST // 3, 3),
])
def test_sizes_out_of_range(calls: Called, sizes: tuple[int, int]) -> None:
    assert calls.workspace_bytes(*sizes) == 0
    arguments = {**calls.good(SIZES), "dims": list(sizes)}
    for kind in KINDS:
        assert calls.call(kind, arguments) == BAD_SIZE, kind
        assert all(np.all(np.isnan(a)) for a in results(kind, arguments).values())


@pytest.mark.parametrize("name", ["lstm_lm", "lenet", "second_order", "gru_classifier"])
def test_no_size_wraps_round(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the workspace must hold grows with each size until it is out of range, and stays so."""
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    called = Called(symbolic.load(ROOT / "specs" / f"{name}.yaml"), dtype="float64")
    count = len(called.members.dims)
    program = next(unit.program for unit in called.made.units if unit.kind == "value_and_grad")
    for others in (1, 3, 2**10, 2**29 + 1):
        for moving in range(count):
            before = 1
            for power in range(65):
                value = min(2**power + power, MOST)
                sizes = tuple(value if k == moving else others for k in range(count))
                known = {**program.sizes, **dict(zip(called.members.dims, sizes, strict=True))}
                least = 8*max(_entries(t, known) for t in program.tensors if t.name in program.outputs)
                found = called.workspace_bytes(*sizes)
                if found:
                    assert before, f"{sizes}: {found} after a size that was out of range"
                    assert before <= found < 2**63, f"{sizes}: {found} after {before}"
                    assert found > least//8, f"{sizes}: {found} for an array of {least} bytes"
                before = found
            assert before == 0


def _entries(tensor: Any, known: Mapping[str, Any]) -> int:
    number = 1
    for extent in tensor.shape:
        number *= int(extent.xreplace({s: known[s.name] for s in extent.atoms(Size)}))
    return number


# ---- pointers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_no_pointer(calls: Called, kind: str) -> None:
    """Each argument, and each member of each struct, apart from outputs."""
    good = calls.good(SIZES)
    for name in ARGUMENTS[kind]:
        if name in ("outputs", "bytes"):
            continue
        assert calls.call(kind, {**good, name: None if name != "workspace" else 0}) == NULL_POINTER, name
        for member in good[name] if isinstance(good[name], dict) else ():
            code = calls.call(kind, {**good, name: {**good[name], member: None}})
            unread = kind == "predict" and member == "y"
            assert code == (OK if unread else NULL_POINTER), f"{name}->{member}"
    assert calls.library.calls_workspace_bytes(None) == 0


def test_outputs_that_are_not_wanted(calls: Called) -> None:
    for kind in ("value_and_grad", "predict"):
        good = calls.good(SIZES)
        assert calls.call(kind, good) == OK
        expected = results(kind, good)
        members = list(good["outputs"])
        assert len(members) == 2
        for kept in ([], members[:1], members[1:]):
            fresh = calls.good(SIZES)
            fresh["outputs"] = {n: a if n in kept else None for n, a in fresh["outputs"].items()}
            assert calls.call(kind, fresh) == OK
            same(results(kind, fresh), expected)
        fresh = {**calls.good(SIZES), "outputs": None}
        assert calls.call(kind, fresh) == OK
        same(results(kind, fresh), expected)


# ---- indices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value", "code"), [
    ("x", 5, BAD_INDEX), ("x", -1, BAD_INDEX), ("x", 2**62, BAD_INDEX), ("x", -2**63, BAD_INDEX), ("x", 4, OK), ("x", 0, OK),
    ("y", 5, BAD_INDEX), ("y", -2, BAD_INDEX), ("y", 2**63 - 1, BAD_INDEX), ("y", -1, OK), ("y", 4, OK),
])
@pytest.mark.parametrize("place", [0, 5])
def test_indices(calls: Called, name: str, value: int, code: int, place: int) -> None:
    arguments = calls.good(SIZES)
    arguments["inputs"][name].flat[place] = value
    for kind in KINDS:
        unread = kind == "predict" and name == "y"
        assert calls.call(kind, arguments) == (OK if unread else code), kind


# ---- the workspace ---------------------------------------------------------------------------------------------------


def test_a_workspace_that_is_too_small(calls: Called) -> None:
    """One byte less than is said suffices for no function that needs the most; nothing is written before that is known."""
    good = calls.good(SIZES)
    codes = {kind: calls.call(kind, {**good, "bytes": good["bytes"] - 1}) for kind in KINDS}
    assert SMALL_WORKSPACE in codes.values()
    assert set(codes.values()) <= {OK, SMALL_WORKSPACE}
    for few in (0, 1, 63, 64):
        fresh = calls.good(SIZES)
        for kind in KINDS:
            assert calls.call(kind, {**fresh, "bytes": few}) == SMALL_WORKSPACE
            assert all(np.all(np.isnan(a)) for a in results(kind, fresh).values())


@pytest.mark.parametrize("kind", KINDS)
def test_any_address_of_the_workspace(calls: Called, kind: str) -> None:
    """Also an odd one; not a byte outside is written, wherever a function accepts what it is given."""
    good = calls.good(SIZES)
    assert calls.call(kind, good) == OK
    expected, needed = results(kind, good), good["bytes"]
    memory = np.full(needed + 256, 0xA5, np.uint8)
    for offset in range(64, 128):
        for less in (0, 1, 64):
            memory[:] = 0xA5
            fresh = {**calls.good(SIZES), "workspace": memory.ctypes.data + offset, "bytes": needed - less}
            code = calls.call(kind, fresh)
            assert code == OK or less and code == SMALL_WORKSPACE
            if code == OK:
                same(results(kind, fresh), expected)
            assert np.all(memory[:offset] == 0xA5)
            assert np.all(memory[offset + needed - less:] == 0xA5)


def test_two_threads_at_once(calls: Called) -> None:
    cases = [calls.good(sizes, seed) for seed, sizes in enumerate(({"T": 40, "N": 9}, {"T": 33, "N": 17}))]
    expected = []
    for case in cases:
        assert calls.call("value_and_grad", case) == OK
        expected.append(results("value_and_grad", case))
    failures: list[str] = []
    start = threading.Barrier(2)

    def work(k: int) -> None:
        start.wait()
        for _ in range(100):
            if calls.call("value_and_grad", cases[k]) != OK:
                failures.append(f"thread {k}: a code")
            found = results("value_and_grad", cases[k])
            failures.extend(f"thread {k}: {n}" for n, a in found.items() if a.tobytes() != expected[k][n].tobytes())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# ---- what is given, and what an object holds -------------------------------------------------------------------------


@pytest.mark.gcc
@pytest.mark.parametrize("spec", ["char_rnn", "lenet_digits", "gru_classifier", "scalar"])
def test_what_is_given_is_only_read(spec: str, tmp_path: Path) -> None:
    """It lies in pages that cannot be written to."""
    model = symbolic.load(ROOT / "specs" / f"{spec}.yaml")
    driven = Driven(model, Options(wrt="all", dtype="float64", tangent=True, hvp=True))
    program = compile_c(compiler("gcc") or [], ("-O0", "-DREAD_ONLY", "-D_DEFAULT_SOURCE"), driven.write(tmp_path),
                        tmp_path / "program")
    driven.check([[program]], SIZES, driven.values(SIZES, "float64"), "float64")


LIBRARY = {"memcpy", "memset", "memmove", *_MATH, *(f"{name}f" for name in _MATH)}


@pytest.mark.gcc
@pytest.mark.parametrize("name", ["gru_classifier", "lenet", "every activation", "directions"])
def test_no_heap_and_no_globals(name: str, tmp_path: Path) -> None:
    """In single and in double precision."""
    model = MODELS[name].make() if name in MODELS else symbolic.load(ROOT / "specs" / f"{name}.yaml")
    driven = Driven(model, Options(dtype="float32", **({"tangent": True, "hvp": True} if name == "directions" else {})))
    source, _ = driven.write(tmp_path)
    made, own = tmp_path / "made.o", driven.made.name
    for flags in ((), (f"-D{own.upper()}_DOUBLE",)):
        line = [*(compiler("gcc") or []), *WARNINGS, *flags, "-O1", "-fno-pie", "-c", str(source), "-o", str(made)]
        subprocess.run(line, check=True)
        shown = subprocess.run([shutil.which("nm") or "nm", str(made)], capture_output=True, text=True, check=True).stdout
        symbols = [(kind, symbol) for kind, symbol in re.findall(r"^[0-9a-f ]{16} (\w) (\S+)$", shown, re.MULTILINE)]
        assert {s for kind, s in symbols if kind == "U"} <= LIBRARY
        exported = {s for kind, s in symbols if kind == "T"}
        declared = set(re.findall(rf"^\w+ ({own}_\w+)\(", driven.texts[f"{own}.h"], re.MULTILINE))
        assert exported == declared >= {f"{own}_{kind}" for kind in (*driven.kinds, "workspace_bytes")}
        assert {kind for kind, _ in symbols} <= set("UTtrR"), shown  # no B, b, D, d, C: nothing that can be written to


CHAIN = {"product_at": 1, "product_scatter": 1, "product_in_runs": 1, "product": 3, "strip": 1, "tile": 1}
"""What may stand on the stack at once below a function, and how often: ``product`` turns its matrices twice at most."""


@pytest.mark.gcc
@pytest.mark.parametrize(("flags", "most"), [
    ("-O0", 48), ("-O0 -march=native", 48), ("-O2", 20), ("-O3 -march=native", 20), ("-O3 -march=native -DLENET_DOUBLE", 20),
])
def test_the_stack_is_small(flags: str, most: int, tmp_path: Path) -> None:
    """At most so many KB, and no frame hangs on a size."""
    driven = Driven(symbolic.load(ROOT / "specs" / "lenet.yaml"), Options(dtype="float32"))
    source, _ = driven.write(tmp_path)
    line = [*(compiler("gcc") or []), "-std=c99", *flags.split(), "-fstack-usage", "-c", source.name, "-o", "made.o"]
    subprocess.run(line, check=True, cwd=tmp_path)
    rows = [row.split("\t") for row in (tmp_path / "made.su").read_text().splitlines()]
    frames: dict[str, int] = {}
    for place, size, _ in rows:
        name = place.rsplit(":", 1)[1].partition(".")[0]
        frames[name] = max(frames.get(name, 0), int(size))
    assert "product" in frames
    assert {row[2] for row in rows} <= {"static", "dynamic,bounded"}
    own = max(size for name, size in frames.items() if name.startswith("lenet_"))
    assert own + sum(times*frames.get(name, 0) for name, times in CHAIN.items()) <= most*1024
