"""A program in C alone round a generated ``NAME.c``: it reads every array from one file, calls every function with blocks of
exactly the right size, and writes what came back. Sizes come with the data, so one program serves for all of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import codegen
import symbolic
from codegen.c.binding import Fields, fields
from codegen.c.names import field_names
from codegen.pipeline import Options, render
from codegen.prepared import Prepared
from tests.c_files import prepared
from tests.emitting import values_for
from tests.oracle.compare import assert_close

__all__ = ["WARNINGS", "Driven", "compile_c", "compiler"]

WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
FLOAT64, FLOAT32 = 1e-12, 1e-4
"""Of the greatest entry of each array: float64 differs by the order of sums alone."""

HEAD = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef READ_ONLY /* what arrives lies in pages that nobody may write to */
#include <sys/mman.h>
#endif

typedef struct {
    void *data;
    size_t bytes;
} block;

static FILE *given, *result;
static int filled; /* whether new memory is full of NaN, or as it comes (for valgrind) */
static void *blocks[1000];
static size_t count;

static void fail(const char *what)
{
    fprintf(stderr, "driver: %s\n", what);
    exit(9);
}

static void *fresh(size_t bytes)
{
    void *const data = malloc(bytes);
    if (data == NULL || count == 1000) {
        fail("no memory");
    }
    if (filled) {
        memset(data, 0xff, bytes); /* NaN as float and as double, -1 as an index */
    }
    blocks[count++] = data;
    return data;
}

static size_t number(void)
{
    int64_t found = 0;
    if (fread(&found, sizeof found, 1, given) != 1 || found < 0) {
        fail("the data end early");
    }
    return (size_t)found;
}

static block room_of(size_t each)
{
    block made;
    made.bytes = number() * each;
    made.data = fresh(made.bytes);
    return made;
}

static void *arrived(size_t each)
{
#ifdef READ_ONLY
    block made;
    made.bytes = number() * each;
    made.data = mmap(NULL, made.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made.data == MAP_FAILED) {
        fail("no memory");
    }
#else
    const block made = room_of(each);
#endif
    if (fread(made.data, 1, made.bytes, given) != made.bytes) {
        fail("the data end early");
    }
#ifdef READ_ONLY
    if (mprotect(made.data, made.bytes, PROT_READ) != 0) {
        fail("the pages cannot be protected");
    }
#endif
    return made.data;
}

static void put(const void *data, size_t bytes)
{
    if (fwrite(data, 1, bytes, result) != bytes) {
        fail("the result cannot be written");
    }
}

static void done(int code)
{
    if (code != 0) {
        fprintf(stderr, "driver: code %d\n", code);
        exit(8);
    }
}
"""


