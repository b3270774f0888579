"""C against NumPy in float64: each entry within 8 eps times the sum of its absolute terms, on every spec and compiler."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import yaml

import codegen
import symbolic
from codegen.pipeline import Options, stages
from tests.c_driver import compiler
from tests.conftest import ROOT
from tests.emitting import compiled, split, values_for
from tests.magnitudes import magnitudes

EPS = float(np.finfo(np.float64).eps)
LOOSEST = 2e-11
"""Of the greatest entry of a gradient: what the bound may come to, at most."""
LOOSER = {"lenet": 2e-8}
"""Through its five layers, of up to 256 terms each, the bound grows further; tests/test_c_driver.py holds it to 1e-12."""
BUILDS = {
    "gcc -O0": ("gcc", "-O0"), "gcc -O3": ("gcc", "-O3"), "clang -O0": ("clang", "-O0"), "clang -O3": ("clang", "-O3"),
    "plain C99": ("gcc", "-DPLAIN"),
}


def smaller(name: str) -> symbolic.Model:
    """The spec with sizes that the interpreter can go through; pictures stay as they are."""
    data = yaml.safe_load((ROOT / "specs" / f"{name}.yaml").read_text(encoding="utf-8"))
    data["sizes"] = {key: min(value, 5 + k) for k, (key, value) in enumerate(data.get("sizes", {}).items())}
    return symbolic.load(data)


@cache
def case(name: str) -> tuple[symbolic.Model, Any, Any, Any, Any, float]:
    """The model, its arguments, what NumPy gives, and the sums of the absolute terms."""
    model = smaller(name)
    program = model.program()
    batch_size = 1 if name == "lenet" else 3  # a picture of 28 by 28 takes the interpreter half a minute
    sizes = {n: {"T": 5, "N": batch_size}.get(n, 4) for n, v in program.sizes.items() if v is None}
    values = values_for(program, sizes, seed=3)
    for tensor in program.parameters:  # a net that is not saturated: else nothing is well conditioned
        values[tensor.name] = values[tensor.name] / np.prod(np.shape(values[tensor.name])[1:])**0.5
    params, batch = split(program, values)
    want = compiled(model, wrt="all", dtype="float64").value_and_grad(params, batch)
    adjoint = stages(model, Options(wrt="all")).optimised
    gradients = {n: adjoint.gradients[n] for n in want[1] if n in adjoint.gradients}
    terms = magnitudes(adjoint, values, sizes, [adjoint.loss, *gradients.values()])
    return model, params, batch, want, {n: terms[t] for n, t in gradients.items()}, float(terms[adjoint.loss])


@pytest.mark.gcc
@pytest.mark.clang
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "specs").glob("*.yaml")))
def test_every_entry(name: str, build: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    model, params, batch, (want_loss, want), terms, loss_terms = case(name)
    cc, flags = BUILDS[build]
    monkeypatch.setenv("CC", (compiler(cc) or [cc])[0])
    monkeypatch.setenv("CHAINRULE_C_FLAGS", flags.replace("-DPLAIN", f"-D{model.name.upper()}_PLAIN_C99"))
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    module: Any = codegen.compile(model, target="c", dtype="float64", wrt="all")
    loss, grads = module.value_and_grad(params, batch)
    assert abs(loss - want_loss) <= 8 * EPS * loss_terms
    for key, scale in terms.items():
        # A bound that excuses all would prove nothing.
        times = np.max(scale) / np.max(np.abs(want[key]))
        assert 8 * EPS * times <= LOOSER.get(name, LOOSEST), f"{key}: the bound is {times:.0f} times the gradient"
        worst = np.max(np.abs(grads[key] - want[key]) - 8 * EPS * scale, initial=-1)
        assert worst <= 0, f"{key}: {np.max(np.abs(grads[key] - want[key]) / (EPS * scale + 1e-300)):.1f} eps"
