"""``NAME_c.py``: what it computes, what it refuses and how arrays reach C, over a small C file that is written here by hand."""

from __future__ import annotations

import ast
import ctypes
import os
import re
import struct
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from codegen import build
from codegen.c.binding import WORDS, binding_text, fields
from codegen.pipeline import Options
from symbolic.errors import MachineError, SpecError
from symbolic.spec.names import check_name
from tests.c_files import HEADER, SOURCE, SPEC, arrays, bound, prepared, same, texts
from tests.emitting import values_for
from tests.test_door import spoken


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def lin() -> types.ModuleType:
    return build.bind("lin", texts())


@pytest.fixture(scope="module")
def twin() -> types.ModuleType:
    return codegen.compile(symbolic.load(SPEC), tangent=True, hvp=True)


def test_the_numbers_are_those_of_the_numpy_module(lin: Any, twin: Any) -> None:
    params, batch = arrays()
    direction, _ = arrays(seed=1)
    same(lin.value_and_grad(params, batch), twin.value_and_grad(params, batch))
    same(lin.value_and_grad(params, batch, aux=True), twin.value_and_grad(params, batch, aux=True))
    same(lin.loss(params, batch), twin.loss(params, batch))
    same(lin.predict(params, batch), twin.predict(params, batch))
    same(lin.predict(params, {n: batch[n] for n in ("x", "i")}), twin.predict(params, batch))
    same(lin.jvp(params, batch, direction), twin.jvp(params, batch, direction))
    same(lin.hvp(params, batch, direction), twin.hvp(params, batch, direction))


def test_the_rest_is_the_numpy_module_s(lin: Any, twin: Any) -> None:
    params, batch = arrays()
    for table in ("PARAMETERS", "INPUTS", "OUTPUTS", "DTYPE", "K", "B"):
        assert getattr(lin, table) == getattr(twin, table)
    same(lin.init(3), twin.init(3))
    _, grads = lin.value_and_grad(params, batch)
    one, other = (module.update(params, grads, rate=0.5) for module in (lin, twin))
    same(one, other)
    same(lin.update(one[0], grads, one[1]), twin.update(other[0], grads, other[1]))


def test_gradients_are_fresh_arrays(lin: Any) -> None:
    params, batch = arrays()
    first, second = (lin.value_and_grad(params, batch, aux=True) for _ in range(2))
    for one, other in zip((*first[1].values(), *first[2].values()), (*second[1].values(), *second[2].values()), strict=True):
        assert one.base is None
        assert not np.shares_memory(one, other)
        np.testing.assert_array_equal(one, other)


LAYOUTS = {
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "fortran": np.asfortranarray,
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "broadcast": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, a.strides),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_may_lie_in_memory_in_any_way(lin: Any, layout: Any) -> None:
    params, batch = arrays()
    expected = lin.value_and_grad(params, batch)
    given = {n: layout(a) for n, a in params.items()}, {n: layout(a) for n, a in batch.items()}
    same(lin.value_and_grad(*given), expected)
    same(lin.predict(*given), lin.predict(params, batch))
    direction, _ = arrays(seed=1)
    same(lin.hvp(*given, {n: layout(a) for n, a in direction.items()}), lin.hvp(params, batch, direction))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", ">i4", ">i8", "u1", "u2", "u4", "u8"])
def test_indices_may_be_integers_of_any_size(lin: Any, dtype: str) -> None:
    params, batch = arrays()
    batch["i"] = np.abs(batch["i"])
    same(lin.value_and_grad(params, {**batch, "i": batch["i"].astype(dtype)}), lin.value_and_grad(params, batch))


def test_what_is_given_is_never_written_to(lin: Any) -> None:
    params, batch = arrays()
    expected = lin.value_and_grad(params, batch)
    for array in (*params.values(), *batch.values()):
        array.setflags(write=False)
    kept = {n: a.copy() for n, a in {**params, **batch}.items()}
    same(lin.value_and_grad(params, batch), expected)
    lin.predict(params, batch)
    lin.jvp(params, batch, params)
    for name, array in {**params, **batch}.items():
        np.testing.assert_array_equal(array, kept[name])


