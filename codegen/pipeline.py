"""The stages in order, one call each; the only place that knows the order.

    Model -> Program -> (stabilised) -> Program + adjoint -> rewritten Program -> Schedule -> text

Every value on the way is frozen and can be printed: ``stages(model)`` keeps them all.
"""

from __future__ import annotations

import os
import re
import shlex
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from codegen.choices import DOCUMENTS, DTYPES, FORMATS, MODULES, TARGETS
from symbolic.adjoint import gradient
from symbolic.errors import ArgumentError, MachineError, SpecError, nearest
from symbolic.model import Model, load
from symbolic.program import Program
from symbolic.rewrite import Step, apply
from symbolic.tangent import tangent

if TYPE_CHECKING:
    from codegen.derivation.formats import Style
    from codegen.html.source import Source
    from codegen.prepared import Prepared, Unit
    from codegen.verdict import Verdict

__all__ = [
    "Options", "Stages", "Written", "compile", "derivation", "generate", "render", "stages", "units", "verdicts",
]

OUT = "generated"
"""The folder that files go to where none is named."""


@dataclass(frozen=True)
class Options:
    """What a user may ask for. ``wrt``: ``params``, ``all`` or names. ``disabled``: rewrites that are switched off. ``block``:
    steps of a block, in every loop that gains by it; ``None``: blocks where the memory of all steps is known and too large."""

    dtype: str | None = None
    wrt: str | tuple[str, ...] = "params"
    unroll: int | None = None
    tangent: bool = False
    hvp: bool = False
    disabled: tuple[str, ...] = ()
    block: int | None = None


@dataclass(frozen=True)
class Stages:
    """Every stage of one model's way from equations to the programs that are scheduled."""

    model: Model
    options: Options
    wrt: tuple[str, ...]
    program: Program
    stabilised: Program
    adjoint: Program
    optimised: Program
    predict: Program
    loss: Program
    jvp: Program | None = None
    hvp: Program | None = None
    directions: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Written:
    """One file that was written: where, how many lines, what a call costs."""

    path: Path
    lines: int
    cost: str = ""


def stages(model: Model, options: Options | None = None) -> Stages:
    """Run the pipeline up to the programs that a target schedules. Raises ChainruleError."""
    options = options or Options()
    program = model.program()
    predict = model.predict_program()
    if options.unroll is not None:
        from symbolic.unroll import recurrent_sizes, unroll

        rolled, program = program, unroll(program, options.unroll)
        (time,) = recurrent_sizes(rolled)
        predict = unroll(predict, options.unroll, str(time))  # what is predicted may need no recurrence
    wrt = names_of(program, options.wrt)
    stabilised, before = apply(program, "forward", options.disabled)
    adjoint = gradient(stabilised, wrt)
    optimised, after = apply(adjoint, "backward", options.disabled)
    loss = forward_only(replace(stabilised, outputs=(), links={}), options)
    predicted, _ = apply(predict, "forward", options.disabled)
    predicted = forward_only(predicted, options)
    jvp = hvp = None
    directions: dict[str, str] = {}
    if options.tangent:
        jvp = tangent(replace(stabilised, outputs=(), links={}), wrt)
        directions = {name: jvp.tangents[name] for name in wrt}
        slope = jvp.tangents.get(jvp.loss)
        jvp = replace(jvp, tangents={**directions, **({jvp.loss: slope} if slope else {})})
        jvp, _ = apply(jvp, "backward", options.disabled)
    if options.hvp:
        hvp = tangent(adjoint, wrt)
        directions = {name: hvp.tangents[name] for name in wrt}
        products = {name: hvp.tangents.get(hvp.gradients[name]) for name in wrt}
        hvp = replace(hvp, loss="", outputs=(), links={}, tangents=directions, gradients={n: t for n, t in products.items() if t})
        hvp, _ = apply(hvp, "backward", options.disabled)
    return Stages(model, options, wrt, program, stabilised, adjoint, optimised, predicted, loss, jvp, hvp, directions,
                  (*before, *after))


def forward_only(program: Program, options: Options) -> Program:
    """The rewrites that a program without adjoints takes."""
    return apply(program, "backward", options.disabled)[0]


