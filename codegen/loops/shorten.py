"""What one iteration stores and reads again is kept in a scalar; the innermost loops are told whether their iterations meet.

    i[t,k] = sigmoid(a[t,k]);  c[t,k] = i[t,k]*g[t,k]   ->   let i_tk = sigmoid(..);  i[t,k] = i_tk;  c[t,k] = i_tk*g[t,k]

A loop of plain stores is independent where each entry that it writes is written by one iteration, and is read by that one alone:
its iterations may run side by side. A running sum is no such loop; it is marked to be kept in several parts, which are added in
the end.

Requires: fused nests. Ensures: the same values, sums but for their order. Cost: linear in the entries of each innermost loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import sympy as sp
from sympy import Expr, Indexed

from codegen.loops.ir import Buffer, For, How, If, Local, Nest, Node, Pack, Place, Product, Set, Store, Zero, walk
from codegen.loops.uses import expressions, touched, written
from symbolic.analysis import affine, are_apart, index_reads, subscript_range
from symbolic.functions import row_of
from symbolic.program import Index, IndexName, Program, index_symbols, reads, tensor_of

__all__ = ["drop_unread", "shorten"]


def shorten(nodes: Sequence[Node], buffers: Mapping[str, Buffer], program: Program) -> tuple[Node, ...]:
    """The nodes with scalars for what is read again, and with their innermost loops marked."""
    return _ahead([_node(node, buffers, program, {}) for node in nodes])


def _ahead(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Before each innermost loop what a function gives that is the same in all its iterations."""
    found: list[Node] = []
    count = 0
    for node in nodes:
        if not isinstance(node, For) or any(isinstance(inner, For | If | Nest) for inner in node.body):
            found.append(node)
            continue
        changed, mine = set(written((node,))), {leaf.local for leaf in node.body if isinstance(leaf, Set)}

        def stays(expr: Expr, loop: For = node, changed: set[str] = changed, mine: set[Local] = mine) -> bool:
            return not (loop.index.symbol in index_symbols(expr) or expr.atoms(Local) & mine
                        or changed & set(map(tensor_of, reads(expr))))

        calls: dict[Expr, Local] = {}
        for leaf in node.body:
            for call in _calls(leaf.value, stays) if isinstance(leaf, Store | Set) else []:
                if call not in calls:
                    count += 1
                    calls[call] = Local("same" if count == 1 else f"same_{count}")
        found += [Set(local, call, declares=True, constant=True) for call, local in calls.items()]
        found.append(replace(node, body=tuple(
            replace(leaf, value=leaf.value.xreplace(calls)) if isinstance(leaf, Store | Set) else leaf for leaf in node.body)))
    return tuple(found)


def _calls(value: Expr, stays: Callable[[Expr], bool]) -> list[Expr]:
    """The outermost calls of functions of what is read that stay the same, in the order of the expression."""
    if isinstance(value, Indexed) or not value.args:
        return []
    is_call = row_of(value) is not None or value.is_Pow and not (value.exp.is_Integer and value.exp > 0)
    if is_call and (reads(value) or value.atoms(Local)) and stays(value):
        return [value]
    return [call for part in value.args for call in _calls(part, stays)]


def drop_unread(nodes: Sequence[Node], buffers: Mapping[str, Buffer]) -> tuple[Node, ...]:
    """The nodes without stores to the workspace that nothing reads, now that scalars hand the values on."""
    seen: set[str] = set()
    for leaf, around in walk(nodes):
        conditions = [c for node in around if isinstance(node, If) for c in node.conditions]
        for expr in (*expressions((leaf,)), *conditions):
            if isinstance(leaf, Store) and expr == leaf.target:
                seen.update(tensor_of(r) for part in expr.indices for r in reads(part))
            else:
                seen.update(map(tensor_of, reads(expr)))
        if isinstance(leaf, Pack | Product):
            seen.update(touched((leaf,)))
    gone = {name for name, buffer in buffers.items() if buffer.place is Place.WORKSPACE and name not in seen}
    return _without(nodes, gone) if gone else tuple(nodes)


