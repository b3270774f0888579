"""Model: a validated spec and the programs it means. ``load`` makes one from a file, a mapping, or equation text.

>>> from symbolic import load
>>> model = load("y[n] = w[k]*x[n,k]", inputs={"x": ["N", "K"], "t": ["N"]}, parameters={"w": ["K"]},
...              loss={"type": "mse", "target": "t"})
>>> print(model.program().equations[0])
(1) y[n] += w[k]*x[n, k]    for n=0..N - 1, k=0..K - 1
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from symbolic.display import Shown
from symbolic.elaborate import Elaborated, elaborate
from symbolic.errors import SpecError
from symbolic.initialisers import Init
from symbolic.ledger import show_shape
from symbolic.optimizers import CLIPS, OPTIMIZERS, Clip, Optimizer
from symbolic.program import Program, Role, tensor_of
from symbolic.spec import Document, Spec, read_data, read_file, read_text, structure

__all__ = ["Model", "Update", "load"]

Source = str | os.PathLike[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Update:
    """One training step after the gradients: clip, then optimise."""

    optimizer: Optimizer
    clip: Clip | None = None


@dataclass(frozen=True)
class Model(Shown):
    """A model: its spec, its forward program, and what training needs beside it.

    ``layers``: layer name -> its output tensor. ``prediction``: the tensor that ``predict`` gives. ``initialisers``:
    parameter -> its initialiser. ``source_name`` and ``digest``: the file's name and the SHA-256 of its text, for the
    headers of generated files.
    """

    name: str
    dtype: str
    spec: Spec = field(repr=False)
    layers: Mapping[str, str]
    prediction: str
    initialisers: Mapping[str, Init]
    source_name: str
    digest: str
    _program: Program = field(repr=False)

    @cached_property
    def update(self) -> Update:
        """Clipping and optimiser, as equations; plain gradient descent where the spec names no optimiser."""
        optimizer, clip = self.spec.optimizer, self.spec.clip
        row = OPTIMIZERS[optimizer.kind if optimizer else "sgd"]
        return Update(
            row.build(optimizer.options if optimizer else row.options()),
            CLIPS[clip.kind].build(clip.options) if clip else None,
        )

    @property
    def seed(self) -> int:
        """The seed that ``init`` takes where it is given none."""
        return self.spec.seed

    def program(self) -> Program:
        """The forward program, with the loss: the one that is differentiated."""
        return self._program

    def predict_program(self) -> Program:
        """The program without the loss: what the prediction needs, and those outputs that need no further inputs."""
        return self._predict

    @cached_property
    def _predict(self) -> Program:
        program = self._program

        def needs(name: str) -> set[str]:
            """The tensors that one tensor is computed from, itself included."""
            found, stack = {name}, [name]
            while stack:
                for equation in program.writers.get(stack.pop(), ()):
                    for entry in equation.reads:
                        if (other := tensor_of(entry)) not in found:
                            found.add(other)
                            stack.append(other)
            return found

        inputs = {tensor.name for tensor in program.inputs}
        first = needs(self.prediction)
        above = {name: wanted for name in program.outputs if (wanted := needs(name)) & inputs <= first}
        kept = set().union(*above.values())
        tensors = tuple(t for t in program.tensors if t.name in kept or t.role is Role.PARAMETER)
        equations = tuple(e for e in program.equations if e.name in kept)
        links = {output: start for output, start in program.links.items() if output in above}
        return replace(
            program,
            tensors=tensors,
            equations=equations,
            loss="",
            links=links,
            outputs=tuple(name for name in program.outputs if name in above),
        )

    def __str__(self) -> str:
        program = self._program
        lines = [f"model {self.name} ({self.dtype})"]
        lines += [
            f"  layer {layer or '(own equations)'} -> {program.tensor(output)}" for layer, output in self.layers.items()
        ]
        lines.append(f"  prediction {self.prediction}, loss {program.loss}")
        return "\n".join([*lines, str(program)])

    def _plain_latex(self) -> str:
        return self._program._plain_latex()

    def _plain_html(self) -> str:
        program = self._program
        rows = "".join(
            f"<tr><td>{escape(t.name)}</td><td>{escape(show_shape(t.shape))}</td><td>{escape(t.role)}</td></tr>"
            for t in program.tensors
        )
        text = escape("\n".join(str(equation) for equation in program.equations))
        return (
            f"<b>{escape(self.name)}</b> ({escape(self.dtype)})"
            "<table><tr><th>tensor</th><th>shape</th><th>role</th></tr>"
            f"{rows}</table><pre>{text}</pre>"
        )


def load(source: Source, **keys: Any) -> Model:
    """The model of a spec: a file (YAML or JSON), a mapping, the text of a spec, or equation text with shapes.

    Equation text comes with the other keys of a spec as arguments: ``load("y[n] = w[k]*x[n,k]", inputs=...,
    parameters=..., loss=...)``; its names stand as they are, and the model is called ``model`` unless ``name`` is.
    Raises SpecError, with file, line, column and path of the first fault.
    """
    try:
        spec = structure(_document(source, keys))
        found: Elaborated = elaborate(spec)
    except SpecError as error:
        if str(error).replace("\n", "").isprintable():
            raise
        raise SpecError(_printable(error.message), where=error.where, path=error.path) from None
    document = spec.document
    return Model(
        spec.name,
        spec.dtype,
        spec,
        MappingProxyType(dict(found.layers)),
        found.prediction,
        MappingProxyType(dict(found.initialisers)),
        document.source_name,
        document.digest,
        found.program,
    )


def _printable(text: str) -> str:
    """A message without characters that move a terminal's cursor; what a user wrote may stand in it."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def _document(source: Source, keys: Mapping[str, Any]) -> Document:
    if isinstance(source, Mapping):
        if keys:
            raise SpecError("expected a mapping alone, found further arguments; put them into the mapping")
        return read_data(source)
    if keys:
        if not isinstance(source, str | os.PathLike):
            raise SpecError(f"expected equation text beside shapes, found a Python {type(source).__name__}")
        if not isinstance(source, str) or _is_path(source):
            raise SpecError(f"expected equation text beside shapes, found a path, {os.fsdecode(source)!r}; what a model says "
                            f"stands in its file, '{next(iter(keys))}' too")
        return read_data({"name": "model", "equations": source, **keys})
    if isinstance(source, str) and not _is_path(source):
        if _EQUATION.search(source) and not re.search(r"^\s*[\"']?\w+[\"']?\s*:", source, re.MULTILINE):
            raise SpecError(
                'expected shapes beside equation text: load(text, inputs={"x": ["N", "D"]}, parameters=..., loss=...)'
            )
        return read_text(source)
    if not isinstance(source, str | os.PathLike):
        raise SpecError(f"expected a path, a mapping or a text, found a Python {type(source).__name__}")
    return read_file(source)


_EQUATION = re.compile(r"^\s*[A-Za-z]\w*\s*(\[[^\]\n]*\])?\s*\+?=(?!=)", re.MULTILINE)


def _is_path(text: str) -> bool:
    """Whether a text names a file: one line that ends as a spec's file does, or has no sign of spec or equation."""
    if "\n" in text or "\0" in text:
        return False
    return (
        Path(text).suffix.lower() in (".yaml", ".yml", ".json")
        or not re.search(r"[=:{\[]", text)
        or os.path.exists(text)
    )
