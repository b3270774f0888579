"""One function of a model as loops: scheduled, lowered, each tensor in a buffer, each equation in a nest.

    Program -> demand -> schedule -> lower -> fuse -> nests

The same stages as for NumPy as far as they say what must be in which loop; what NumPy wants besides (few calls: packed gates,
slopes that leave the loop) loops do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp

from codegen.blocking import block
from codegen.demand import demand
from codegen.fuse import fuse as joined
from codegen.history import histories
from codegen.loops.blocks import Unfolded, unfold
from codegen.loops.fuse import fuse
from codegen.loops.ir import Buffer, For, How, Nest, Node, Place, Routine, Store, Zero
from codegen.loops.nests import nest, scan, without_units
from codegen.loops.packing import pack_weights, with_scratch
from codegen.loops.products import Products
from codegen.loops.shares import in_shares
from codegen.loops.shorten import drop_unread, shorten
from codegen.lower import Storage, given, lower, plan_storage
from codegen.schedule import Loop, Statement, equations_of, schedule
from codegen.schedule import Node as Scheduled
from codegen.separate import unseparated
from codegen.writes import covers, stores, writes_of
from symbolic.program import Index, IndexName, Program, Reduction, Role, index, read, tensor_of

__all__ = ["routine"]

Ranges = Mapping[IndexName, Index]


def routine(
    kind: str, program: Program, codes: Mapping[str, str], gradients: Mapping[str, str], directions: Mapping[str, str],
    outputs: Collection[str], fresh: Callable[[str], str], itemsize: int = 4, steps: int | None = None,
) -> Routine:
    """The loops of one function.

    ``codes``: tensor -> identifier. ``gradients``: field of the result -> tensor. ``directions``: field -> tensor. ``outputs``:
    the tensors that the caller may have. ``fresh``: a free identifier. ``steps``: of each block; ``None``: blocks only where the
    memory of all steps is known and too large.
    """
    program = demand(program)
    nodes = joined(lower(schedule(program), program), program)
    storages = plan_storage(nodes, program, codes)
    returned = {*gradients.values(), *outputs, *([program.loss] if program.loss else []), *program.tangents.values()}
    rows = writes_of(nodes)
    storing = {name: stores(writes, program) for name, writes in rows.items()}
    setting = {id(w.statement) for writes in storing.values() for w in writes}
    covered = {name for name, writes in storing.items() if covers(writes, storages[name], program, loops=True)}
    storages, verdicts = histories(nodes, program, storages, covered, returned, itemsize)
    blocked = block(nodes, program, storages, returned, steps, itemsize, verdicts, taken=codes.values())
    made = unfold(blocked, lambda statement: id(statement.origin) in setting, covered, fresh)
    program, nodes = made.program, made.nodes
    buffers, before, after = _placed(program, made.storages, gradients, directions, outputs, fresh)
    zeroed = _zeroed(nodes, program, made.storages, covered - made.adding, made.local | made.replaced)
    body: list[Node] = list(before)
    blocks = frozenset(block.extent for block in made.loops.values())
    maker = _Maker(program, setting, made, Products(program, buffers, fresh, blocks))
    for top, node in enumerate(nodes):
        body += zeroed.get(top, ())
        nests = maker.nodes(node, nodes, {})
        body += [*maker.products.new_lists(), *nests]
    body = list(drop_unread(shorten(fuse([*body, *after], buffers, program), buffers, program), buffers))
    body = pack_weights(body, buffers, fresh)
    with_scratch(body, buffers, program)
    body = list(in_shares(body, buffers))
    return Routine(kind, {n: b for n, b in buffers.items() if n not in made.replaced}, tuple(body), program)


@dataclass(frozen=True)
class _Maker:
    """Makes nests of scheduled nodes. ``setting``: the statements, by identity, that find nothing in their place."""

    program: Program
    setting: Collection[int]
    made: Unfolded
    products: Products

    def nodes(self, node: Scheduled, siblings: Sequence[Scheduled], ranges: Ranges) -> list[Node]:
        if isinstance(node, Loop):
            around = {**ranges, node.symbol: Index(node.symbol, node.lower, node.upper)}
            inner = [made for child in node.body for made in self.nodes(child, node.body, around)]
            return [self.made.around(node, inner)]
        alike = _alike(node, siblings)
        if alike and id(node.origin) not in self.setting:
            raise unseparated(node.equation, self.program)
        if alike and alike[0] is not node:
            return []  # the scan of the first finds them all
        if len(alike) > 1:
            equations = [s.equation for s in alike]
            every = {**ranges, **{i.symbol: i for i in equations[0].indices}}
            return [Nest(tuple(s.origin.equation for s in alike), scan(equations, self.program, every), "one scan")]
        sets = id(node.origin) in self.setting and node.equation.name not in self.made.adding
        how = How.SET if sets else How.ADD
        product = self.products.nest(without_units(node.equation), node.origin.equation, how) if not node.when else None
        return [product] if product else [nest(node, how, self.program, ranges)]


def _alike(node: Statement, siblings: Sequence[Scheduled]) -> list[Statement]:
    """The statements that look for the maximum of the same values, in order: one scan finds it, its argument, and all parts of
    that."""
    if node.equation.reduction is Reduction.SUM:
        return []

    def key(statement: Statement) -> object:
        e = statement.equation
        return e.body, e.indices, e.guards, e.target.indices, statement.when

    return [s for s in siblings
            if isinstance(s, Statement) and s.equation.reduction is not Reduction.SUM and key(s) == key(node)]


def _placed(
    program: Program, storages: Mapping[str, Storage], gradients: Mapping[str, str],
    directions: Mapping[str, str], outputs: Collection[str], fresh: Callable[[str], str],
) -> tuple[dict[str, Buffer], list[Node], list[Node]]:
    """The buffer of every tensor, and the copies before and after: of inputs into their halos, of results out of theirs."""
    buffers: dict[str, Buffer] = {}
    before: list[Node] = []
    after: list[Node] = []
    directed = {tensor: field for field, tensor in directions.items()}
    results = [(Place.GRADIENT, field, name) for field, name in gradients.items()]
    results += [(Place.OUTPUT, name, name) for name in outputs]
    for tensor in program.tensors:
        storage = storages[tensor.name]
        place, field = Place.WORKSPACE, ""
        if tensor.name in directed:
            place, field = Place.DIRECTION, directed[tensor.name]
        elif tensor.role is Role.PARAMETER:
            place, field = Place.PARAMETER, tensor.name
        elif tensor.role is Role.INPUT:
            place, field = Place.INPUT, tensor.name
        buffers[tensor.name] = Buffer(storage, place, field)
        if place is not Place.WORKSPACE and storage.padded:
            plain = _plain(storage, fresh(f"{storage.code}_given"))
            buffers[plain.tensor.name] = Buffer(plain, place, field)
            buffers[tensor.name] = Buffer(storage, Place.WORKSPACE)
            before += [Zero(tensor.name, _outside(storage)), _copy(tensor.name, plain.tensor.name, storage)]
    scalars = {program.loss: "loss", program.tangents.get(program.loss, ""): "slope"}
    for place, field, name in results:
        buffer = buffers[name]
        if buffer.place is Place.WORKSPACE and not buffer.storage.padded and buffer.storage.ring is None and name not in scalars:
            buffers[name] = replace(buffer, place=place, field=field)
        else:
            plain = _plain(buffer.storage, fresh(f"{buffer.code}_{'output' if place is Place.OUTPUT else 'gradient'}"))
            buffers[plain.tensor.name] = Buffer(plain, place, field, optional=place is Place.OUTPUT)
            after.append(replace(_copy(plain.tensor.name, name, buffer.storage), optional=place is Place.OUTPUT))
    for name, field in scalars.items():
        if name and buffers[name].place is Place.WORKSPACE:
            buffers[name] = replace(buffers[name], place=Place.SCALAR, field=field)
    return buffers, before, after


def _plain(storage: Storage, code: str) -> Storage:
    """The same entries without margins, as the caller lays them out, under a name that no tensor has."""
    zero = tuple(sp.Integer(0) for _ in storage.before)
    tensor = replace(storage.tensor, name=f"{storage.tensor.name} {code}")
    return Storage(tensor, code, zero, zero)


def _outside(storage: Storage) -> int:
    tensor = storage.tensor
    if not tensor.is_index:
        return 0
    return int(tensor.low - 1) if tensor.ignore is None else int(tensor.ignore)


def _copy(to: str, source: str, storage: Storage) -> Nest:
    """All entries of the bare range from one buffer to another."""
    symbols = tuple(index(f"i{axis}") for axis in range(storage.tensor.rank))
    kind = storage.tensor.is_index
    store: Node = Store(read(to, symbols, kind), read(source, symbols, kind), How.SET)
    for symbol, extent in reversed(list(zip(symbols, storage.tensor.shape, strict=True))):
        store = For(Index.over(symbol, extent), (store,))
    return Nest((), (store,), "copied")


def _zeroed(
    nodes: Sequence[Scheduled], program: Program, storages: Mapping[str, Storage], covered: Collection[str],
    others: Collection[str],
) -> dict[int, list[Zero]]:
    """Before which top-level node which tensors become 0: where not all is stored before it is read or added to, and margins;
    ``others``: that do not, or elsewhere."""
    first: dict[str, int] = {}
    for top, node in enumerate(nodes):
        alike = _alike(node, nodes) if isinstance(node, Statement) else []  # one scan, where the first stands
        for statement in (*equations_of([node]), *alike):
            for name in (statement.equation.name, *map(tensor_of, statement.equation.reads)):
                first.setdefault(name, top)
    found: dict[int, list[Zero]] = {}
    for tensor in program.tensors:
        storage = storages[tensor.name]
        if given(tensor) or tensor.name in others or tensor.name in covered and not storage.padded:
            continue
        nowhere = any(e.reduction is Reduction.ARGMAX for e in program.writers.get(tensor.name, ()))
        inner = any(e != 0 for e in (*storage.before[1:], *storage.after[1:]))
        margins = tensor.name in covered and storage.ring is None and not inner
        found.setdefault(first.get(tensor.name, 0), []).append(Zero(tensor.name, -1 if nowhere else 0, margins))
    return found