def _without(nodes: Sequence[Node], gone: set[str]) -> tuple[Node, ...]:
    found: list[Node] = []
    for node in nodes:
        match node:
            case Store() if tensor_of(node.target) in gone:
                continue
            case Zero() if node.buffer in gone:
                continue
            case For() | Nest():
                body = _without(node.body, gone)
                if body:
                    found.append(replace(node, body=body))
            case If():
                body, otherwise = _without(node.body, gone), _without(node.otherwise, gone)
                if body:
                    found.append(replace(node, body=body, otherwise=otherwise))
                elif otherwise:
                    found.append(node)
            case _:
                found.append(node)
    return tuple(found)


def _node(node: Node, buffers: Mapping[str, Buffer], program: Program, around: Mapping[IndexName, Index]) -> Node:
    match node:
        case Nest():
            return replace(node, body=_ahead([_node(inner, buffers, program, around) for inner in node.body]))
        case If():
            body, otherwise = (_ahead([_node(inner, buffers, program, around) for inner in part])
                               for part in (node.body, node.otherwise))
            return replace(node, body=body, otherwise=otherwise)
        case For():
            ranges = {**around, node.index.symbol: node.index}
            body = _in_scalars(node.body, buffers)
            if all(isinstance(inner, Store | Set) and not _is_running(inner) for inner in body):
                independent = _is_independent(replace(node, body=node.body), buffers, program, ranges)
                return replace(node, body=body, independent=independent)
            if len(body) == 1 and isinstance(body[0], Set) and not node.descending:
                return replace(node, in_parts=not reads(body[0].value) or not index_reads(_subscripts(body[0].value)))
            return replace(node, body=_ahead([_node(inner, buffers, program, ranges) for inner in body]))
        case _:
            return node


def _is_independent(loop: For, buffers: Mapping[str, Buffer], program: Program, ranges: Mapping[IndexName, Index]) -> bool:
    """Whether what an iteration of a loop of stores writes is touched by that iteration alone."""
    symbol = loop.index.symbol
    stores = [node for node in loop.body if isinstance(node, Store)]
    for store in stores:
        name = tensor_of(store.target)
        mine = buffers[name].positions(store.target.indices)
        moving = [p for p in mine if symbol in index_symbols(p)]
        form = affine(moving[0]) if len(moving) == 1 and not moving[0].has(sp.Mod) else None
        if form is None or reads(moving[0]) or form.coefficient(symbol) == 0:
            return False
        others = [other.target for other in stores] + [r for other in stores for r in reads(other.value)]
        for entry in others:
            if tensor_of(entry) != name:
                continue
            theirs = buffers[name].positions(entry.indices)
            if not any(a == b and symbol in index_symbols(a) for a, b in zip(mine, theirs, strict=True)) and not _apart(
                mine, theirs, ranges, program
            ):
                return False
    return True


def _apart(a: Sequence[Expr], b: Sequence[Expr], ranges: Mapping[IndexName, Index], program: Program) -> bool:
    for first, second in zip(a, b, strict=True):
        if first.has(sp.Mod) or second.has(sp.Mod):
            continue
        difference = sp.expand(first - second)
        if difference.is_number and difference != 0:
            continue  # a fixed distance: another iteration may be there
        spans = subscript_range(first, ranges, program), subscript_range(second, ranges, program)
        if spans[0] is not None and spans[1] is not None and are_apart(spans[0], spans[1], program):
            return True
    return False


def _is_running(node: Node) -> bool:
    """Whether a node goes on with a scalar of an outer loop."""
    return isinstance(node, Set) and not node.declares


def _subscripts(value: Expr) -> tuple[Expr, ...]:
    return tuple(part for entry in reads(value) for part in entry.indices)


Spot = tuple[str, tuple[Expr, ...]]
"""A buffer, and where in it an entry lies."""