def test_arrays_of_other_kinds(lin: Any, tmp_path: Path) -> None:
    """In files, in a NpzFile, of a class of their own."""
    params, batch = arrays()
    expected = lin.value_and_grad(params, batch)
    file = np.memmap(tmp_path / "x", np.float32, "w+", shape=(5, 3))
    file[...] = batch["x"]
    same(lin.value_and_grad(params, {**batch, "x": file}), expected)
    np.savez(tmp_path / "p.npz", **params)
    with np.load(tmp_path / "p.npz") as stored:
        same(lin.value_and_grad(stored, batch), expected)


WRONG: list[tuple[str, str, Any]] = [
    ("params", "m.w", None), ("batch", "i", None), ("params", "m.z", np.zeros(3, np.float32)),
    ("params", "m.w", np.zeros(4, np.float32)), ("params", "m.w", np.zeros((3, 1), np.float32)), ("params", "m.w", [0.0]*3),
    ("params", "m.w", np.zeros(3)), ("params", "m.w", np.zeros(3, ">f4")), ("params", "m.w", np.zeros(3, int)),
    ("params", "m.w", np.ma.masked_array(np.zeros(3, np.float32))), ("batch", "x", np.zeros((5, 4), np.float32)),
    ("batch", "x", np.zeros((0, 3), np.float32)), ("batch", "i", np.zeros(6, int)), ("batch", "i", np.zeros(5)),
    ("batch", "i", np.array([0, 1, 4, 2, 3])), ("batch", "i", np.array([0, 1, -2, 2, 3])),
    ("batch", "i", np.array([0, 1, 200, 2, 3], np.uint8)), ("batch", "t", np.zeros(4, np.float32)), ("batch", "t", None),
]


@pytest.mark.parametrize(("source", "name", "array"), WRONG)
@pytest.mark.parametrize("call", ["value_and_grad", "loss", "predict", "jvp", "hvp"])
def test_what_is_wrong_is_said_as_the_numpy_module_says_it(
    lin: Any, twin: Any, call: str, source: str, name: str, array: Any
) -> None:
    params, batch = arrays()
    given = {"params": params, "batch": batch}
    if array is None:
        del given[source][name]
    else:
        given[source][name] = array
    arguments = (params, batch, arrays()[0]) if call in ("jvp", "hvp") else (params, batch)
    if call == "predict" and name == "t":
        same(lin.predict(*arguments), twin.predict(*arguments))
        return
    with pytest.raises(ValueError, match=r"expected|unknown") as expected:
        getattr(twin, call)(*arguments)
    with pytest.raises(ValueError, match=f"^{re.escape(str(expected.value))}$"):
        getattr(lin, call)(*arguments)


def test_a_wrong_direction(lin: Any, twin: Any) -> None:
    params, batch = arrays()
    for wrong in ({}, {**params, "m.w": np.zeros(4, np.float32)}, {**params, "m.e": np.zeros(4)}, None):
        for call in ("jvp", "hvp"):
            with pytest.raises(ValueError, match="direction") as expected:
                getattr(twin, call)(params, batch, wrong)
            with pytest.raises(ValueError, match=f"^{re.escape(str(expected.value))}$"):
                getattr(lin, call)(params, batch, wrong)


def test_no_dict(lin: Any) -> None:
    params, batch = arrays()
    with pytest.raises(ValueError, match="batch: expected a dict of arrays, found NoneType"):
        lin.value_and_grad(params, None)
    with pytest.raises(ValueError, match="params: expected a dict of arrays, found list"):
        lin.predict([], batch)


