"""One routine as the lines of a C function's body."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr
from sympy.printing.precedence import PRECEDENCE

from codegen.c.printer import CPrinter
from codegen.loops.ir import (
    SCRATCH,
    Blocks,
    Buffer,
    For,
    How,
    If,
    Matrix,
    Nest,
    Node,
    Pack,
    Product,
    Routine,
    Set,
    Store,
    Zero,
    walk,
)
from codegen.text import equation_text
from symbolic.program import Program, index, tensor_of

__all__ = ["INDENT", "LOCALS", "body_lines", "comment"]

INDENT = "    "
WIDTH = 120
LOCALS = ("scratch", "offsets", "same", "total", "best", "found", "value", "base", "lane", "parts", "whole", "INDEPENDENT",
          "PARTS")
"""What a body calls its own scalars, and what stands beside it."""


def body_lines(routine: Routine) -> list[str]:
    """The loops of a routine, each nest under its equations and their numbers."""
    writer = _Writer(routine.program, routine.buffers)
    for node in routine.body:
        writer.node(node)
    return writer.lines


class _Writer:
    def __init__(self, program: Program, buffers: Mapping[str, Buffer]) -> None:
        self.program, self.buffers = program, buffers
        self.printer = CPrinter(program, buffers)
        self.lines: list[str] = []
        self.depth = 0

    def emit(self, text: str) -> None:
        self.lines.append(f"{INDENT * self.depth}{text}")

    def block(self, body: Sequence[Node], end: str = "}") -> None:
        self.depth += 1
        for node in body:
            self.node(node)
        self.depth -= 1
        self.emit(end)

    def node(self, node: Node) -> None:
        match node:
            case Nest():
                self._nest(node)
            case Blocks():
                self._blocks(node)
            case For():
                self._for(node)
            case If():
                self.emit(f"if ({' && '.join(map(self.printer.test, node.conditions))}) {{")
                self.block(node.body, "} else {" if node.otherwise else "}")
                if node.otherwise:
                    self.block(node.otherwise)
            case Store():
                target, value = self.printer.entry(node.target), self._value(node.value, self.buffers[tensor_of(node.target)])
                if node.how is How.ADD and value.startswith("-") and not node.value.is_Add:
                    self.emit(f"{target} -= {value[1:]};")
                else:
                    self.emit(f"{target} {node.how.value} {value};")
            case Set():
                kind = ("ptrdiff_t " if node.integer else "real ") if node.declares else ""
                kind = f"const {kind}" if node.constant else kind
                text = self.printer.integer(node.value) if node.integer else self.printer.real(node.value)
                if node.how is How.MAX:
                    self.emit(f"{node.local} = larger({node.local}, {text});")
                else:
                    self.emit(f"{kind}{node.local} {node.how.value} {text};")
            case Zero():
                self._zero(node)
            case Product():
                self._product(node)
            case Pack():
                sizes = ", ".join(map(self._count, (node.inner, node.columns)))
                self._call(f"pack_b({sizes}, {self._strided(node.b)}, {self.buffers[node.packed].code})")

    def _value(self, value: Expr, buffer: Buffer) -> str:
        return self.printer.integer(value) if buffer.tensor.is_index else self.printer.real(value)

    def _nest(self, node: Nest) -> None:
        if not node.equations and " " in node.reason:
            self.lines += comment(node.reason, self.depth)
        for equation in node.equations:
            numbers = ", ".join(map(str, equation.numbers))
            self.lines += comment(f"({numbers}) {equation_text([equation], self.program)}", self.depth)
        if node.optional:
            (target,) = (leaf.target for leaf, _ in walk(node.body) if isinstance(leaf, Store))
            self.emit(f"if ({self.buffers[tensor_of(target)].code} != NULL) {{")
            self.block(node.body)
        elif any(isinstance(inner, Set) for inner in node.body):
            self.emit("{")
            self.block(node.body)
        else:
            for inner in node.body:
                self.node(inner)

    def _in_parts(self, node: For) -> None:
        """A running sum (or maximum) in parts, side by side: what reassociation is wanted is written down."""
        (running,) = node.body
        assert isinstance(running, Set)
        symbol, lane, printer = node.index.symbol, index("lane"), self.printer
        lower, upper = printer.integer(node.index.lower), printer.integer(node.index.upper)
        several = printer.real(running.value.xreplace({symbol: symbol + lane}))
        one = printer.real(running.value)
        most = running.how is How.MAX
        self.emit("{")
        self.depth += 1
        self.emit("real parts[PARTS];")
        self.emit(f"fill_parts(parts, {'-INFINITY' if most else '0'});")
        low = node.index.lower
        length = printer.integer(sp.expand(node.index.upper - low), PRECEDENCE["Mul"] + 1)
        self.emit(f"const ptrdiff_t whole = {upper} - {length}%PARTS;")
        self.emit(f"for (ptrdiff_t {symbol} = {lower}; {symbol} < whole; {symbol} += PARTS) {{")
        self.emit(f"{INDENT}for (ptrdiff_t lane = 0; lane < PARTS; ++lane) {{")
        self.emit(f"{INDENT * 2}parts[lane] " + (f"= larger(parts[lane], {several});" if most else f"+= {several};"))
        self.emit(f"{INDENT}}}")
        self.emit("}")
        self.emit(f"for (ptrdiff_t {symbol} = whole; {symbol} < {upper}; ++{symbol}) {{")
        self.emit(f"{INDENT}parts[0] " + (f"= larger(parts[0], {one});" if most else f"+= {one};"))
        self.emit("}")
        self.emit(f"{running.local} = larger({running.local}, largest_part(parts));" if most
                  else f"{running.local} += sum_parts(parts);")
        self.depth -= 1
        self.emit("}")

    def _blocks(self, node: Blocks) -> None:
        """A few steps at a time: the first step of a block, and how many it has."""
        start, steps, extent = str(node.index.symbol), node.steps, str(node.extent)
        lower, end = self.printer.integer(node.index.lower), self.printer.integer(node.end)
        if node.descending:
            last = self.printer.integer(sp.expand(node.end - node.index.lower - 1), PRECEDENCE["Mul"] + 1)
            first = f"{last}/{steps}*{steps}" if lower == "0" else f"{lower} + {last}/{steps}*{steps}"
            self.emit(f"for (ptrdiff_t {start} = {first}; {start} >= {lower}; {start} -= {steps}) {{")
        else:
            self.emit(f"for (ptrdiff_t {start} = {lower}; {start} < {end}; {start} += {steps}) {{")
        left = f"{end} - {start}"
        self.emit(f"{INDENT}const ptrdiff_t {extent} = {left} < {steps} ? {left} : {steps};")
        self.block(node.body)

    def _for(self, node: For) -> None:
        if node.in_parts:
            self._in_parts(node)
            return
        symbol, printer = str(node.index.symbol), self.printer
        lower, upper = printer.integer(node.index.lower), printer.integer(node.index.upper)
        if node.independent:
            self.emit("INDEPENDENT")
        if node.descending:
            self.emit(f"for (ptrdiff_t {symbol} = {upper}; {symbol}-- > {lower};) {{")
        else:
            self.emit(f"for (ptrdiff_t {symbol} = {lower}; {symbol} < {upper}; ++{symbol}) {{")
        self.block(node.body)

    def _product(self, node: Product) -> None:
        sizes = ", ".join(map(self._count, (node.rows, node.columns, node.inner)))
        a, add = self._strided(node.a), int(node.how is How.ADD)
        scratch = self.buffers[SCRATCH].code if SCRATCH in self.buffers else "NULL"
        if node.c.row_offsets:
            c = self._listed(node.c)  # base[rows[k] + columns[n]] += sum of a[m,k] b[m,n]
            sizes = ", ".join(map(self._count, (node.inner, node.columns, node.rows)))
            a = self._strided(replace(node.a, rows=node.a.columns, columns=node.a.rows))
            self._call(f"product_scatter({sizes}, {a}, {self._strided(node.b)}, {c}, {scratch})")
            return
        c = f"{self._address(node.c)}, {self._count(node.c.rows)}"
        if node.packed:
            self._call(f"product_packed({sizes}, {a}, {self.buffers[node.packed].code}, {c}, {add})")
        elif node.b.row_offsets:
            self._call(f"product_at({sizes}, {a}, {self._listed(node.b)}, {c}, {add}, {scratch})")
        else:
            self._call(f"product({sizes}, {a}, {self._strided(node.b)}, {c}, {add}, {scratch})")

    def _call(self, text: str) -> None:
        """A call, folded between its arguments."""
        lines = textwrap.wrap(f"{text};", WIDTH - len(INDENT) * (self.depth + 1), break_long_words=False)
        for k, line in enumerate(lines):
            self.emit(line if not k else f"{INDENT}{line}")

    def _count(self, expr: Expr) -> str:
        """A size as the products take it."""
        text = self.printer.integer(expr)
        return text if text.isdigit() else f"(size_t){text}" if text.isidentifier() else f"(size_t)({text})"

    def _address(self, matrix: Matrix) -> str:
        text = self.printer.entry(matrix.entry)
        return text[:-3] if text.endswith("[0]") else f"&{text}"

    def _strided(self, matrix: Matrix) -> str:
        return f"{self._address(matrix)}, {self._count(matrix.rows)}, {self._count(matrix.columns)}"

    def _listed(self, matrix: Matrix) -> str:
        lists = (self.buffers[name].code for name in (matrix.row_offsets, matrix.column_offsets))
        return ", ".join((self._address(matrix), *lists))

    def _zero(self, node: Zero) -> None:
        buffer = self.buffers[node.buffer]
        entries = self.printer.integer(buffer.entries, 0)
        each = "position" if buffer.tensor.is_index else "real"
        if node.margins:
            storage = buffer.storage
            row = sp.Mul(*buffer.extents[1:])
            before, after = storage.before[0] * row, storage.after[0] * row
            for start, count in ((sp.S.Zero, before), (buffer.entries - after, after)):
                if count != 0:
                    place = buffer.code if start == 0 else f"{buffer.code} + {self.printer.integer(sp.expand(start))}"
                    size = self.printer.integer(sp.expand(count))
                    self.emit(f"memset({place}, {node.value}, (size_t)({size})*sizeof({each}));")
        elif node.value in (0, -1):
            count = f"(size_t)({entries})*" if buffer.extents else ""
            self.emit(f"memset({buffer.code}, {node.value}, {count}sizeof({each}));")
        else:
            self.emit(f"for (ptrdiff_t k = 0; k < {entries}; ++k) {{")
            self.emit(f"{INDENT}{buffer.code}[k] = {node.value};")
            self.emit("}")


def comment(text: str, depth: int) -> Iterable[str]:
    """A comment, folded where it is long."""
    indent = INDENT * depth
    lines = textwrap.wrap(text, WIDTH - len(indent) - 6, break_long_words=False) or [""]
    if len(lines) == 1:
        return [f"{indent}/* {lines[0]} */"]
    return [f"{indent}/* {lines[0]}", *(f"{indent} * {line}" for line in lines[1:-1]), f"{indent} * {lines[-1]} */"]