def names_of(program: Program, wrt: str | tuple[str, ...]) -> tuple[str, ...]:
    """The tensors that ``--wrt`` names. Raises SpecError with the nearest name."""
    parameters = tuple(t.name for t in program.parameters)
    everything = (*parameters, *(t.name for t in program.inputs if not t.is_index))
    if wrt == "params":
        return parameters
    if wrt == "all":
        return everything
    names = tuple(part.strip() for part in wrt.split(",")) if isinstance(wrt, str) else tuple(wrt)
    for name in names:
        if name not in everything:
            raise SpecError(f"expected parameters or real inputs to differentiate by, found '{name}'{nearest(name, everything)}; "
                            f"known: {', '.join(everything)}")
    return names


def render(
    model: Model, target: str = "numpy", options: Options | None = None, done: Stages | None = None, out: str | Path = OUT
) -> dict[str, str]:
    """The text of every file of a target, by file name; ``done``: its stages, where the caller has them already; ``out``: the
    folder that they will go to, for the command in their header.

    Raises SpecError for an unknown target or dtype.
    """
    options = options or Options()
    if target not in TARGETS:
        raise SpecError(f"unknown target '{target}'{nearest(target, TARGETS)}; known: {', '.join(TARGETS)}")
    dtype = options.dtype or model.dtype
    if dtype not in DTYPES:
        raise SpecError(f"unknown dtype '{dtype}'{nearest(dtype, DTYPES)}; known: {', '.join(DTYPES)}")
    steps = options.block
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise SpecError(f"block: expected the steps of a block, an integer of at least 1, found {steps!r}")
    if target in MODULES:
        _computable(model)
    done = done or stages(model, options)
    if target in DOCUMENTS:
        header = f"{origin(model)}. Regenerate with\n    {command(model, target, options, out)}"
        return {f"{model.name}{FORMATS[target]}": str(derivation(model, target, options=options, done=done, header=header))}
    made = prepared(model, target, options, done, out)
    if target == "c":
        from codegen.c.binding import binding_text
        from codegen.c.emit import emit as emit_c

        files = emit_c(made)
        return {**files, f"{model.name}_c.py": binding_text(made, files[f"{model.name}.h"])}
    from codegen.numpy.emit import emit

    return {f"{model.name}.py": emit(made)}


def prepared(model: Model, target: str, options: Options, done: Stages, out: str | Path = OUT) -> Prepared:
    """What a target makes its text of."""
    from codegen.prepared import Prepared

    return Prepared(model.name, options.dtype or model.dtype, source_of(model), model.digest,
                    command(model, target, options, out), model.prediction, done.program, units(done), model.initialisers,
                    model.update, model.seed, block=options.block)


def derivation(
    model: Model, format: str = "text", style: Style | None = None, options: Options | None = None,
    done: Stages | None = None, header: str | None = None, fragment: bool = False, graph: str = "layers", backward: bool = True,
) -> str | bytes:
    """The derivation of a model's gradient in a format (``FORMATS`` of ``codegen.choices``), a PDF as bytes. An HTML page has the
    code of both modules beside it, and the drawing; ``graph``, ``backward``: its nodes, and whether it has the gradients.
    ``header``: what stands at the top as a comment, left out: what it was generated from.

    Raises SpecError for an unknown format, notation or form of the adjoints, MachineError without a TeX engine for a PDF or
    without Graphviz for a drawing alone.
    """
    from codegen.derivation.formats import show
    from codegen.derivation.provenance import derivation_of

    options = options or Options()
    done = done or stages(model, options)
    if format == "svg":
        from codegen.graph import drawing_of

        return drawing_of(done, graph, backward)
    sources, drawing = [], ""
    if format == "html":
        from codegen.graph import drawing_of

        try:
            drawing = drawing_of(done, graph, standalone=False, prefix="graph-")
        except (MachineError, SpecError) as error:  # the page is whole without its drawing, and says why there is none
            drawing = f"<p>{escape(str(error))}</p>"
        if not _unspecified(model):
            sources = _sources(model, options, done)
    text = show(derivation_of(done), format, style, sources=sources, drawing=drawing,
                header=origin(model) if header is None else header, fragment=fragment)
    if format == "pdf":
        from codegen.build import typeset

        return typeset(model.name, text)
    return text


