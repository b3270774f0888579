"""The text of the C target: the same bytes under any hash seed, and the same lines whatever sizes a spec writes as numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest

import symbolic
from codegen.pipeline import Options, render
from tests.conftest import ROOT, Run
from tests.test_determinism import files

SPECS = ("gru_classifier", "lenet_digits", "second_order")


def test_two_hash_seeds_give_the_same_bytes(chainrule: Run, tmp_path: Any) -> None:
    for seed in ("1", "4711"):
        done = chainrule("generate", *(f"specs/{name}.yaml" for name in SPECS), "--target", "c", "--tangent", "--hvp",
                         "--out", tmp_path / seed, cwd=ROOT, PYTHONHASHSEED=seed)
        assert done.returncode == 0, done.stderr
    first, second = files(tmp_path / "1"), files(tmp_path / "4711")
    assert list(first) == list(second)
    assert len(first) == 3*len(SPECS) + 1
    assert [name for name in first if first[name] != second[name]] == []


def test_the_order_of_models_does_not_matter() -> None:
    """What one model leaves in a cache must not show in the next."""
    models = {name: symbolic.load(ROOT / "specs" / f"{name}.yaml") for name in SPECS}
    there = {name: render(model, "c") for name, model in models.items()}
    back = {name: render(models[name], "c") for name in reversed(models)}
    assert there == back


def rnn(**fixed: int) -> dict[str, Any]:
    """A model with a recurrence, an embedding and a mask, some of its sizes written as numbers."""
    return {
        "name": "m", "dtype": "float32", "sizes": fixed,
        "inputs": {"x": {"shape": ["T", "N"], "kind": "index", "below": 11}, "y": ["T", "N", 3],
                   "len": {"shape": ["N"], "kind": "index", "below": "T+1"}},
        "layers": [{"name": "e", "type": "embedding", "classes": 11, "units": "H"},
                   {"name": "r", "type": "gru", "units": "H", "lengths": "len"}, {"name": "out", "type": "dense", "units": 3}],
        "loss": {"type": "mse", "target": "y"},
    }


def convolution(**fixed: int) -> dict[str, Any]:
    """Windows whose places are listed."""
    return {
        "name": "m", "dtype": "float32", "sizes": fixed, "inputs": {"x": ["N", 3, "T", 12], "y": ["N", "H"]},
        "layers": [{"name": "c", "type": "conv2d", "channels": "H", "kernel": 3, "padding": 1},
                   {"name": "p", "type": "max_pool2d", "kernel": 2}, {"name": "g", "type": "global_avg_pool"}],
        "loss": {"type": "mse", "target": "y"},
    }


def texts(spec: dict[str, Any], **options: Any) -> dict[str, str]:
    """The three files without their digests."""
    found = render(symbolic.load(spec), "c", Options(**options))
    return {name: re.sub(r"sha256 [0-9a-f]+|[0-9a-f]{64}", "digest", text) for name, text in found.items()}


def words(text: str) -> list[str]:
    """The text as words and signs, each number as ``#``: numbers of other lengths fold lines elsewhere.

    Without the layouts: in which order arrays are stacked is tried out at the sizes that are known.
    """
    text = re.sub(r"/\* Where the arrays of .*?\n\}\n", "", text, flags=re.DOTALL)
    flat = re.sub(r"\s*\n\s*(\* )?", " ", text)
    return re.findall(r"#|\w+|[^\w\s]", re.sub(r"\b\d+\b", "#", flat))


@pytest.mark.parametrize("make", [rnn, convolution])
@pytest.mark.parametrize(("size", "small", "great"), [("T", 10, 1_000_000), ("H", 4, 4096)])
def test_a_size_written_as_a_number(make: Any, size: str, small: int, great: int) -> None:
    """The same text, up to the number: no loop is unrolled, no table is written out, and nothing is left out."""
    few, many = texts(make(**{size: small})), texts(make(**{size: great}))
    assert list(few) == list(many)
    for name in few:
        assert words(few[name]) == words(many[name]), name


@pytest.mark.parametrize("make", [rnn, convolution])
@pytest.mark.parametrize("sizes", [
    ((16, 12, 24), (1000, 64, 128), (500, 128, 1024)), ((1_000_000, 4096, 2048), (2_000_000, 4096, 8192)),
], ids=["whole", "in blocks"])
def test_the_text_does_not_grow_with_sizes(make: Any, sizes: tuple[tuple[int, int, int], ...]) -> None:
    lengths = {}
    for numbers in sizes:
        found = texts(make(**dict(zip(("T", "N", "H"), numbers, strict=True))), wrt="all", tangent=True)
        lengths[numbers] = {name: text.count("\n") for name, text in found.items()}
    assert len({tuple(sorted(each.items())) for each in lengths.values()}) == 1, lengths


def test_unrolling_is_what_grows() -> None:
    spec = ROOT / "specs" / "second_order.yaml"
    few, many = (render(symbolic.load(spec), "c", Options(unroll=steps))["second_order.c"].count("\n") for steps in (2, 6))
    assert many > few


def test_nothing_names_a_path_or_a_date() -> None:
    for name in SPECS:
        for text in render(symbolic.load(ROOT / "specs" / f"{name}.yaml"), "c").values():
            assert str(ROOT) not in text
            assert "/tmp/" not in text
            assert not re.search(r"\b20\d\d-\d\d|\bline \d+\b", text)