def _in_scalars(body: Sequence[Node], buffers: Mapping[str, Buffer]) -> tuple[Node, ...]:
    """The nodes of one iteration, each entry that is read after it is stored (or added to) in a scalar."""
    found: list[Node] = []
    held: dict[Spot, Local] = {}

    def key(entry: Indexed) -> Spot:
        buffer = buffers[tensor_of(entry)]
        return buffer.code, buffer.positions(entry.indices)

    def scalar(entry: Indexed) -> Local | None:
        return held.get(key(entry))

    for k, node in enumerate(body):
        later = body[k + 1 :]
        node = with_entries(node, scalar)
        if not isinstance(node, Store):
            changed = {buffers[name].code for name in written((node,))}
            held = {place: local for place, local in held.items() if place[0] not in changed}
            found.append(node)
            continue
        place, value = key(node.target), node.value
        number = not buffers[tensor_of(node.target)].tensor.is_index  # positions stay in their array
        again = number and _is_read_again(place, later, key, buffers)
        over = number and any(isinstance(other, Store) and key(other.target) == place for other in later)
        if node.how is How.ADD and place in held:
            value = held[place] + value
        elif node.how is How.ADD and (again or over):
            value = node.target + value
        elif node.how is How.ADD:
            held = {p: local for p, local in held.items() if p[0] != place[0]}
            found.append(node)
            continue
        if (again or over and node.how is How.ADD) and not isinstance(value, Local) and not value.is_number:
            letters = "".join(str(s) for s in node.target.indices if isinstance(s, IndexName))
            name = f"{place[0]}_{letters or 'here'}"
            count = sum(str(other.local).startswith(name) for other in found if isinstance(other, Set))
            local = Local(f"{name}_{count + 1}" if count else name)
            found.append(Set(local, value, declares=True, constant=True))
            value = local
        held = {p: local for p, local in held.items() if p[0] != place[0] or _is_elsewhere(p[1], place[1])}
        if isinstance(value, Local):
            held[place] = value
        if not (isinstance(value, Local) and over and not _is_touched(place[0], later, buffers)):
            found.append(Store(node.target, value, How.SET))
    return tuple(found)


def _is_elsewhere(a: Sequence[Expr], b: Sequence[Expr]) -> bool:
    """Whether two places of one buffer are a fixed distance apart."""
    return any((d := sp.expand(x - y)).is_number and d != 0 or d.is_positive or d.is_negative for x, y in zip(a, b, strict=True))


def _is_read_again(place: Spot, later: Sequence[Node], key: Callable[[Indexed], Spot], buffers: Mapping[str, Buffer]) -> bool:
    """Whether a later node of the iteration reads the entry, or adds to it, before something else is stored there."""
    for node in later:
        if any(key(entry) == place for expr in expressions((node,)) for entry in reads(expr)
               if not (isinstance(node, Store) and node.how is How.SET and expr == node.target)):
            return True
    return False


def _is_touched(code: str, later: Sequence[Node], buffers: Mapping[str, Buffer]) -> bool:
    """Whether a node that is no store of this iteration touches the buffer: what stands in it must then be there."""
    return any(not isinstance(node, Store) and any(buffers[name].code == code for name in touched((node,))) for node in later)


def with_entries(node: Node, held: Callable[[Indexed], Local | None]) -> Node:
    """The node with scalars for the entries that are held in one; where it stores stays."""

    def change(expr: Expr) -> Expr:
        rule = {entry: local for entry in reads(expr) if (local := held(entry)) is not None}
        return expr.xreplace(rule) if rule else expr

    match node:
        case For():
            return replace(node, body=tuple(with_entries(inner, held) for inner in node.body))
        case If():
            body, otherwise = (tuple(with_entries(inner, held) for inner in part) for part in (node.body, node.otherwise))
            return replace(node, conditions=tuple(map(change, node.conditions)), body=body, otherwise=otherwise)
        case Store() | Set():
            return replace(node, value=change(node.value))
        case _:
            return node
