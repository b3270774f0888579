"""The command ``chainrule``. Everything heavy is imported inside the commands: ``--help`` must not wait for SymPy."""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codegen.arguments import apart, arrays, check_dtype, format_of, one_of, sizes
from codegen.choices import ADJOINTS, FORMATS, LEVELS, MODULES, NOTATIONS, TARGETS
from symbolic.errors import ChainruleError

if TYPE_CHECKING:
    from rich.console import Console

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What the place that the output goes to may lack."""
BUG = 70
"""Exit status of an error of ours (EX_SOFTWARE), apart from the 1 that says a gradient is wrong."""

# Click's base of all errors of a call. Newer versions of typer carry their own click, so it is found through typer.
_CallError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="chainrule",
    help="From a model's spec to gradients: the derivation, a NumPy or C module, and the proof by perturbation.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="The model's spec, a YAML or JSON file.")]
Specs = Annotated[list[str], typer.Argument(metavar="SPEC", help="Specs of models, YAML or JSON files.")]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64; left out, the spec's, else float32.")]
Wrt = Annotated[str, typer.Option(metavar="params|all|NAME,...", help="What to differentiate by.")]
Unroll = Annotated[int | None, typer.Option(metavar="K", help="Unroll recurrences to K steps: at most 10,000 equations.", min=1)]
Steps = Annotated[int | None, typer.Option("--block", metavar="STEPS", min=1, help=(
    "Run loops in blocks of this many steps, what they need beside them too: less memory; left out, where it is too large."))]
Sizes = Annotated[list[str], typer.Option("--size", metavar="T=5", help="The value of a free size; may be repeated.")]


def _path(text: str) -> Path:
    """A path that says something. ``Path`` makes the current folder of an empty text."""
    if not str(text).strip():
        raise typer.BadParameter("expected a path, found an empty text")
    return Path(text)


def _flag(name: str, help: str, **more: Any) -> Any:
    """An option without a value; the empty word keeps the help from naming its type."""
    return typer.Option(name, metavar="", help=help, **more)


_FOLDER = typer.Option("-o", "--out", metavar="FOLDER", parser=_path, help="The folder that the files go to.")
_FILE = typer.Option("-o", "--output", metavar="FILE", parser=_path, help="Write here, not to the screen.")


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError
        from importlib.metadata import version as installed

        try:
            print(f"chainrule {installed('chainrule')}")
        except PackageNotFoundError:
            print("chainrule, run from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, _flag("--version", "Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    """From a model's spec to gradients: the derivation, a NumPy or C module, and the proof by perturbation."""


# ---- commands --------------------------------------------------------------------------------------------------------


@app.command(epilog="Example: chainrule generate specs/char_rnn.yaml --target numpy --target latex --out build")
def generate(
    specs: Specs,
    target: Annotated[list[str], typer.Option(help="What to write: numpy, c, latex or html; may be repeated.")] = ["numpy"],  # noqa: B006
    dtype: Dtype = None,
    wrt: Wrt = "params",
    unroll: Unroll = None,
    tangent: Annotated[bool, _flag("--tangent", "Also emit jvp, the forward mode.")] = False,
    hvp: Annotated[bool, _flag("--hvp", "Also emit hvp, products with the Hessian.")] = False,
    block: Steps = None,
    out: Annotated[Path, _FOLDER] = Path("generated"),
    force: Annotated[bool, _flag("--force", "Replace files that were not generated from the same spec.")] = False,
) -> None:
    """Write the modules (or derivations) of models; all of them or, on any error, none."""
    for name in target:
        one_of("--target", name, TARGETS)
    check_dtype(dtype)
    import symbolic

    models = [symbolic.load(Path(spec)) for spec in specs]
    apart(specs, models)
    from codegen.pipeline import generate as write

    with _working(", ".join(model.name for model in models)):
        written = write(models, target, out, dtype=dtype, wrt=wrt, unroll=unroll, tangent=tangent, hvp=hvp, block=block,
                        force=force)
    for item in written:
        print(f"{item.path}  {item.lines} lines{f'  {item.cost}' if item.cost else ''}")


