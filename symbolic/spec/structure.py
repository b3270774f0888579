"""Validates what a spec says, key by key, into a frozen ``Spec`` in which nothing is left to evaluate.

Each entry keeps its place in the document, so that whatever is found wrong later is still shown at its line and column.
Shapes stay texts here (``2*H``); the model turns them into extents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from symbolic.errors import SpecError, nearest
from symbolic.spec import tables
from symbolic.spec.entries import Input, InputOptions, LayerEntry, LossEntry, Rule, Spec
from symbolic.spec.names import check_model_name, check_name
from symbolic.spec.options import check_keys, validate
from symbolic.spec.reading import Document, Place, show

__all__ = ["check_extent", "identifiers", "structure"]

MAX_EXTENT = 200
"""The most characters of an extent."""
MAX_LAYERS = 2000

_EXTENT = re.compile(r"[A-Za-z0-9_+\-*/(), ]+")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_OWN = ("parameters", "states", "shapes", "ranges", "equations", "output")
_TOP = ("name", "dtype", "sizes", "functions", "inputs", "layers", "loss", "optimizer", "clip", "init", "seed", "outputs", *_OWN)
_LOSS = ("type", "name", "prediction", "target", "weight")


def structure(document: Document) -> Spec:
    """The Spec in a document. Raises SpecError at the place of the first fault."""
    return _Reader(document).spec()


def identifiers(extent: int | str) -> list[str]:
    """The names in an extent, apart from its functions."""
    found = _IDENTIFIER.findall(extent) if isinstance(extent, str) else []
    return [name for name in found if name not in ("floor", "ceil")]


def check_extent(extent: int | str) -> str:
    """Why this cannot be an extent, judged by its letters alone, or an empty text."""
    if isinstance(extent, int):
        return ""
    expected = "expected an extent (an integer, or an expression of sizes such as T+1, 2*H, floor((L-K)/S)+1)"
    if not extent.strip() or not _EXTENT.fullmatch(extent):
        return f"{expected}, found {show(extent)}"
    if len(extent) > MAX_EXTENT:
        return f"expected an extent of at most {MAX_EXTENT} characters, found {len(extent)}"
    if "**" in extent:
        return f"{expected}, found a power in {show(extent)}; write the product out"
    if any(len(digits) > 15 for digits in re.findall(r"\d+", extent)):
        return f"expected an extent below 10**15, found {show(extent)}"
    return next(filter(None, (check_name(name, "a size", adjoint=False) for name in identifiers(extent))), "")


class _Reader:
    """Reads one document from top to bottom."""

    def __init__(self, document: Document) -> None:
        self.document, self.data = document, document.data

    def fail(self, message: str, place: Place = (), key: bool = False) -> SpecError:
        return self.document.error(message, place, key)

    def spec(self) -> Spec:
        data = self.data
        check_keys(self.document, (), _TOP, "a spec")
        for key in ("name", "loss"):
            if data.get(key) is None and not (key == "loss" and "equations" in data):
                raise self.fail(f"expected the key '{key}' of a spec, found none; add it", (key,))
        if wrong := check_model_name(data["name"]):
            raise self.fail(wrong, ("name",))
        dtype = self.word(("dtype",), ("float32", "float64"), "float32")
        sizes = dict(self.sizes())
        functions = tuple(self.functions(sizes))
        inputs = tuple(self.inputs())
        layers = tuple(self.layers())
        self.unique(sizes, functions, inputs, layers)
        losses = tuple(self.losses())
        optimizer = self.rule("optimizer", tables.optimizers)
        clip = self.rule("clip", tables.clips)
        init, seed = self.init(), data.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise self.fail(f"expected an integer from 0 to 2**32 - 1, found {show(seed)}", ("seed",))
        outputs = tuple(self.names_at(("outputs",), "an output")) if data.get("outputs") is not None else ()
        return Spec(
            data["name"], dtype, sizes, inputs, layers, losses, optimizer, clip, init, seed, outputs, functions,
            self.document,
        )

    # ---- small readers ---------------------------------------------------------------------------------------------

    def word(self, place: Place, known: Iterable[str], default: str) -> str:
        value = self.document.get(place)
        if value is None and place[-1] not in (self.document.get(place[:-1]) or ()):
            return default
        if not isinstance(value, str) or value not in known:
            near = nearest(value, known) if isinstance(value, str) else ""
            raise self.fail(f"expected one of {', '.join(known)}, found {show(value)}{near}", place)
        return value

    def mapping(self, place: Place, what: str) -> Mapping[str, Any]:
        value = self.document.get(place)
        if not isinstance(value, dict):
            raise self.fail(f"expected {what}, found {show(value)}", place)
        return value

    def extent(self, value: int | str, place: Place) -> None:
        if wrong := check_extent(value):
            raise self.fail(wrong, place)

    def names_at(self, place: Place, what: str) -> list[str]:
        """One name or a list of names of layers, inputs or tensors (``rnn``, ``rnn.h``)."""
        value = self.document.get(place)
        if not isinstance(value, str | list):
            raise self.fail(f"expected the name of {what} or a list of names, found {show(value)}", place)
        listed = [value] if isinstance(value, str) else value
        for k, name in enumerate(listed):
            self.reference(name, place if isinstance(value, str) else (*place, k), what)
        return listed

    def reference(self, name: Any, place: Place, what: str) -> str:
        parts = name.split(".") if isinstance(name, str) else [name]
        wrong = next(filter(None, (check_name(part, what, reserved=False) for part in parts)), "")
        if wrong or len(parts) > 2:
            raise self.fail(wrong or f"expected the name of {what}, found {show(name)}", place)
        return str(name)

    # ---- sections --------------------------------------------------------------------------------------------------

    def sizes(self) -> Iterator[tuple[str, int | None]]:
        if self.data.get("sizes") is None:
            return
        for name, value in self.mapping(("sizes",), "a mapping of sizes ({V: 65, T: null})").items():
            place = ("sizes", name)
            if wrong := check_name(name, "a size", adjoint=False) or tables.is_function(name):
                raise self.fail(wrong, place, key=True)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31):
                whole = isinstance(value, int) and not isinstance(value, bool)
                wanted = "less than 2**31" if whole and value >= 2**31 else "of at least 1"
                raise self.fail(f"expected an integer {wanted} (null leaves the size free), found {show(value)}", place)
            yield name, value

    def functions(self, sizes: Mapping[str, Any]) -> Iterator[str]:
        """Functions of one argument that stay unspecified: they have a name, derivatives, and nothing else."""
        listed = self.data.get("functions")
        if listed is None:
            return
        if not isinstance(listed, list):
            raise self.fail(f"expected a list of names of functions ([f, g]), found {show(listed)}", ("functions",))
        for k, name in enumerate(listed):
            place = ("functions", k)
            if wrong := check_name(name, "a function") or tables.is_function(name) or tables.is_activation(name):
                raise self.fail(wrong, place)
            if name in sizes:
                raise self.fail(f"expected the name of a function, found '{name}', which is a size; rename one", place)
            if name in listed[:k]:
                raise self.fail(f"expected each function once, found '{name}' again; remove one", place)
            yield name

    def inputs(self) -> Iterator[Input]:
        if self.data.get("inputs") is None:
            return
        for name, value in self.mapping(("inputs",), "a mapping of inputs ({x: [N, D]})").items():
            place = ("inputs", name)
            if wrong := check_name(name, "an input") or tables.is_function(name):
                raise self.fail(wrong, place, key=True)
            if not isinstance(value, dict | list):
                raise self.fail(
                    f"expected a shape such as [N, D], or a mapping with the key 'shape', found {show(value)}", place
                )
            long = isinstance(value, dict)
            options = validate(
                InputOptions, value if long else {"shape": value}, self.document, place, f"input '{name}'"
            )
            for axis, extent in enumerate(options.shape):
                self.extent(extent, (*place, "shape", axis) if long else (*place, axis))
            for key in ("below", "low"):
                if (extent := getattr(options, key)) is not None:
                    self.extent(extent if not isinstance(extent, str) else extent.strip() or "?", (*place, key))
            if options.kind == "index" and options.below is None:
                raise self.fail(
                    "expected the key 'below' of an index input (its entries are 0 <= v < below), found none; add it",
                    (*place, "below"),
                )
            if options.kind == "real":
                extra = next((key for key in ("below", "low", "ignore") if key in value), None) if long else None
                if extra:
                    raise self.fail(
                        f"expected no key '{extra}' for a real input; write kind: index, or take it out",
                        (*place, extra),
                        key=True,
                    )
            yield Input(name, options, place)

    def layers(self) -> Iterator[LayerEntry]:
        if "equations" in self.data:
            if "layers" in self.data:
                raise self.fail(
                    "expected either layers or equations at the top, found both; write the equations as a "
                    "layer of type equations",
                    ("equations",),
                    key=True,
                )
            own = {key: self.data[key] for key in _OWN if key in self.data}
            kind = tables.layers()["equations"].load()
            yield LayerEntry(
                "", "equations", validate(kind.options, own, self.document, (), "a spec", _TOP), None, (), ()
            )
            return
        for key in _OWN:
            if key in self.data:
                raise self.fail(
                    f"expected the key 'equations' beside '{key}', found none; add it, or give '{key}' to a layer "
                    "of type equations",
                    (key,),
                    key=True,
                )
        listed = self.data.get("layers")
        if not isinstance(listed, list) or not listed:
            found = "none" if listed is None else show(listed)
            raise self.fail(
                f"expected a list of layers (- {{name: out, type: dense, units: 10}}), found {found}", ("layers",)
            )
        if len(listed) > MAX_LAYERS:
            raise self.fail(f"expected at most {MAX_LAYERS} layers, found {len(listed)}", ("layers",))
        for k in range(len(listed)):
            yield self.layer(("layers", k))

    def layer(self, place: Place) -> LayerEntry:
        value = self.mapping(place, "a layer as a mapping ({name: out, type: dense, units: 10})")
        for key in ("name", "type"):
            if value.get(key) is None:
                raise self.fail(f"expected the key '{key}' of a layer, found none; add it", (*place, key))
        if wrong := check_name(value["name"], "a layer"):
            raise self.fail(wrong, (*place, "name"))
        table = tables.layers()
        kind = value["type"]
        if not isinstance(kind, str) or kind not in table:
            near = nearest(kind, table) if isinstance(kind, str) else ""
            raise self.fail(
                f"expected the type of a layer, found {show(kind)}{near or '; chainrule layers lists them'}",
                (*place, "type"),
            )
        rest = {key: item for key, item in value.items() if key not in ("name", "type", "from")}
        options = validate(
            table[kind].load().options, rest, self.document, place, f"a layer of type {kind}", ("name", "type", "from")
        )
        sources, aliases = self.sources(value, kind, place)
        return LayerEntry(value["name"], kind, options, sources, aliases, place)

    def sources(
        self, value: Mapping[str, Any], kind: str, place: Place
    ) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        if value.get("from") is None:
            return None, ()
        here, what = (*place, "from"), "an input or of a layer"
        if not isinstance(value["from"], dict):
            listed = self.names_at(here, what)
            if not listed:
                raise self.fail(f"expected the name of {what} or a list of names, found an empty list", here)
            return tuple(listed), ()
        if kind != "equations":
            raise self.fail(
                f"expected the name of {what} or a list of names; only a layer of type equations gives them "
                "names of its own",
                here,
            )
        for alias, source in value["from"].items():
            if wrong := check_name(alias, "a tensor", reserved=False):
                raise self.fail(wrong, (*here, alias), key=True)
            self.reference(source, (*here, alias), what)
        return tuple(value["from"].values()), tuple(value["from"])

    def losses(self) -> Iterator[LossEntry]:
        value = self.data.get("loss")
        if value is None:
            yield LossEntry("", None, "loss", None, 1.0, "loss", ("equations",))
            return
        if not isinstance(value, list):
            yield self.loss(("loss",), "loss")
            return
        if not value:
            raise self.fail("expected a loss or a list of losses, found an empty list", ("loss",))
        names: dict[str, Place] = {}
        for k in range(len(value)):
            entry = self.loss(("loss", k), f"loss_{k + 1}" if len(value) > 1 else "loss")
            if entry.name in names:
                raise self.fail(
                    f"expected each loss to have a name of its own, found '{entry.name}' again", entry.place
                )
            names[entry.name] = entry.place
            yield entry

    def loss(self, place: Place, default: str) -> LossEntry:
        value = self.document.get(place)
        table = tables.losses()
        if isinstance(value, str) and not (value in table and self.is_type(value)):
            return LossEntry("", None, self.reference(value, place, "a tensor without axes"), None, 1.0, default, place)
        value = {"type": value} if isinstance(value, str) else self.mapping(
            place, "a loss as a mapping ({type: mse, target: y}), or the name of a tensor without axes"
        )
        kind = value.get("type")
        if kind is None and "prediction" not in value:
            raise self.fail("expected the key 'type' of a loss, found none; add it", (*place, "type"))
        if kind is not None and (not isinstance(kind, str) or kind not in table):
            near = nearest(kind, table) if isinstance(kind, str) else ""
            parts = sorted((name for name in table if isinstance(kind, str) and kind and kind in name), reverse=True)
            if len(parts) > 1:
                near = f"; did you mean {' or '.join(map(show, parts))}?"
            raise self.fail(
                f"expected the type of a loss ({', '.join(sorted(table))}), found {show(kind)}{near}", (*place, "type")
            )
        name = value.get("name", default)
        if name != "loss" and (wrong := check_name(name, "a loss")):
            raise self.fail(wrong, (*place, "name"))
        weight = value.get("weight", 1.0)
        if not isinstance(weight, int | float) or isinstance(weight, bool):
            raise self.fail(f"expected a number, found {show(weight)}", (*place, "weight"))
        named = {
            key: self.reference(value[key], (*place, key), "an input or of a layer")
            for key in ("prediction", "target")
            if value.get(key) is not None
        }
        if kind is None:
            check_keys(self.document, place, ("name", "prediction", "weight"), "a loss without a type")
            return LossEntry("", None, named["prediction"], None, float(weight), name, place)
        if "target" not in named:
            raise self.fail(
                f"expected the key 'target' of a loss of type {kind}, found none; name an input", (*place, "target")
            )
        rest = {key: item for key, item in value.items() if key not in _LOSS}
        options = validate(table[kind].options, rest, self.document, place, f"a loss of type {kind}", _LOSS)
        return LossEntry(kind, options, named.get("prediction"), named.get("target"), float(weight), name, place)

    def is_type(self, loss: str) -> bool:
        """Whether a type of loss is meant by its name alone, as in ``optimizer: adam``: no layer or text defines a tensor so."""
        layers = self.data.get("layers")
        named = [layer.get("name") for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
        return "equations" not in self.data and loss not in named

    def rule(self, key: str, rows: Callable[[], Mapping[str, Any]]) -> Rule | None:
        value = self.data.get(key)
        if value is None:
            return None
        table = rows()
        if isinstance(value, str):
            value = {"type": value}
        elif not isinstance(value, dict):
            raise self.fail(
                f"expected a mapping with the key 'type' ({', '.join(sorted(table))}), found {show(value)}", (key,)
            )
        kind = value.get("type")
        if not isinstance(kind, str) or kind not in table:
            near = nearest(kind, table) if isinstance(kind, str) else ""
            found = "none" if kind is None else show(kind)
            raise self.fail(
                f"expected the type of {key} ({', '.join(sorted(table))}), found {found}{near}", (key, "type")
            )
        rest = {name: item for name, item in value.items() if name != "type"}
        return Rule(
            kind, validate(table[kind].options, rest, self.document, (key,), f"{key} {kind}", ("type",)), (key,)
        )

    def init(self) -> dict[str, str]:
        value = self.data.get("init")
        if value is None:
            return {}
        if isinstance(value, str):
            value = {"default": value}
        elif not isinstance(value, dict):
            raise self.fail(
                f"expected an initialiser, or a mapping {{out.W: zeros, default: he_uniform}}, found {show(value)}",
                ("init",),
            )
        for name, text in value.items():
            place = ("init", name) if isinstance(self.data["init"], dict) else ("init",)
            if name != "default":
                self.reference(name, place, "a parameter")
            if not isinstance(text, str):
                raise self.fail(f"expected the name of an initialiser, found {show(text)}", place)
        return dict(value)

    def unique(
        self, sizes: Mapping[str, Any], functions: Collection[str], inputs: Iterable[Input], layers: Iterable[LayerEntry]
    ) -> None:
        """Inputs and layers share one namespace (``from:`` names either); an input is no size either, and neither is a function
        of the spec."""
        seen: dict[str, Place] = {}
        named = [(i.name, i.place, "an input") for i in inputs]
        named += [(layer.name, (*layer.place, "name"), "a layer") for layer in layers if layer.name]
        free = {name for i in inputs for extent in i.options.shape for name in identifiers(extent)} | set(sizes)
        for name, place, what in named:
            if name in seen:
                first = self.document.where(seen[name])
                at = f" (first at line {first.line})" if first else ""
                raise self.fail(
                    f"expected each input and layer to have a name of its own, found '{name}' again{at}; rename one",
                    place,
                )
            if name in functions:  # a layer may have the name of a function of the table: it is mean[n], never mean(...)
                raise self.fail(tables.is_function(name, functions), place, key=what == "an input")
            if what == "an input" and name in free:
                raise self.fail(
                    f"expected the name of an input, found '{name}', which is a size; rename one", place, key=True
                )
            seen[name] = place