def _sources(model: Model, options: Options, done: Stages) -> list[Source]:
    """The code of both modules, to stand beside a derivation."""
    from codegen.c.emit import emit as emit_c
    from codegen.html.source import source
    from codegen.numpy.emit import emit

    made = prepared(model, "numpy", options, done)
    files = emit_c(replace(made, command=command(model, "c", options, OUT)))
    return [source(f"{model.name}.py", "NumPy", emit(made)), source(f"{model.name}.c", "C", files[f"{model.name}.c"])]


def origin(model: Model) -> str:
    """The words by which a generated file is known as one, and as made from this spec."""
    return f"Generated by Chainrule from {source_of(model)} (sha256 {model.digest[:16]})"


def _unspecified(model: Model) -> frozenset[str]:
    """The functions without a formula that the model applies."""
    from symbolic.functions import Unspecified

    return frozenset(f.base for equation in model.program().equations for f in equation.body.atoms(Unspecified))


def _computable(model: Model) -> None:
    """Refuse to compute numbers with a function that has none. Raises SpecError where the spec declares it."""
    used = _unspecified(model)
    for k, name in enumerate(model.spec.functions):
        if name in used:
            raise model.spec.document.error(
                f"expected functions that can be computed, found '{name}', which is left unspecified; name one in its place, an "
                "activation such as tanh or a formula, or ask for the derivation alone (chainrule derive)",
                ("functions", k))


def units(done: Stages) -> tuple[Unit, ...]:
    """The functions of a module."""
    from codegen.prepared import Unit
    from codegen.separate import separate

    units = [Unit("value_and_grad", done.optimised, done.wrt), Unit("loss", done.loss), Unit("predict", done.predict)]
    if done.jvp is not None:
        units.append(Unit("jvp", done.jvp, done.wrt, {n: done.jvp.tangents[n] for n in done.wrt}))
    if done.hvp is not None:
        units.append(Unit("hvp", done.hvp, done.wrt, {n: done.hvp.tangents[n] for n in done.wrt}))
    return tuple(replace(unit, program=separate(unit.program)) for unit in units)


def verdicts(model: Model, options: Options | None = None, done: Stages | None = None) -> dict[str, tuple[Verdict, ...]]:
    """For each function of the NumPy module what was decided about the memory of what its loops run along."""
    from codegen.numpy.emit import verdicts as of_unit

    options = options or Options()
    itemsize = 8 if (options.dtype or model.dtype) == "float64" else 4
    return {unit.kind: of_unit(unit, itemsize, options.block) for unit in units(done or stages(model, options))}


def source_of(model: Model) -> str:
    """What a header says a file was generated from: the name of the spec's file, or that there is none."""
    return "a spec given in Python" if _is_of_python(model) else model.source_name


def _is_of_python(model: Model) -> bool:
    """Whether the model was made from a mapping or a text, so that no command can make it again."""
    return model.spec.document.file in ("", "<text>")


def command(model: Model, target: str, options: Options, out: str | Path = OUT) -> str:
    """The command line that makes the same file again, or the call. An absolute folder is of one machine and is left out; so is
    one whose name is more than words, for the line stands in comments and docstrings."""
    plain = re.fullmatch(r"[\w./ -]+", Path(out).as_posix(), re.ASCII) is not None
    folder = Path(out).as_posix() if plain and Path(out) != Path(OUT) and not Path(out).is_absolute() else None
    if _is_of_python(model):
        given = {"target": target, "out": folder or OUT, **{f.name: getattr(options, f.name) for f in fields(options)}}
        usual = {"out": OUT, **{f.name: f.default for f in fields(options)}}
        keywords = [f"{name}={repr(value).replace(chr(39), chr(34))}" for name, value in given.items()
                    if name == "target" or value != usual[name]]
        return f"codegen.generate(symbolic.load(...), {', '.join(keywords)})"
    parts = ["chainrule generate", model.source_name, f"--target {target}"]
    if options.dtype and options.dtype != model.dtype:
        parts.append(f"--dtype {options.dtype}")
    if options.wrt != "params":
        parts.append(f"--wrt {options.wrt if isinstance(options.wrt, str) else ','.join(options.wrt)}")
    if options.unroll is not None:
        parts.append(f"--unroll {options.unroll}")
    if options.block is not None:
        parts.append(f"--block {options.block}")
    parts += [flag for flag, on in (("--tangent", options.tangent), ("--hvp", options.hvp)) if on]
    if folder is not None:
        parts.append(f"--out {shlex.quote(folder)}")
    return " ".join(parts)