@app.command(epilog="Example: chainrule derive specs/lstm_lm.yaml --wrt lstm.U --format html -o lstm.html")
def derive(
    spec: Spec,
    wrt: Wrt = "params",
    unroll: Unroll = None,
    notation: Annotated[str, typer.Option(help="index, entry by entry, or matrix, where there is such a form.")] = "index",
    adjoint: Annotated[str, typer.Option(help="How dL/dX is written: frac, bar (X with a bar) or delta.")] = "frac",
    format: Annotated[str | None, typer.Option(help=(
        "text, latex, markdown, html, pdf, or svg, a drawing of the graph; left out, by the file's suffix, else text."))] = None,
    fragment: Annotated[bool, _flag("--fragment", "LaTeX without a preamble, to \\input.")] = False,
    graph: Annotated[str, typer.Option(help="What the drawing has as nodes: layers or equations.")] = "layers",
    forward: Annotated[bool, _flag("--forward", "Leave the gradients out of the drawing.")] = False,
    output: Annotated[Path | None, _FILE] = None,
) -> None:
    """Print the derivation: every equation, the rules that made it, the gradient of each parameter."""
    if format is None:
        format = format_of(output)  # noqa: A001
    one_of("--format", format, FORMATS)
    one_of("--notation", notation, NOTATIONS)
    one_of("--adjoint", adjoint, ADJOINTS)
    one_of("--graph", graph, LEVELS)
    if fragment and format != "latex":
        raise ChainruleError(f"--fragment: expected --format latex, found '{format}'; other formats have no preamble")
    if forward and format != "svg":
        raise ChainruleError(f"--forward: expected --format svg, found '{format}'; it leaves the gradients out of the drawing")
    if graph != LEVELS[0] and format not in ("svg", "html"):
        raise ChainruleError(f"--graph {graph}: expected --format svg or html, found '{format}'; other formats have no drawing")
    if format == "pdf" and output is None:
        raise ChainruleError("--format pdf: expected a file to write (-o FILE.pdf), found none")
    import symbolic
    from codegen.derivation.formats import Style
    from codegen.files import write_all
    from codegen.pipeline import Options, derivation

    model = symbolic.load(Path(spec))
    with _working(model.name):
        shown = derivation(model, format, Style(notation, adjoint), Options(wrt=wrt, unroll=unroll), fragment=fragment,
                           graph=graph, backward=not forward)
    if output is None:
        print(shown, end="")
        return
    write_all({output: shown}, folders=False)


@app.command(epilog="Example: chainrule check specs/gru_classifier.yaml --nodes --size T=7")
def check(
    spec: Spec,
    target: Annotated[str, typer.Option(help=f"The module to check: {' or '.join(MODULES)}.")] = "numpy",
    dtype: Dtype = None,
    nodes: Annotated[bool, _flag("--nodes", "Also perturb entries of named intermediates.")] = False,
    size: Sizes = [],  # noqa: B006
    wrt: Wrt = "params",
    seed: Annotated[int, typer.Option(help="Seed of the random point.", min=0)] = 0,
    json: Annotated[bool, _flag("--json", "Print the report as JSON.")] = False,
    params: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Check at these parameters and inputs.")] = None,
) -> None:
    """Hold the generated gradients against perturbation and the interpreter; exit status 1 where one is wrong."""
    one_of("--target", target, MODULES)
    check_dtype(dtype)
    import symbolic
    from codegen.verify import check as run

    model = symbolic.load(Path(spec))
    point = arrays(params) if params is not None else None
    with _working(model.name) as say:
        report = run(model, target=target, dtype=dtype, sizes=sizes(size), seed=seed, nodes=nodes, wrt=wrt, progress=say,
                     point=point)
    if json:
        import json as notation

        print(notation.dumps(report.as_data(), indent=2))
    else:
        from codegen.report import print_report

        print_report(report)
    raise typer.Exit(report.exit_status)


