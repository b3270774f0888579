"""Reads the text of a spec into plain data in which every value and key knows its place.

YAML is read event by event: nesting, size and the number of values after alias expansion are bounded before anything is
built, tags are refused, and scalars follow the YAML 1.2 core schema (``no`` and ``on`` are words, ``1e-3`` is a number,
``1:30`` is text). JSON is the same thing. Nothing is evaluated.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from symbolic.errors import Location, SpecError

__all__ = ["Document", "Place", "read_data", "read_file", "read_text", "show", "spell"]

MAX_BYTES = 1 << 20
"""The largest text of a spec; a hundred layers of own equations need a tenth of it."""
MAX_DEPTH = 24
"""The deepest nesting of mappings and lists; the catalogue needs six."""
MAX_VALUES = 20_000
"""The most values after alias expansion."""
MAX_INTEGER = 2**53
"""Integers beyond this are no extents, and no longer exact as floats."""
MAX_WORD = 80
"""The longest piece of a user's text that a message repeats."""

Place = tuple[str | int, ...]
"""The way from the root of a spec to a value: ``("layers", 1, "units")``."""

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)


def show(value: Any) -> str:
    """A value as a message repeats it: one line, bounded, nothing that moves a terminal's cursor."""
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)} keys" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        simple = all(isinstance(part, str | int | float | None) for part in value) and len(value) <= 8
        return f"[{', '.join(map(_bare, value))}]" if simple else f"a list of {len(value)} values"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else f"'{value}'"
    return text if len(text) <= MAX_WORD else f"{text[: MAX_WORD - 3]}..."


def _bare(value: Any) -> str:
    text = show(value)
    return text[1:-1] if isinstance(value, str) and re.fullmatch(r"'[\w+*/ .-]+'", text) else text