def test_codes_of_c(lin: Any) -> None:
    params, batch = arrays()
    with pytest.raises(ValueError, match=r"^lin: a size is out of range; sizes \(5,\)$"):
        lin._refuse(2, params, batch, (5,))
    with pytest.raises(MemoryError, match=r"^lin: the workspace is too small; sizes \(5,\)$"):
        lin._refuse(4, params, batch, (5,))
    huge = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (10**8 + 1,), (0,))
    assert lin._library().workspace_bytes(lin._DIMS(2**63)) == 0
    assert huge.size > 10**8
    code = lin._library().predict(lin._DIMS(10**8 + 1), b"\0"*16, b"\0"*24, None, 64, 2**40)
    assert code == 2


def test_selfcheck_is_in_double_precision(lin: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lin.selfcheck(N=7)
    assert re.findall(r"error \d\.\de-(\d+)", capsys.readouterr().out)
    assert lin.DTYPE is np.float32
    params, batch = arrays()
    assert lin.value_and_grad(params, batch)[1]["m.w"].dtype == np.float32
    assert set(lin._libraries) == {np.float32, np.float64}


def test_selfcheck_finds_a_wrong_gradient() -> None:
    wrong = {**texts(), "lin.c": SOURCE.replace("g->m_e[in->i[n]] += d;", "g->m_e[in->i[n]] += 2*d;", 1)}
    with pytest.raises(AssertionError, match=r"the gradient of m\.e is wrong"):
        build.bind("lin", wrong).selfcheck()


def test_another_type_of_numbers_is_refused() -> None:
    module = build.bind("lin", texts())
    module.DTYPE = np.float16  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"DTYPE: expected np\.float32, found <class 'numpy\.float16'>"):
        module.loss(*arrays(np.float16))


def test_another_header_is_refused() -> None:
    module = build.bind("lin", {**texts(), "lin.h": HEADER.replace("*m_w, *m_e", "*m_e, *m_w")})
    with pytest.raises(MachineError, match=r"lin\.h is not the one that lin_c\.py was generated with"):
        module.loss(*arrays())