@app.command(epilog="Example: chainrule analyze specs/lstm_lm.yaml --size T=100 --plot norms.png")
def analyze(
    spec: Spec,
    params: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Analyze at these parameters and inputs.")] = None,
    size: Sizes = [],  # noqa: B006
    seed: Annotated[int, typer.Option(help="Seed of fresh parameters and inputs.", min=0)] = 0,
    json: Annotated[bool, _flag("--json", "Print the analysis as JSON.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", parser=_path, help="Draw the norms: .png, .svg or .pdf.")] = None,
) -> None:
    """Vanishing and exploding gradients: the Jacobian of a step, its bounds, and the norms that the generated code measures."""
    import symbolic
    from codegen.analyze.run import analyze as run

    model = symbolic.load(Path(spec))
    if plot is not None:
        from codegen.analyze.plot import picture, ready_to_plot

        ready_to_plot(plot)
    with _working(model.name) as say:
        found = run(model, sizes(size), seed, arrays(params) if params is not None else None, progress=say)
    if plot is not None:
        from codegen.files import write_all

        write_all({plot: picture(found, plot.suffix[1:].lower())}, folders=False)
    if json:
        import json as notation

        print(notation.dumps(found.as_data(), indent=2, allow_nan=False))
    else:
        from codegen.analyze.report import print_analysis

        print_analysis(found)


@app.command(epilog="Example: chainrule show specs/lenet.yaml --size N=64")
def show(spec: Spec, size: Sizes = [], block: Steps = None) -> None:  # noqa: B006
    """Tensors, shapes, number of parameters, FLOPs and memory, forward and backward; the workspace of the C function."""
    import symbolic
    from codegen.report import print_model

    print_model(symbolic.load(Path(spec)), sizes(size), block)


@app.command(epilog="Example: chainrule layers lstm")
def layers(name: Annotated[str | None, typer.Argument(metavar="NAME", help="One entry of the catalogue.")] = None) -> None:
    """The catalogue; with a name: its equations, shapes, options and reference."""
    from codegen.catalogue import print_catalogue, print_entry

    if name is None:
        print_catalogue()
    else:
        print_entry(name)


@app.command(epilog="Example: chainrule schema > chainrule.schema.json")
def schema() -> None:
    """The JSON Schema of a spec, for editors."""
    import json

    from symbolic.spec import schema as make

    print(json.dumps(make(), indent=2))


@app.command(epilog="Example: chainrule demo --quick")
def demo(
    quick: Annotated[bool, _flag("--quick", "Train for seconds, not minutes.")] = False,
    out: Annotated[Path, _FOLDER] = Path("chainrule-demo"),
) -> None:
    """The main job end to end: spec, derivation, modules, check, and training on real text, in C where there is a compiler."""
    # Before NumPy is loaded: on a net this small the threads of a BLAS wait for each other longer than they compute.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from codegen.demo import run

    raise typer.Exit(run(quick=quick, out=out))


# ---- what commands share ---------------------------------------------------------------------------------------------


@contextmanager
def _working(what: str) -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is being done; nothing where there is none. Yields a way to say more."""
    if not sys.stderr.isatty():
        yield lambda part: None
        return
    with _errors().status(what) as status:
        yield lambda part: status.update(f"{what}: {part}")


def _errors() -> Console:
    from rich.console import Console

    return Console(stderr=True)


# ---- the process -----------------------------------------------------------------------------------------------------


def main() -> None:
    """The entry point: every outcome as an exit status, every error of the user's as a message without a traceback."""
    gc.set_threshold(100_000)  # a process that ends soon makes many small values and few cycles: looking for those takes a tenth
    sys.exit(_run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    try:
        # Not app(): that has its own ideas of interrupts and closed pipes, and their exit statuses mean other things here.
        command = typer.main.get_command(app)
        with command.make_context("chainrule", arguments) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as leave:
        return leave.exit_code
    except _CallError as error:
        error.show()
        return 2
    except ChainruleError as error:
        print(f"chainrule: {error}", file=sys.stderr)
        return error.exit_status
    except (KeyboardInterrupt, typer.Abort):
        print("chainrule: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has all it wanted. What is left in the buffer must not be flushed into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last resort: it says that the fault is ours
        if isinstance(error, OSError) and error.errno in _FULL:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            print(f"chainrule: the output cannot be written: {(error.strerror or str(error)).lower()}", file=sys.stderr)
            return 3
        traceback.print_exc()
        print("chainrule: this is a bug in Chainrule, not in your spec; please report it with the lines above", file=sys.stderr)
        return BUG


if __name__ == "__main__":
    main()
