"""The main job end to end: a character RNN from its spec to a trained model, through the files that ``generate`` writes."""

from __future__ import annotations

import importlib.util
import io
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symbolic.errors import MachineError

if TYPE_CHECKING:
    from codegen.pipeline import Written
    from symbolic.model import Model

    Array = np.ndarray[Any, Any]

__all__ = ["Corpus", "Plan", "apart", "corpus", "run", "spec_path", "speeds", "train", "unigram_entropy"]

MODULES = (
    "argparse", "ast", "bdb", "calendar", "cmd", "configparser", "copy", "csv", "dataclasses", "datetime", "difflib", "dis",
    "doctest", "enum", "fileinput", "filecmp", "fractions", "ftplib", "functools", "getopt", "gettext", "glob", "gzip", "hashlib",
    "heapq", "inspect", "ipaddress", "locale", "mailbox", "mimetypes", "numbers", "operator", "optparse", "pdb", "pickle",
    "pickletools", "platform", "poplib", "pprint", "profile", "pstats", "pyclbr", "pydoc", "queue", "quopri", "random", "reprlib",
    "sched", "selectors", "shelve", "shlex", "shutil", "smtplib", "socket", "socketserver", "ssl", "string", "subprocess",
    "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "trace", "traceback", "typing", "uuid", "warnings",
    "weakref", "webbrowser", "zipapp",
)  # fmt: skip
"""Pure Python in every installation from 3.11 on; their source is the text that the demo learns."""

HELD_OUT = ("bisect", "contextlib", "cProfile", "fnmatch", "graphlib", "imaplib", "linecache", "plistlib", "statistics")
"""Modules that training never sees."""

ENOUGH = 200_000
"""Characters below which there is too little text to learn from."""

AGREES = 1e-4
"""How far float32 gradients of two modules may lie apart, of the largest entry of the array: as in ``check``."""

REST = "\N{REPLACEMENT CHARACTER}"
"""Stands for every character outside the alphabet."""


@dataclass(frozen=True)
class Plan:
    """How long to train: windows of ``steps`` characters of ``streams`` texts side by side.

    ``rate`` is half the spec's: Adagrad's first steps are as large as the rate, and with sixteen streams that saturates the net.
    """

    windows: int
    steps: int = 32
    streams: int = 16
    rate: float = 0.05
    sample: int = 400


FULL, QUICK = Plan(windows=30_000), Plan(windows=2_000, sample=200)


@dataclass(frozen=True)
class Corpus:
    """Text as indices into an alphabet; the last letter of the alphabet stands for all others."""

    alphabet: str
    train: Array
    held_out: Array

    def text(self, codes: Array) -> str:
        """The characters of some indices."""
        return "".join(self.alphabet[int(c)] for c in codes)


def spec_path() -> Path:
    """The demo's spec: package data of an installation, or specs/ of a checkout."""
    here = Path(__file__).resolve().parent
    for path in (here / "specs" / "char_rnn.yaml", here.parent / "specs" / "char_rnn.yaml"):
        if path.is_file():
            return path
    raise MachineError(f"{here / 'specs' / 'char_rnn.yaml'} is missing; install chainrule again")


def corpus(letters: int) -> Corpus:
    """The standard library's source over an alphabet of so many letters. Raises MachineError where there is no source."""
    train, held_out = _sources(MODULES), _sources(HELD_OUT)
    if len(train) < ENOUGH:
        raise MachineError(f"the source of Python's standard library is not installed (found {len(train):,} characters of it); "
                           "the demo learns from it")
    counts = Counter(train)
    common = sorted(counts, key=lambda letter: (-counts[letter], letter))[: letters - 1]
    alphabet = "".join(sorted(common)) + REST
    codes = {letter: code for code, letter in enumerate(alphabet)}

    def encode(text: str) -> Array:
        return np.array([codes.get(letter, letters - 1) for letter in text], dtype=np.int64)

    return Corpus(alphabet, encode(train), encode(held_out))


def _sources(names: tuple[str, ...]) -> str:
    """The source of some modules, one after the other; a module that this Python lacks is left out."""
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        source = loader.get_source(name) if hasattr(loader, "get_source") else None
        if source:
            found.append(source.replace("\r\n", "\n").replace("\t", "    "))
    return "\n".join(found)


def unigram_entropy(codes: Array, letters: int) -> float:
    """Entropy of single characters in nats: what a model that knows nothing but their frequencies can reach."""
    share = np.bincount(codes, minlength=letters) / len(codes)
    share = share[share > 0]
    return float(-np.sum(share * np.log(share)))


def windows(codes: Array, steps: int, streams: int) -> Iterator[tuple[bool, Array, Array]]:
    """Endless windows of the text laid out as parallel streams: (whether the streams start anew, inputs, targets)."""
    length = (len(codes) - 1) // streams
    inputs = codes[: length * streams].reshape(streams, length).T
    targets = codes[1 : length * streams + 1].reshape(streams, length).T
    while True:
        for start in range(0, length - steps + 1, steps):
            yield start == 0, inputs[start : start + steps], targets[start : start + steps]


