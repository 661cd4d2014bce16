"""What a training step costs beside the arithmetic of its convolutions, and what TensorFlow's options save of it."""

import json
import subprocess
import sys
from pathlib import Path

import gan_step
import pytest
from world import make_settings

from ml import devices, environment
from ml.precision import BFLOAT16

pytestmark = pytest.mark.benchmark
MOST = {BFLOAT16: 1.3, devices.FLOAT32: 2.0}
"""Times what its convolutions would take at the rate of a large product of matrices in float32."""
SAVED = 0.85


def measured(home: Path, **options: str) -> dict[str, float]:
    """Return what `gan_step` prints in the environment of the stack's tasks, with other values of some options."""
    stack = environment.environment(make_settings(home / "home", home))
    environ = stack | {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"} | options
    out = subprocess.check_output([sys.executable, gan_step.__file__], env=environ, cwd=home, text=True)
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    print(f"\n{options or ''} a step: {1000 * found['step']:.0f} ms of CPU")
    return found


def test_a_step_takes_little_more_than_its_convolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_SET_ONEDNN_FPMATH_MODE", "BF16")
    found, precision = measured(tmp_path), devices.precision_of_cpu()
    alone = found["operations"] * found["product"]
    print(
        f"{found['operations'] / 1e9:.1f} GFLOP of convolutions at {1e-9 / found['product']:.0f} GFLOP/s: "
        f"{1000 * alone:.0f} ms; {found['step'] / alone:.2f} times, {precision}"
    )
    assert found["step"] <= MOST[precision] * alone


def test_onednn_saves_time(tmp_path: Path) -> None:
    precise = {"TF_SET_ONEDNN_FPMATH_MODE": ""}
    with_it, without = (measured(tmp_path, TF_ENABLE_ONEDNN_OPTS=value, **precise) for value in ("1", "0"))
    assert with_it["step"] <= SAVED * without["step"]


def test_computing_in_bfloat16_saves_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_SET_ONEDNN_FPMATH_MODE", "BF16")
    if devices.precision_of_cpu() == devices.FLOAT32:
        pytest.skip("this processor has no instructions for bfloat16")
    bfloat16, float32 = (measured(tmp_path, TF_SET_ONEDNN_FPMATH_MODE=value) for value in ("BF16", ""))
    assert bfloat16["step"] <= SAVED * float32["step"]
