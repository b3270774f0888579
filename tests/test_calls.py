"""Calls from Python: paths stand for models, one name for several, and what does not fit is an error of ours that says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codegen
import symbolic
from symbolic import ArgumentError, ChainruleError
from symbolic.tangent import tangent

SPEC = Path("specs/scalar.yaml")


def test_the_path_of_a_spec_stands_for_its_model(tmp_path: Path) -> None:
    module = codegen.compile(str(SPEC), hvp=True)
    assert module.hvp is not None
    written = codegen.generate(SPEC, out=tmp_path / "one")
    assert [w.path.name for w in written] == ["scalar.py"]
    written = codegen.generate([SPEC, "specs/second_order.yaml"], target=["numpy", "latex"], out=tmp_path / "two")
    assert sorted(w.path.name for w in written) == ["scalar.py", "scalar.tex", "second_order.py", "second_order.tex"]


@pytest.mark.parametrize("given", [3, None, {"name": "x"}, [3]])
def test_what_is_no_model_is_said(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^generate: expected a Model or the path of a spec, found a Python \w+; "):
        codegen.generate(given, out=tmp_path)
    with pytest.raises(TypeError, match=r"^compile: expected a Model or the path of a spec, found a Python \w+; "):
        codegen.compile(given)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_keyword_is_named() -> None:
    call: Any = codegen.compile
    with pytest.raises(TypeError, match=r"^compile\(\) got an unexpected keyword argument 'hpv'"):
        call(SPEC, hpv=True)


@pytest.mark.parametrize("differentiate", [symbolic.gradient, tangent])
def test_one_name_to_differentiate_by(differentiate: Any) -> None:
    program = symbolic.load(SPEC).program()
    name = program.parameters[0].name
    assert str(differentiate(program, name)) == str(differentiate(program, [name]))
    with pytest.raises(ChainruleError, match=r"no tensor 'hid\.W' to differentiate by"):
        differentiate(program, "hid.W")


@pytest.mark.parametrize("differentiate", [symbolic.gradient, tangent])
def test_a_model_is_no_program(differentiate: Any) -> None:
    model = symbolic.load(SPEC)
    with pytest.raises(ArgumentError, match=r"^\w+: expected a Program, found a Python Model; .*model\.program\(\)"):
        differentiate(model)
    with pytest.raises(ArgumentError, match=r"^\w+: expected names of tensors to differentiate by, found a Python int"):
        differentiate(model.program(), [3])


def test_a_state_that_is_none() -> None:
    module = codegen.compile(SPEC)
    params = {name: np.array(1, module.DTYPE) for name in module.PARAMETERS}
    with pytest.raises(ValueError, match=r"^update: expected the last update's state, or None, found int$"):
        module.update(params, params, 3)