def held_out_loss(module: Any, params: dict[str, Array], codes: Array, streams: int = 64) -> float:
    """Mean loss of a character in nats: T and N are free sizes, so the whole text is one window of a few long streams."""
    length = (len(codes) - 1) // streams
    batch = _start(module, params, streams)
    batch["x"] = codes[: length * streams].reshape(streams, length).T
    batch["y"] = codes[1 : length * streams + 1].reshape(streams, length).T
    return float(module.loss(params, batch)) / (length * streams)


def _start(module: Any, params: dict[str, Array], streams: int) -> dict[str, Array]:
    """The carried state before the first character."""
    return {"rnn.h0": np.zeros((streams, params["rnn.U"].shape[0]), dtype=params["rnn.U"].dtype)}


def train(
    module: Any, text: Corpus, plan: Plan, say: Callable[[int, float], None], seed: int = 0
) -> dict[str, Array]:
    """Truncated backpropagation through time: the state is carried from window to window, the gradient is not.

    ``say(window, loss)`` hears the running loss of a character.
    """
    params = module.init(seed)
    state = None
    batch = _start(module, params, plan.streams)
    running = math.nan
    feed = windows(text.train, plan.steps, plan.streams)
    for window in range(1, plan.windows + 1):
        anew, batch["x"], batch["y"] = next(feed)
        if anew:
            batch.update(_start(module, params, plan.streams))
        loss, gradients, aux = module.value_and_grad(params, batch, aux=True)
        batch["rnn.h0"] = aux["rnn.h0"]
        params, state = module.update(params, gradients, state, rate=plan.rate)
        each = loss / (plan.steps * plan.streams)
        running = each if math.isnan(running) else 0.99 * running + 0.01 * each
        say(window, running)
    return dict(params)


def sample(module: Any, params: dict[str, Array], text: Corpus, length: int, seed: int = 0, heat: float = 0.7) -> str:
    """Text drawn letter by letter; the state goes round by way of the carried input."""
    rng = np.random.default_rng(seed)
    batch = _start(module, params, 1)
    prompt = [text.alphabet.index(letter) for letter in "\ndef "]
    drawn = list(prompt)
    for position in range(length):
        letter = drawn[position]
        batch["x"] = batch["y"] = np.array([[letter]])
        _, _, aux = module.value_and_grad(params, batch, aux=True)
        batch["rnn.h0"] = aux["rnn.h0"]
        if position + 1 < len(prompt):
            continue
        logits = np.asarray(aux["out.y"], dtype=np.float64)[0, 0] / heat
        chance = np.exp(logits - logits.max())
        drawn.append(int(rng.choice(len(chance), p=chance / chance.sum())))
    return text.text(np.array(drawn))


def apart(modules: Sequence[Any], text: Corpus, plan: Plan) -> float:
    """How far the loss and the gradients of one batch lie apart in two modules, of the largest entry of each array."""
    params = modules[0].init(0)
    _, x, y = next(windows(text.train, plan.steps, plan.streams))
    batch = {**_start(modules[0], params, plan.streams), "x": x, "y": y}
    (one, ones), (other, others) = (module.value_and_grad(params, batch) for module in modules)
    found = [abs(other - one) / abs(one)]
    for name, gradient in ones.items():
        found.append(float(np.max(np.abs(others[name] - gradient)) / np.max(np.abs(gradient))))
    return float(np.max(found))  # NaN stays NaN


def speeds(modules: Sequence[Any], text: Corpus, plan: Plan, seconds: float = 1.0) -> list[float]:
    """Characters a second whose loss and gradients each module computes, on the same batches in turn."""
    params = modules[0].init(0)
    batch = _start(modules[0], params, plan.streams)
    spent, count = [0.0] * len(modules), 0
    for _, batch["x"], batch["y"] in windows(text.train, plan.steps, plan.streams):
        for number, module in enumerate(modules):
            begin = time.perf_counter()
            module.value_and_grad(params, batch)
            if count >= 3:  # the first calls find memory and caches cold
                spent[number] += time.perf_counter() - begin
        count += 1
        if sum(spent) >= seconds:
            break
    return [(count - 3) * plan.steps * plan.streams / each for each in spent]


