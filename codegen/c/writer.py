"""One routine as the lines of a C function's body."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Indexed
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
    Shares,
    Store,
    Zero,
    walk,
)
from codegen.text import equation_text
from symbolic.program import Index, IndexName, Program, index, index_symbols, tensor_of

__all__ = ["INDENT", "LOCALS", "body_lines", "comment"]

INDENT = "    "
WIDTH = 120
AXES = ("rows", "columns")
Own = tuple[Index, ...] | None
"""The indices of a product's rows or columns of which a share has its own."""
LOCALS = ("scratch", "offsets", "same", "total", "best", "found", "value", "base", "lane", "parts", "whole", "INDEPENDENT",
          "PARTS", "share", "first", "end", "mine", "each_scratch", "THREADS", "IN_SHARES")
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
        self.scratch = ""
        """What products lay out what they need in, inside of a share."""

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
            case Shares():
                self._shares(node)
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

    def _shares(self, node: Shares) -> None:
        """The shares of a range, one after the other or side by side; products of each have a part of the scratch."""
        lower = self.printer.integer(node.over.lower)
        extent = self.printer.integer(node.over.extent)
        bounds = [f"first_of({share}, {extent}, {node.grain})" for share in ("share", "share + 1")]
        first, end = bounds if lower == "0" else [f"{lower} + {bound}" for bound in bounds]
        powers = [power.as_base_exp() for power in sp.Mul.make_args(node.work) if power != 1]
        sizes = [str(base) for base, exponent in powers for _ in range(int(exponent))]
        tests = [f"{extent} > {node.grain}"] if self.program.sizes.get(extent, 0) is None and sizes != [extent] else []
        if sizes and node.least:  # the product of the sizes is more, in numbers that cannot wrap round
            tests.append(f"{sizes[0]} > {'/'.join([str(node.least), *sizes[1:]])}")
        self.emit(f"IN_SHARES({' && '.join(tests) or '1'})")
        self.emit("for (ptrdiff_t share = 0; share < THREADS; ++share) {")
        self.depth += 1
        self.emit(f"const ptrdiff_t first = {first}, end = {end};")
        if any(isinstance(leaf, Product) and not leaf.packed for leaf, _ in walk(node.body)):
            scratch = self.buffers[SCRATCH].code
            self.emit(f"real *const mine = {scratch} + (size_t)share*at.each_{scratch};")
            self.scratch = "mine"
        for inner in node.body:
            self.node(inner)
        self.scratch = ""
        self.depth -= 1
        self.emit("}")

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
        if node.shared:
            lower, upper = "first", "end"
        if node.independent:
            self.emit("INDEPENDENT")
        if node.descending:
            self.emit(f"for (ptrdiff_t {symbol} = {upper}; {symbol}-- > {lower};) {{")
        else:
            self.emit(f"for (ptrdiff_t {symbol} = {lower}; {symbol} < {upper}; ++{symbol}) {{")
        self.block(node.body)

    def _product(self, node: Product) -> None:
        rows, columns, inner = map(self._count, (node.rows, node.columns, node.inner))
        scratch = self.scratch or (self.buffers[SCRATCH].code if SCRATCH in self.buffers else "NULL")
        if node.c.row_offsets:  # base[rows[k] + columns[n]] += sum of a[m,k] b[m,n]
            a, b = self._strided(replace(node.a, rows=node.a.columns, columns=node.a.rows)), self._strided(node.b)
            self._call(f"product_scatter({inner}, {columns}, {rows}, {a}, {b}, {self._listed(node.c)}, {scratch})")
            return
        own_rows, own_columns = (group if node.shared == axis else None for axis, group in zip(AXES, node.over, strict=True))
        share = "(size_t)(end - first)"
        sizes = f"{share if node.shared == 'rows' else rows}, {share if node.shared == 'columns' else columns}, {inner}"
        c = f"{self._address(node.c, own_rows, own_columns)}, {self._count(node.c.rows)}, {int(node.how is How.ADD)}"
        a = self._strided(node.a, own_rows)
        if node.packed:
            self._call(f"product_packed({sizes}, {a}, {self.buffers[node.packed].code}, {c})")
        elif node.b.row_offsets:
            b = self._listed(node.b) + (" + first" if node.shared == "columns" else "")
            self._call(f"product_at({sizes}, {a}, {b}, {c}, {scratch})")
        else:
            self._call(f"product({sizes}, {a}, {self._strided(node.b, None, own_columns)}, {c}, {scratch})")

    def _call(self, text: str) -> None:
        """A call, folded between its arguments."""
        width, line, indent = WIDTH - len(INDENT) * (self.depth + 1), "", ""
        for part in _arguments(f"{text};"):
            if line and len(line) + len(part) > width:
                self.emit(f"{indent}{line.rstrip()}")
                line, indent = "", INDENT
            line += part
        self.emit(f"{indent}{line}")

    def _count(self, expr: Expr) -> str:
        """A size as the products take it."""
        text = self.printer.integer(expr)
        return text if text.isdigit() else f"(size_t){text}" if text.isidentifier() else f"(size_t)({text})"

    def _address(self, matrix: Matrix, rows: Own = None, columns: Own = None) -> str:
        """Where a matrix begins. ``rows``, ``columns``: the indices of which a share has those from its first on."""
        own, step = (rows, matrix.rows) if rows is not None else (columns, matrix.columns)
        entry = matrix.entry
        moved = _moved(matrix, own[0].symbol) if own is not None and len(own) == 1 else None
        text = self.printer.entry(entry if moved is None else moved)
        text = text[:-3] if text.endswith("[0]") else f"&{text}"
        if own is None or moved is not None:
            return text
        each = self.printer.integer(step, PRECEDENCE["Mul"] + 1)
        return f"{text} + first" if each == "1" else f"{text} + first*{each}"

    def _strided(self, matrix: Matrix, rows: Own = None, columns: Own = None) -> str:
        return f"{self._address(matrix, rows, columns)}, {self._count(matrix.rows)}, {self._count(matrix.columns)}"

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
            self.emit(f"for (ptrdiff_t spot = 0; spot < {entries}; ++spot) {{")
            self.emit(f"{INDENT}{buffer.code}[spot] = {node.value};")
            self.emit("}")