def generate(
    model: Model | str | os.PathLike[str] | Iterable[Model | str | os.PathLike[str]],
    target: str | Iterable[str] = "numpy",
    out: str | Path = OUT,
    *,
    dtype: str | None = None,
    wrt: str | tuple[str, ...] = "params",
    unroll: int | None = None,
    tangent: bool = False,
    hvp: bool = False,
    block: int | None = None,
    disabled: tuple[str, ...] = (),
    force: bool = False,
) -> list[Written]:
    """Write the files of one or several models (or specs, by their paths) for one or several targets, all or none.

    The keywords are those of Options; docs/modules.md has them by example.

    Beside modules ``__init__.py`` is written where there is none. A file that is there and was not generated from the same
    spec stays, and is an error unless ``force`` is given. Raises SpecError for that, and for two models of one name.
    """
    from codegen.files import refuse_foreign, write_all
    from symbolic.cost import cost

    several = isinstance(model, Iterable) and not isinstance(model, Model | str | os.PathLike | Mapping)
    models = [model_of("generate", each) for each in (cast(Iterable[Any], model) if several else [model])]
    targets = [target] if isinstance(target, str) else list(dict.fromkeys(target))
    chosen = Options(dtype, wrt, unroll, tangent, hvp, disabled, block)
    if not str(out).strip():
        raise SpecError("out: expected a folder, found an empty text")
    folder = Path(out)
    files: dict[Path, str] = {}
    written: list[Written] = []
    for each in models:
        done = stages(each, chosen)
        for kind in targets:
            price = str(cost(done.optimised, 8 if (chosen.dtype or each.dtype) == "float64" else 4)) if kind in MODULES else ""
            for name, text in render(each, kind, chosen, done, folder).items():
                path = folder / name
                if path in files:
                    raise SpecError(f"expected models of different names, found '{each.name}' twice; the names name the files")
                if not force:
                    refuse_foreign(path, source_of(each))
                files[path] = text
                written.append(Written(path, text.count("\n"), price))
    if any(kind in MODULES for kind in targets) and not (folder / "__init__.py").exists():
        files[folder / "__init__.py"] = '"""Modules generated by Chainrule."""\n'
    write_all(files)
    return written


def compile(  # noqa: A001 - the fixed name
    model: Model | str | os.PathLike[str],
    target: str = "numpy",
    *,
    dtype: str | None = None,
    wrt: str | tuple[str, ...] = "params",
    unroll: int | None = None,
    tangent: bool = False,
    hvp: bool = False,
    block: int | None = None,
    disabled: tuple[str, ...] = (),
) -> types.ModuleType:
    """The module of a model (or of a spec, by its path) without files of the user's. The keywords are those of Options.

    Raises MachineError for the target c where no compiler is found.
    """
    if target in DOCUMENTS:
        raise SpecError(f"expected a target that computes, found '{target}'; it is a document, for generate")
    model = model_of("compile", model)
    texts = render(model, target, Options(dtype, wrt, unroll, tangent, hvp, disabled, block))
    if target == "c":
        from codegen.build import bind

        return bind(model.name, texts)
    (text,) = texts.values()
    module = types.ModuleType(model.name)
    module.__file__ = f"<chainrule {model.name}>"
    exec(_code(text, module.__file__), module.__dict__)  # noqa: S102 - our own emitted text, never a user's
    return module


def model_of(call: str, given: Any) -> Model:
    """The model itself, or the one of a spec. Raises ArgumentError for anything else."""
    if isinstance(given, Model):
        return given
    if isinstance(given, str | os.PathLike):
        return load(given)
    raise ArgumentError(f"{call}: expected a Model or the path of a spec, found a Python {type(given).__name__}; "
                        "symbolic.load makes a Model of a spec, also of one given as a dict")


def _code(text: str, name: str) -> types.CodeType:
    """Python's own ``compile``, with the text kept for tracebacks."""
    import builtins
    import linecache

    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    return builtins.compile(text, name, "exec")


