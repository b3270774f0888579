"""The examples reach their goals."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_mlp", "digits_lenet"])
def test_digits(name: str) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, extra 'test' or 'examples'")
    done = subprocess.run([sys.executable, str(ROOT / "examples" / f"{name}.py")], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test accuracy" in done.stdout