def spell(place: Place) -> str:
    """``("layers", 1, "units")`` as ``layers[1].units``."""
    text = ""
    for part in place:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and part.isascii():
            text += f".{part}" if text else part
        else:
            text += f"[{show(part)}]"
    return text


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) with the place of each value and key in its text."""

    data: Any
    file: str
    source_name: str
    digest: str
    values: Mapping[Place, Location] = field(default_factory=dict)
    keys: Mapping[Place, Location] = field(default_factory=dict)
    blocks: Mapping[Place, Location] = field(default_factory=dict)
    joined: frozenset[Place] = frozenset()
    """Texts of several lines that YAML made one line of, for want of a ``|``."""

    def where(self, place: Place, key: bool = False) -> Location | None:
        """The location of a value (or of its key); of the nearest thing around it where it does not exist itself."""
        if key and place in self.keys:
            return self.keys[place]
        while place not in self.values and place:
            place = place[:-1]
        return self.values.get(place)

    def where_text(self, place: Place) -> Location | None:
        """The location of the first character of a text value (a ``|`` block begins a line below its mark)."""
        return self.blocks.get(place) or self.where(place)

    def get(self, place: Place) -> Any:
        """The value at a place, ``None`` where there is none."""
        value = self.data
        for part in place:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def error(self, message: str, place: Place = (), key: bool = False) -> SpecError:
        """An error at a place."""
        return SpecError(message, where=self.where(place, key), path=spell(place))


def read_file(path: str | os.PathLike[str]) -> Document:
    """The document in a file. Raises SpecError where it cannot be read or is no YAML or JSON mapping."""
    shown = os.fsdecode(os.fspath(path))
    start = Location(shown if shown.isprintable() else ascii(shown))
    try:
        with open(path, "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError("expected a spec, found no such file; check the path", where=start) from None
    except IsADirectoryError:
        raise SpecError("expected a spec, found a folder; name a file in it", where=start) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise SpecError(f"expected a spec that can be read, found: {reason}", where=start) from None
    if len(raw) > MAX_BYTES:
        raise SpecError(f"expected at most {MAX_BYTES} bytes, found a larger file; split the model", where=start)
    if b"\0" in raw:
        raise SpecError("expected text (YAML or JSON in UTF-8), found a binary file", where=start)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise SpecError(
            f"expected text in UTF-8, found the byte 0x{raw[error.start]:02x}; is this a binary file?",
            where=Location(start.file, line, column),
        ) from None
    return read_text(text, start.file, json=Path(shown).suffix == ".json")


def read_text(text: str, file: str = "<text>", json: bool = False) -> Document:
    """The document in a YAML or JSON text. Raises SpecError where it is none."""
    if len(text) > MAX_BYTES:
        raise SpecError(f"expected at most {MAX_BYTES} characters, found {len(text)}", where=Location(file))
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    # JSON may be indented with tabs, YAML may not; inside JSON strings a raw tab is illegal anyway.
    root = _Composer(text.replace("\t", " ") if json or text.lstrip()[:1] == "{" else text, file).compose()
    expander = _Expander(file, text.splitlines())
    data = expander.expand(root, (), 0)
    if data is None:
        raise SpecError("expected a mapping (name, inputs, layers, loss), found an empty text", where=Location(file))
    if not isinstance(data, dict):
        raise SpecError(f"expected a mapping (name, inputs, layers, loss), found {show(data)}", where=root.where)
    name = Path(file).name
    source = name if re.fullmatch(r"[\w.+ -]{1,100}", name, re.ASCII) else "spec"
    return Document(data, file, source, digest, expander.values, expander.keys, expander.blocks,
                    frozenset(expander.joined))


def read_data(data: Mapping[Any, Any], source_name: str = "spec") -> Document:
    """The document in a Python mapping; it has paths, but no lines. Raises SpecError for what is no plain data."""
    plain = _Plain().convert(data, (), 0)
    digest = hashlib.sha256(repr(plain).encode("utf-8", "replace")).hexdigest()
    return Document(plain, "", source_name, digest)


@dataclass(frozen=True)
class _Node:
    """A YAML value before alias expansion: ``content`` is a scalar, or a list of nodes or of (key, value) nodes."""

    content: Any
    where: Location
    mapping: bool = False
    style: str | None = None
    last_line: int = 0


def _said(reason: str) -> str:
    """What PyYAML found, in plain words where the mistake is a common one."""
    if "'\\t'" in reason:
        return "expected lines indented with spaces, found a tab; use spaces"
    if reason.startswith("expected <block end>"):
        return "expected the items of a list, or the keys of a mapping, in one column, found one in another; indent it alike"
    reason = reason if reason.isprintable() else ascii(reason)
    return f"expected YAML, found: {reason.removeprefix('found ')}"


class _Composer:
    """YAML events -> nodes, with bounded depth; PyYAML's own composer recurses without bound."""

    def __init__(self, text: str, file: str) -> None:
        self.file, self.text = file, text
        self.anchors: dict[str, _Node] = {}
        try:
            self.loader = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            raise self._unreadable(error) from None
        self.events = self._events()

    def _events(self) -> Iterator[Any]:
        try:
            while self.loader.check_event():
                yield self.loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.reader.ReaderError as error:
            raise self._unreadable(error) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = error.problem or error.context or "not YAML"
            raise SpecError(_said(reason), where=self._where(mark)) from None
        except (ValueError, OverflowError):  # PyYAML's escapes: "\UFFFFFFFF" is no character
            raise SpecError("expected YAML, found an escape that is no character", where=Location(self.file)) from None

    def _unreadable(self, error: Any) -> SpecError:
        text = self.text
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        return SpecError(
            f"expected printable text, found the character U+{error.character:04X}",
            where=Location(self.file, line, column),
        )

    def _where(self, mark: Any) -> Location:
        return Location(self.file, mark.line + 1, mark.column + 1) if mark else Location(self.file)

    def _fail(self, message: str, event: Any) -> SpecError:
        return SpecError(message, where=self._where(event.start_mark))

    def compose(self) -> _Node:
        root: _Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._fail("expected one document, found a second; one file is one model", event)
                root = self._node(next(self.events), 0)
        return root or _Node(None, Location(self.file))

    def _node(self, event: Any, depth: int) -> _Node:
        where = self._where(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self._fail(f"expected a finished anchor, found the alias {show(f'*{event.anchor}')}", event)
            return self.anchors[event.anchor]
        if depth > MAX_DEPTH:
            raise self._fail(f"expected nesting of at most {MAX_DEPTH}, found deeper; a spec needs six", event)
        if event.tag is not None:
            raise self._fail(f"expected a plain value, found the tag {show(event.tag)}; leave it out", event)
        anchor = event.anchor
        if isinstance(event, yaml.ScalarEvent):
            end = self._where(event.end_mark)
            content = event.value if event.style else _scalar(event.value, where)
            node = _Node(content, where, style=event.style, last_line=end.line - (end.column == 1))
        elif isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self._node(event, depth + 1))
            node = _Node(items, where)
        else:
            node = _Node(self._pairs(depth), where, mapping=True)
        if anchor:
            self.anchors[anchor] = node
        return node

    def _pairs(self, depth: int) -> list[tuple[_Node, _Node]]:
        pairs = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            pairs.append((key, self._node(next(self.events), depth + 1)))
        return pairs


