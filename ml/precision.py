"""In which precision networks are trained: the fastest one in which a device trains as well as in float32."""

import os
from collections.abc import Sequence
from pathlib import Path

FLOAT32, FLOAT16, BFLOAT16 = "float32", "mixed_float16", "mixed_bfloat16"
"""Dtype policies of Keras; weights are float32 in each."""
CPU_FLAGS = {"amx_bf16", "avx512_bf16"}
"""What Linux calls a processor's instructions for bfloat16 that oneDNN makes use of."""


def precision(capabilities: Sequence[tuple[int, int]]) -> str:
    """Return the precision for GPUs of these compute capabilities.

    Float16 needs its loss scaled, which Keras does; but of several devices it watches the first alone for overflows.
    """
    if capabilities and min(capabilities) >= (8, 0):
        return BFLOAT16
    if len(capabilities) == 1 and capabilities[0] >= (7, 0):
        return FLOAT16
    return FLOAT32


def precision_of_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return bfloat16 if oneDNN may multiply in it (see `ml.environment`), and this processor can."""
    if os.environ.get("TF_SET_ONEDNN_FPMATH_MODE") != "BF16" or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return FLOAT32
    return BFLOAT16 if cpuinfo.exists() and CPU_FLAGS & set(cpuinfo.read_text().split()) else FLOAT32