def run(quick: bool = False, out: Path = Path("chainrule-demo")) -> int:
    """The whole demo; the exit status."""
    import codegen
    import symbolic
    from codegen.derivation.formats import show
    from codegen.derivation.provenance import derive
    from codegen.files import refuse_foreign, write_all
    from codegen.folding import tell
    from codegen.verify import check

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a file or a pipe sees each line when it is done
    begin = time.perf_counter()
    plan = QUICK if quick else FULL
    out = _folder(out)
    path = out / "char_rnn.yaml"
    write_all({path: spec_path().read_text(encoding="utf-8")})
    tell(f"1. The spec: {path}")
    model = symbolic.load(path)

    derivation = derive(model)
    text_path = out / "char_rnn.txt"
    refuse_foreign(text_path, path.name)
    shown = show(derivation)
    write_all({text_path: f"Generated by Chainrule from {path.name} (sha256 {model.digest[:16]})\n\n{shown}"})
    tell(f"2. The derivation: {len(derivation.given.equations)} forward equations, "
         f"{sum(len(a.paths) for a in derivation.adjoints.values())} adjoint ones. For example, backpropagation through time:")
    tell(next(line for line in shown.splitlines() if " d_rnn.h[t," in line).rstrip())

    module_file, document = codegen.generate(model, target=("numpy", "latex"), out=out)
    tell(f"3. The module: {module_file.path}, {module_file.lines} lines")

    report = check(model)
    tell(f"4. Held against perturbation at {', '.join(f'{k}={v}' for k, v in report.sizes.items())}:")
    for verdict in report.parameters:
        digits = ", ".join(f"{name} {value:.0f}" for name, value in verdict.digits.items())
        tell(f"     {verdict.name:<6} {verdict.verdict}  digits that agree: {digits}")
    if report.exit_status:
        tell("   A gradient is wrong; there is nothing to train.")
        return report.exit_status

    module = _import(module_file.path)
    letters = int(model.program().sizes["V"] or 0)
    text = corpus(letters)
    entropy = unigram_entropy(text.held_out, letters)
    made_in_c, ported = _in_c(model, out)
    if ported is not None:
        distance = apart((module, ported), text, plan)
        tell(f"   Loss and gradients of one batch: within {distance:.0e} of the NumPy module's, of the largest entry of each "
             "array")
        if not distance <= AGREES:
            tell(f"   Expected at most {AGREES:.0e}; there is nothing to train.")
            return 1
        slow, fast = speeds((module, ported), text, plan)
        tell(f"   Loss and gradients of {slow:,.0f} characters a second through NumPy, of {fast:,.0f} through C")
        module = ported
    tell(f"6. Training through {'NumPy' if ported is None else 'C'} on {len(text.train):,} characters of the standard "
         f"library's source, held out {len(text.held_out):,}; frequencies alone give {entropy:.3f} nats a character")
    start = time.perf_counter()
    with _progress(plan.windows) as say:
        params = train(module, text, plan, say)
    seconds = time.perf_counter() - start
    loss = held_out_loss(module, params, text.held_out)
    tell(f"   {plan.windows * plan.steps * plan.streams:,} characters in {seconds:.0f} s; held-out loss {loss:.3f} nats, "
         f"{loss / entropy:.2f} of the entropy of single characters")
    print("7. A sample:\n")
    print("\n".join(f"     {line}" for line in sample(module, params, text, plan.sample).strip("\n").splitlines()))
    print()
    what = ("the module", "C and its binding") if made_in_c else ("the module",)
    tell(f"Done in {time.perf_counter() - begin:.0f} s. The spec, the derivation as text and LaTeX, {', '.join(what)}:")
    for made in (path, text_path, document.path, module_file.path, *(file.path for file in made_in_c)):
        print(f"     {made}")  # a line of its own, so that it can be copied
    return 0


def _in_c(model: Model, out: Path) -> tuple[list[Written], Any]:
    """The C files, and the module that calls them, compiled. No files where there is no compiler, no module where it fails."""
    import codegen
    from codegen.build import build, compilers
    from codegen.folding import tell

    written: list[Written] = []
    try:
        found = compilers()
        if not found:
            tell("5. The C module: left out, for no C compiler was found (gcc, clang, or 'pip install ziglang')")
            return [], None
        files = {item.path.name: item for item in codegen.generate(model, target="c", out=out)}
        written = [source, header, binding] = [files[f"{model.name}{end}"] for end in (".c", ".h", "_c.py")]
        tell(f"5. The C module: {source.path}, {source.lines} lines")
        begin = time.perf_counter()
        build(model.name, source.path, header.path)
    except MachineError as error:
        tell(f"{'   It' if written else '5. The C module'} cannot be built: {str(error).splitlines()[0]}")
        return written, None
    tell(f"   Ready in {time.perf_counter() - begin:.1f} s, compiled with {found[0].name} or taken from the cache")
    return written, _import(binding.path)


def _folder(out: Path) -> Path:
    """The folder itself, or, where somebody has edited the spec in it, the next one with a number: the demo is one model's."""
    text = spec_path().read_bytes()
    found, count = out, 1
    while (spec := found / "char_rnn.yaml").is_file() and spec.read_bytes() != text:
        print(f"{spec} is not the demo's any more and stays as it is")
        count += 1
        found = out.with_name(f"{out.name}-{count}")
    return found


def _import(path: Path) -> Any:
    """The module in a file, as ``import`` would load it."""
    spec = importlib.util.spec_from_file_location(f"chainrule_demo_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal; elsewhere a line at each tenth of the way."""
    if not sys.stdout.isatty():
        def line(window: int, loss: float) -> None:
            if window % (total // 10) == 0:
                print(f"     window {window:6,} of {total:,}: loss {loss:.3f}", flush=True)

        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("     training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns) as progress:
        task = progress.add_task("training", total=total, loss=float("nan"))

        def bar(window: int, loss: float) -> None:
            if window % 20 == 0 or window == total:
                progress.update(task, completed=window, loss=loss)
            if window % (total // 10) == 0:
                progress.console.print(f"     window {window:6,} of {total:,}: loss {loss:.3f}")

        yield bar