def _scalar(text: str, where: Location) -> Any:
    """A plain scalar by the core schema of YAML 1.2."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > 20 or abs(int(text)) > MAX_INTEGER:
            raise SpecError(f"expected an integer of at most 2**53, found {show(text)}", where=where)
        return int(text)
    if _NOT_FINITE.fullmatch(text):
        raise SpecError(f"expected a finite number, found {show(text)}", where=where)
    if _FLOAT.fullmatch(text):
        if not math.isfinite(number := float(text)):
            raise SpecError(f"expected a finite number, found {show(text)}", where=where)
        return number
    return text


class _Expander:
    """Nodes -> plain data with places; aliases are expanded and counted."""

    def __init__(self, file: str, lines: list[str]) -> None:
        self.file, self.lines, self.count = file, lines, 0
        self.values: dict[Place, Location] = {}
        self.keys: dict[Place, Location] = {}
        self.blocks: dict[Place, Location] = {}
        self.joined: set[Place] = set()

    def expand(self, node: _Node, place: Place, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise SpecError(
                f"expected at most {MAX_VALUES} values, found more (aliases count as often as they are used)",
                where=node.where,
            )
        if depth > MAX_DEPTH:
            raise SpecError(f"expected nesting of at most {MAX_DEPTH}, found deeper", where=node.where)
        self.values[place] = node.where
        if node.mapping:
            result: dict[str, Any] = {}
            for key_node, value_node in node.content:
                key = key_node.content
                if key_node.mapping or not isinstance(key, str):
                    raise SpecError(
                        f"expected a name as key, found {'a mapping' if key_node.mapping else show(key)}; "
                        "put a word, in quotes where YAML reads it as a number, true, false or null",
                        where=key_node.where,
                        path=spell(place),
                    )
                _check_text(key, key_node.where, place)
                if key in result:
                    first = self.keys[(*place, key)]
                    raise SpecError(
                        f"expected each key once, found {show(key)} again (first at line {first.line}); remove one",
                        where=key_node.where,
                        path=spell((*place, key)),
                    )
                self.keys[(*place, key)] = key_node.where
                result[key] = self.expand(value_node, (*place, key), depth + 1)
            return result
        if isinstance(node.content, list):
            return [self.expand(item, (*place, k), depth + 1) for k, item in enumerate(node.content)]
        if isinstance(node.content, str):
            _check_text(node.content, node.where, place)
            self._block(node, place)
        return node.content

    def _block(self, node: _Node, place: Place) -> None:
        where = node.where
        if node.style != "|" and node.last_line > where.line:
            self.joined.add(place)
        if node.style == "|":
            indents = (len(row) - len(row.lstrip(" ")) for row in self.lines[where.line :] if row.strip())
            self.blocks[place] = Location(self.file, where.line + 1, next(indents, 0) + 1)
        elif node.style in ("'", '"'):
            self.blocks[place] = Location(self.file, where.line, where.column + 1)


def _check_text(text: str, where: Location | None, place: Place) -> None:
    """Text must be encodable: half a surrogate pair would break the file that repeats it."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise SpecError(f"expected text, found half a surrogate pair in {show(text)}", where=where, path=spell(place))


class _Plain:
    """Python data -> plain data, as bounded as YAML."""

    def __init__(self) -> None:
        self.count = 0

    def convert(self, value: Any, place: Place, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise SpecError(f"expected at most {MAX_VALUES} values, found more", path=spell(place))
        if depth > MAX_DEPTH:
            raise SpecError(f"expected nesting of at most {MAX_DEPTH}, found deeper", path=spell(place[:4]))
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            text = str.__str__(value)
            _check_text(text, None, place)
            return text
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                wrong = next(key for key in value if not isinstance(key, str))
                raise SpecError(f"expected names as keys, found {type(wrong).__name__}", path=spell(place))
            for key in value:
                _check_text(key, None, place)
            return {str.__str__(key): self.convert(item, (*place, key), depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.convert(item, (*place, k), depth + 1) for k, item in enumerate(value)]
        return self._number(value, place)

    def _number(self, value: Any, place: Place) -> int | float:
        if isinstance(value, numbers.Integral):
            if abs(int(value)) > MAX_INTEGER:
                raise SpecError("expected an integer of at most 2**53, found a larger one", path=spell(place))
            return int(value)
        if isinstance(value, numbers.Real):
            if not math.isfinite(float(value)):
                raise SpecError(f"expected a finite number, found {float(value)}", path=spell(place))
            return float(value)
        kind = type(value).__name__
        raise SpecError(f"expected text, a number, a list or a mapping, found a Python {kind}", path=spell(place))