def _arguments(call: str) -> list[str]:
    """The text of a call, cut after the commas between its arguments.

    >>> _arguments("f(a, &b[g(1, 2)], c);")
    ['f(a, ', '&b[g(1, 2)], ', 'c);']
    """
    parts, depth = [""], 0
    for sign in re.split(r"(, |[()\[\]])", call):
        depth += (sign in ("(", "[")) - (sign in (")", "]"))
        parts[-1] += sign
        if sign == ", " and depth == 1:
            parts.append("")
    return parts


def _moved(matrix: Matrix, symbol: IndexName) -> Indexed | None:
    """The first entry of a share, where an index steps along one axis, one by one."""
    each = matrix.each.indices if matrix.each is not None else ()
    axes = [axis for axis, part in enumerate(each) if symbol in index_symbols(part)]
    if len(axes) != 1 or symbol in index_symbols(sp.expand(each[axes[0]] - symbol)):
        return None
    parts = list(matrix.entry.indices)
    parts[axes[0]] = sp.expand(parts[axes[0]] + index("first"))
    return matrix.entry.func(matrix.entry.base, *parts)


def comment(text: str, depth: int) -> Iterable[str]:
    """A comment, folded where it is long."""
    indent = INDENT * depth
    lines = textwrap.wrap(text, WIDTH - len(indent) - 6, break_long_words=False) or [""]
    if len(lines) == 1:
        return [f"{indent}/* {lines[0]} */"]
    return [f"{indent}/* {lines[0]}", *(f"{indent} * {line}" for line in lines[1:-1]), f"{indent} * {lines[-1]} */"]
