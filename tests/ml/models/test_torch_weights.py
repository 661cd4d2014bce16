import pickle
from pathlib import Path

import numpy as np
import pytest

from ml.models.efficientnet_lite import weights_file
from ml.models.torch_weights import read_torch_weights


def test_weights_are_read_in_their_layout() -> None:
    """Channels of the stem that ImageNet never moved have kernels of zeros; a kernel read in another order has none."""
    weights = read_torch_weights(weights_file("EfficientNetLite0"))
    size = np.abs(weights["_conv_stem.weight"]).max(axis=(1, 2, 3))
    dead = weights["_bn0.running_var"] < 1e-6
    assert dead.any()
    assert size[dead].max() < 1e-3 < size[~dead].min()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1/0",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(pickle.UnpicklingError, match="eval"):
        read_torch_weights(file)