@dataclass(frozen=True)
class Driven:
    """A model and what it is asked for, as C files beside a ``main.c``, and as the NumPy module that it is held against."""

    model: symbolic.Model
    options: Options

    @cached_property
    def made(self) -> Prepared:
        return prepared(self.model, self.options)

    @cached_property
    def members(self) -> Fields:
        return fields(self.made)

    @cached_property
    def twin(self) -> Any:
        asked = {key: getattr(self.options, key) for key in ("wrt", "unroll", "tangent", "hvp")}
        return codegen.compile(self.model, dtype="float64", **asked)

    @cached_property
    def texts(self) -> Mapping[str, str]:
        return {**self._rendered, "main.c": self.main}

    @cached_property
    def _rendered(self) -> Mapping[str, str]:
        return render(self.model, "c", self.options)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """The files in a folder; the paths of those that a compiler takes."""
        for name, text in self.texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        return folder / f"{self.made.name}.c", folder / "main.c"

    @property
    def kinds(self) -> list[str]:
        return [unit.kind for unit in self.made.units]

    @property
    def dims(self) -> list[str]:
        """The members of the struct of sizes, as the header has them: a size that C uses for something else has another name."""
        (names,) = re.findall(rf"size_t ([\w, ]+);\n\}} {self.made.name}_dims;", self._rendered[f"{self.made.name}.h"])
        return str(names).split(", ")

    @cached_property
    def predicted(self) -> list[str]:
        """The outputs that ``predict`` gives."""
        return [n for unit in self.made.units if unit.kind == "predict" for n in unit.program.outputs]

    @cached_property
    def asked(self) -> set[str]:
        """The inputs that ``predict`` reads."""
        return {t.name for unit in self.made.units if unit.kind == "predict" for t in unit.program.inputs}

    # ---- the program ---------------------------------------------------------------------------------------------------

    @cached_property
    def main(self) -> str:
        """The text of ``main.c``."""
        name, members, own = self.made.name, self.members, field_names(self.made.program)
        real, place = f"sizeof({name}_real)", f"sizeof({name}_index)"

        def each(tensor: str) -> str:
            return place if self.made.program.tensor(tensor).is_index else real

        lines = [f"{name}_{what} {what};" for what in ("dims", "params", "inputs", "grads", "outputs")]
        lines += [f"{name}_inputs fewer;", f"{name}_outputs some;", f"{name}_real loss = 0;", "void *workspace;", "size_t bytes;"]
        lines += [f"block grads_{k};" for k in range(len(members.grads))]
        lines += [f"block outputs_{k};" for k in range(len(members.outputs))]
        directed = "jvp" in self.kinds or "hvp" in self.kinds
        lines += [f"{name}_direction direction;", "memset(&direction, 0, sizeof direction);"] if directed else []
        lines += [f"{name}_real slope = 0;"] if "jvp" in self.kinds else []
        lines += [f"memset(&{v}, 0, sizeof {v});" for v in ("dims", "params", "inputs", "grads", "outputs", "fewer", "some")]
        lines += ["if (argc != 4) {", '    fail("expected: data result filled|plain");', "}"]
        lines += ['given = fopen(argv[1], "rb");', 'result = fopen(argv[2], "wb");', "filled = argv[3][0] == 'f';"]
        lines += ["if (given == NULL || result == NULL) {", '    fail("a file cannot be opened");', "}"]
        lines += [f"dims.{n} = number();" for n in self.dims] if members.dims else []
        lines += [f"params.{own[n]} = arrived({real});" for n in members.params]
        lines += [f"inputs.{own[n]} = arrived({each(n)});" for n in members.inputs]
        lines += [f"fewer.{own[n]} = inputs.{own[n]};" for n in members.inputs if n in self.asked]
        lines += [f"direction.{own[n]} = arrived({real});" for n in members.grads] if directed else []
        for what, names in (("grads", members.grads), ("outputs", members.outputs)):
            for k, n in enumerate(names):
                lines += [f"{what}_{k} = room_of({each(n)});", f"{what}.{own[n]} = {what}_{k}.data;"]
        lines += [f"some.{own[n]} = outputs.{own[n]};" for n in self.predicted]
        lines += [f"bytes = {name}_workspace_bytes(&dims);", "if (bytes == 0) {", '    fail("a size is out of range");', "}"]
        for call in self.calls():
            lines += ["workspace = fresh(bytes);", f"done({name}_{call});"]
            lines += [f"put(&{n}, sizeof {n});" for n in ("loss", "slope") if f"&{n}," in call]
            lines += self._blocks("grads") if "&grads" in call else []
            lines += self._blocks("outputs") if "&outputs" in call or "&some" in call else []
        lines += ["while (count > 0) {", "    free(blocks[--count]);", "}", "return fclose(given) | fclose(result);"]
        body = "\n".join(f"    {line}" for line in lines)
        return f'#include "{name}.h"\n{HEAD}\nint main(int argc, char **argv)\n{{\n{body}\n}}\n'

    def calls(self) -> list[str]:
        """Each function once, and the first one also without outputs."""
        head, tail = "&dims, &params, &inputs", "workspace, bytes)"
        table = {
            "value_and_grad": [f"value_and_grad({head}, &loss, &grads, &outputs, {tail}",
                               f"value_and_grad({head}, &loss, &grads, NULL, {tail}"],
            "loss": [f"loss({head}, &loss, {tail}"],
            "predict": [f"predict(&dims, &params, &fewer, &some, {tail}"],
            "jvp": [f"jvp({head}, &direction, &loss, &slope, {tail}"],
            "hvp": [f"hvp({head}, &direction, &grads, {tail}"],
        }
        return [call for kind in self.kinds for call in table[kind]]

    def _blocks(self, what: str) -> list[str]:
        """Write each block, and spoil it for the next call."""
        lines = []
        for k in range(len(getattr(self.members, what))):
            item = f"{what}_{k}"
            lines += [f"put({item}.data, {item}.bytes);", f"memset({item}.data, 0xff, {item}.bytes);"]
        return lines

    # ---- running -------------------------------------------------------------------------------------------------------

    def values(self, sizes: Mapping[str, int], dtype: str, scale: float = 1, **given: Any) -> dict[str, Any]:
        """Arrays of the dtype, parameters up to ``scale``, and some labels that are ignored where a label may be."""
        found = values_for(self.made.program, sizes, **given)
        found |= {t.name: scale*found[t.name] for t in self.made.program.parameters}
        for tensor in (*self.made.program.parameters, *self.made.program.inputs):
            array = found[tensor.name]
            if tensor.is_index and tensor.ignore is not None and array.size > 1:
                array.flat[::3] = int(tensor.ignore)
            found[tensor.name] = np.array(array, np.int64 if tensor.is_index else dtype, order="C")
        return found

    def check(self, programs: Sequence[Sequence[str | Path]], sizes: Mapping[str, int], values: Mapping[str, Any], dtype: str,
              fill: str = "filled") -> None:
        """Run programs (as words of a command) on the values, and hold all that they write against NumPy in float64."""
        directions = {n: np.cos(np.arange(values[n].size)).reshape(values[n].shape).astype(dtype) for n in self.members.grads}
        want = self._wanted(values, directions)
        for program in programs:
            folder = Path(program[-1]).parent
            self._write_data(folder / "data", sizes, values, directions, want[0][2])
            line = [*map(str, program), str(folder / "data"), str(folder / "result"), fill]
            done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
            assert done.returncode == 0, f"{folder.name}: {sizes}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            self._compare((folder / "result").read_bytes(), want, dtype, f"{folder.name}: {sizes}")

    def _write_data(self, path: Path, sizes: Mapping[str, int], values: Mapping[str, Any], directions: Mapping[str, Any],
                    outputs: Mapping[str, Any]) -> None:
        """What ``main.c`` reads: sizes, then each array after its number of entries, then the entries of each result."""
        arrays = [values[n] for n in (*self.members.params, *self.members.inputs)]
        arrays += [directions[n] for n in self.members.grads] if "jvp" in self.kinds or "hvp" in self.kinds else []

        def numbers(*found: int) -> bytes:
            return np.asarray(found, np.int64).tobytes()

        with path.open("wb") as stream:
            stream.write(numbers(*(sizes[n] for n in self.members.dims)))
            for array in arrays:
                stream.write(numbers(array.size) + array.tobytes())
            stream.write(numbers(*(values[n].size for n in self.members.grads), *(outputs[n].size for n in self.members.outputs)))

    def _wanted(self, values: Mapping[str, Any], directions: Mapping[str, Any]) -> list[tuple[Any, Any, Any]]:
        """For each call: numbers, gradients and outputs, as far as it gives them."""
        wide = {n: np.asarray(a, None if a.dtype.kind == "i" else float) for n, a in values.items()}
        params, batch = ({n: wide[n] for n in names} for names in (self.members.params, self.members.inputs))
        along = {n: np.asarray(directions[n], float) if n in directions else np.zeros_like(wide[n])
                 for n in dict.fromkeys((*params, *directions))}
        keys = {n: self.made.program.links.get(n, n) for n in self.members.outputs}
        loss, grads, aux = self.twin.value_and_grad(params, batch, aux=True)
        outputs = {n: np.asarray(aux[key]) for n, key in keys.items()}
        alone = {"loss": loss}
        found: list[tuple[Any, Any, Any]] = [(alone, grads, outputs), (alone, grads, {}), (alone, {}, {})]
        fewer = {n: a for n, a in batch.items() if n in self.asked}
        told = set(self.members.dims) <= {str(e) for n in (*params, *fewer) for e in self.made.program.tensor(n).shape}
        guessed = self.twin.predict(params, fewer if told else batch)
        rest = {n: np.full(a.shape, np.nan) for n, a in outputs.items()}  # no output of predict: as the driver left it
        found.append(({}, {}, {**rest, **{n: np.asarray(guessed[keys[n]]) for n in self.predicted}}))
        if "jvp" in self.kinds:
            value, slope = self.twin.jvp(params, batch, along)
            found.append(({"loss": value, "slope": slope}, {}, {}))
        if "hvp" in self.kinds:
            found.append(({}, self.twin.hvp(params, batch, along), {}))
        return found

    def _compare(self, data: bytes, want: list[tuple[Any, Any, Any]], dtype: str, what: str) -> None:
        start = 0

        def take(like: Any, index: bool = False) -> Any:
            nonlocal start
            array = np.frombuffer(data, np.int64 if index else dtype, np.size(like), start).reshape(np.shape(like))
            start += array.nbytes
            return array

        for call, (numbers, grads, outputs) in zip(self.calls(), want, strict=True):
            got = {n: take(v) for n, v in numbers.items()}
            got |= {f"gradient of {n}": take(grads[n]) for n in (self.members.grads if grads else ())}
            places = {n for n in outputs if self.made.program.tensor(n).is_index}
            got |= {f"output {n}": take(outputs[n], n in places) for n in (self.members.outputs if outputs else ())}
            expected = {**numbers, **{f"gradient of {n}": a for n, a in grads.items()},
                        **{f"output {n}": a for n, a in outputs.items()}}
            for n, array in list(expected.items()):
                if np.size(array) and np.all(np.isnan(array)):  # nobody wrote it: 0xff in every byte
                    assert set(got[n].tobytes()) == {255}, f"{what}: {call}: {n} was written"
                    del expected[n]
            assert_close(got, expected, FLOAT64 if dtype == "float64" else FLOAT32, f"{what}: {call}")
        assert start == len(data)


def compiler(name: str) -> list[str] | None:
    """The command of gcc, clang or ziglang's clang, where it is."""
    if name == "ziglang":
        return [sys.executable, "-m", "ziglang", "cc"]
    return [found] if (found := shutil.which(name)) else None


def compile_c(command: Sequence[str], flags: Sequence[str], sources: Sequence[Path], to: Path) -> Path:
    """The program of C files; what the compiler says is an error."""
    line = [*command, *WARNINGS, *flags, *map(str, sources), "-o", str(to), "-lm"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    said = "\n".join(done.stderr.splitlines()[:12])
    assert (done.returncode, said) == (0, ""), f"{' '.join(line)}\n{said}"
    return to