@pytest.mark.parametrize("flags", ["-O1 -DLIN_DOUBLE", "-D LIN_DOUBLE=1"])
def test_a_library_of_other_numbers_is_refused(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take each array for one of twice its size."""
    monkeypatch.setenv("CHAINRULE_C_FLAGS", flags)
    with pytest.raises(MachineError, match=r"CHAINRULE_C_FLAGS: expected no -DLIN_DOUBLE"):
        build.bind("lin", texts()).loss(*arrays())


def test_threads(lin: Any) -> None:
    """Each has a workspace of its own, and of its own size."""
    module = build.bind("lin", texts())
    cases = [arrays(count=count, seed=count) for count in (1, 7, 5000, 20000, 3, 600, 11, 40000)]
    expected = [lin.value_and_grad(*case, aux=True) for case in cases]
    failures: list[BaseException] = []
    start = threading.Barrier(len(cases))

    def work(k: int) -> None:
        try:
            start.wait()
            for _ in range(60):
                loss, grads, aux = module.value_and_grad(*cases[k], aux=True)
                assert loss == expected[k][0]
                for name, array in {**expected[k][1], **expected[k][2]}.items():
                    np.testing.assert_array_equal({**grads, **aux}[name], array)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_the_file_alone(tmp_path: Path, cache: Path) -> None:
    """Beside lin.c and lin.h, in a Python that knows nothing of Chainrule; also as a program."""
    for name, text in texts().items():
        (tmp_path / name).write_text(text)
    code = ("import sys; import lin_c; assert not {'codegen', 'symbolic', 'sympy', 'jinja2'} & set(sys.modules); "
            "import numpy as np; print(lin_c.loss(lin_c.init(), dict(x=np.ones((2, 3), 'f4'), i=np.array([0, 1]), "
            "t=np.zeros(2, 'f4'))))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run([sys.executable, "lin_c.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "m.w: slope" in done.stdout
    script = {**os.environ, "CC": "no-such-compiler", "CHAINRULE_CACHE": str(tmp_path / "empty")}
    done = subprocess.run([sys.executable, "lin_c.py"], cwd=tmp_path, capture_output=True, text=True, check=False, env=script)
    assert "BuildError: CC=no-such-compiler: expected the command of a C compiler" in done.stderr


def test_nothing_is_compiled_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    module = build.bind("lin", texts())
    module.update(module.init(), module.init())
    with pytest.raises(MachineError, match="CC=no-such-compiler"):
        module.loss(*arrays())


def test_another_python_s_way_to_an_address(lin: Any) -> None:
    params, _ = arrays()
    array = params["m.w"]
    assert lin._pointers(lin._PARAMS, [array, array[1:]]) == lin._pointers_by_name(lin._PARAMS, [array, array[1:]])
    assert lin._pointers is not lin._pointers_by_name
    assert lin._pointers(lin._OUTPUTS, [array]) == bytes(ctypes.c_void_p(array.ctypes.data))
    assert lin._pointers(lin._PREDICT_INPUTS, [array]*2)[-struct.calcsize("P"):] == bytes(struct.calcsize("P"))


def test_the_order_of_members() -> None:
    found = fields(prepared(options=Options(wrt="all", hvp=True)))
    assert found.params == ("m.w", "m.e")
    assert found.inputs == ("x", "i", "t")
    assert found.grads == ("m.w", "m.e", "x", "t")
    assert (found.dims, found.outputs) == (("N",), ("m.y",))
    text = binding_text(prepared(options=Options(wrt="all", hvp=True)), HEADER)
    assert '_WRT = ("m.w", "m.e", "x", "t")' in text
    arrays = "np.empty((K,), dtype), np.empty((B,), dtype), np.empty((N, K), dtype), np.empty((N,), dtype)"
    assert f"    return ({arrays})\n" in text
    assert '_along(direction, {**dict(zip(PARAMETERS, weights)), "x": inputs[0], "t": inputs[2]}, library.dtype)' in text


def test_predict_says_which_size_nobody_tells() -> None:
    module = bound(symbolic.load(
        "h[t,n] = 0.5*h[t-1,n] + w[n]", dtype="float64", parameters={"w": ["N"]}, inputs={"y": ["T", "N"]},
        shapes={"h": ["T", "N"]}, loss={"type": "mse", "target": "y"}, output="h"))
    params = {"w": np.ones(2)}
    with pytest.raises(ValueError, match=r"^predict: no input that is given tells the size T; add one that has it$"):
        module.predict(params, {})
    assert module.predict(params, {"y": np.zeros((5, 2))})["h"].shape == (5, 2)


def test_predict_goes_without_a_size_that_only_the_targets_have() -> None:
    module = bound(symbolic.load(
        "y[n] = w[n]*x[n]\nloss = sum((y[n] - t[m])**2, over=(n,m))", dtype="float64", loss="loss", output="y",
        parameters={"w": ["N"]}, inputs={"x": ["N"], "t": ["M"]}))
    w, x = np.ones(3), np.ones(3)
    batch = {"x": x, "t": np.ones(4)}
    dtype = np.dtype(np.float64)
    for given, sizes in (({"x": x}, {"N": 3, "M": 1}), ({"x": x.astype("f8")[::1]}, {"N": 3, "M": 1})):
        assert dict(zip(("N", "M"), module._door_of_predict({"w": w}, given, dtype)[0], strict=True)) == sizes
    assert module._door_of_predict({"w": np.ones(6)[::2]}, batch, dtype)[0] == (3, 4)
    assert module.predict({"w": w}, {"x": x})["y"].shape == (3,)


def words(text: str) -> set[str]:
    return spoken(text) | {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.ClassDef)}


def test_a_size_cannot_be_called_as_what_the_file_says() -> None:
    said = {word for word in words(texts()["lin_c.py"]) if not word.startswith("_")}
    own = {*"K B N x i t m_w m_e".split(), *"count leave command version".split()}  # the latter are no globals
    assert {w for w in said - WORDS - own if not check_name(w, "a size", adjoint=False)} == set()
    assert said >= WORDS
    for size in ("ctypes", "load"):
        with pytest.raises(SpecError, match=rf"expected another name for the size '{size}', which lin_c\.py uses"):
            binding_text(prepared({**SPEC, "sizes": {**SPEC["sizes"], size: 3}}), HEADER)


# ---- any model -------------------------------------------------------------------------------------------------------


SPECS = sorted(path.stem for path in (Path(__file__).parent.parent / "specs").glob("*.yaml"))


@pytest.mark.parametrize(("name", "wrt"), [("char_rnn", "params"), ("scalar", "params"), *((name, "all") for name in SPECS)])
def test_every_array_comes_to_its_place(name: str, wrt: str, specs: Path) -> None:
    model = symbolic.load(specs / f"{name}.yaml")
    options = Options(wrt=wrt, tangent=True, hvp=True)
    made = prepared(model, options)
    members, program = fields(made), made.program
    module = bound(model, options)
    twin = codegen.compile(model, wrt=wrt, tangent=True, hvp=True)
    sizes = {n: 2 + k for k, n in enumerate(members.dims)}
    values = {n: a if a.dtype.kind == "i" else a.astype(made.dtype) for n, a in values_for(program, sizes).items()}
    params, batch = {n: values[n] for n in members.params}, {n: values[n] for n in members.inputs}
    direction = {n: values[n] for n in (*members.params, *members.grads)}
    first = {n: float(values[n].flat[0]) for n in values}
    expected = sum((k + 1)*first[n] for k, n in enumerate(members.params))
    expected += sum((k + 50)*first[n] for k, n in enumerate(members.inputs)) + sum(
        1000*(k + 1)*sizes[n] for k, n in enumerate(members.dims))

    loss, grads, aux = module.value_and_grad(params, batch, aux=True)
    _, other, outputs = twin.value_and_grad(params, batch, aux=True)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert module.loss(params, batch) == loss
    assert [grads[n].flat[0] for n in members.grads] == [100 + k for k in range(len(members.grads))]
    keys = [program.links.get(n, n) for n in members.outputs]
    assert [aux[n].flat[0] for n in keys] == [200 + k for k in range(len(keys))]
    for found, like in ((grads, other), (aux, outputs), (module.predict(params, batch), twin.predict(params, batch))):
        assert [(n, a.shape, a.dtype.kind) for n, a in found.items()] == [(n, a.shape, a.dtype.kind) for n, a in like.items()]
    few = {t.name: batch[t.name] for unit in made.units if unit.kind == "predict" for t in unit.program.inputs}
    assert list(module.predict(params, few)) == list(twin.predict(params, few))
    slope = sum((k + 7)*first[n] for k, n in enumerate(members.grads))
    assert module.jvp(params, batch, direction) == pytest.approx((expected, slope), rel=1e-4, abs=1e-3)
    assert [a.flat[0] for a in module.hvp(params, batch, direction).values()] == [100 + k for k in range(len(members.grads))]


def test_the_time_of_a_call(lin: Any) -> None:
    """Told, not held: the machine may be busy."""
    cases = {"lin": (lin, *arrays(count=1))}
    five = bound({**SPEC, "name": "five", "sizes": {"D": 2, "H": 2}, "inputs": {"x": ["N", "D"], "t": ["N", 1]}, "layers": [
        {"name": "a", "type": "dense", "units": "H", "activation": "tanh"}, {"name": "b", "type": "dense", "units": 1},
        {"name": "c", "type": "equations", "parameters": {"s": [1]}, "equations": "y[n,i] = s[i]*b[n,i]", "output": "y"}]})
    batch = {"x": np.ones((1, 2), np.float32), "t": np.ones((1, 1), np.float32)}
    cases["5 parameters, 2 inputs, nothing computed"] = (five, five.init(), batch)
    for name, (module, params, batch) in cases.items():
        for call in (module.value_and_grad, module.loss, module.predict):
            best = min(_time(call, params, batch) for _ in range(5))
            print(f"{name}: {call.__name__}: {best*1e6:.1f} us a call")  # noqa: T201


def _time(call: Any, params: Any, batch: Any) -> float:
    start = time.perf_counter()
    for _ in range(2000):
        call(params, batch)
    return (time.perf_counter() - start)/2000
