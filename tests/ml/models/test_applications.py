import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from ml.data import sources
from ml.errors import MissingWeightsError
from ml.models.applications import APPLICATIONS, application
from ml.models.backbones import build_backbone
from ml.models.complexity import multiply_adds

WEIGHTS = Path(__file__).resolve().parents[4] / "shared/weights/mobilenet_2_5_224_tf_no_top.h5"
FAMILIES = {
    "EfficientNetV2": "efficientnet_v2",
    "VGG": "vgg16",
    "ResNet50V2": "resnet_v2",
    "ResNet50": "resnet",
    "MobileNetV2": "mobilenet_v2",
}


def preprocess(name: str, images: np.ndarray) -> np.ndarray:
    """What Keras's own function for the family makes of the images."""
    family = next((module for prefix, module in FAMILIES.items() if name.startswith(prefix)), "mobilenet")
    return getattr(keras.applications, family).preprocess_input(images.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("VGG16", [128, 256, 512, 512, 512]),
        ("VGG19", [128, 256, 512, 512, 512]),
        ("ResNet50", [64, 256, 512, 1024, 2048]),
        ("ResNet50V2", [64, 256, 512, 1024, 2048]),
        ("MobileNet", [64, 128, 256, 512, 1024]),
        ("MobileNet025", [16, 32, 64, 128, 256]),
        ("MobileNetV2", [96, 144, 192, 576, 1280]),
        ("EfficientNetV2B0", [32, 128, 192, 672, 1280]),
        ("EfficientNetV2S", [24, 192, 256, 960, 1280]),
    ],
)
def test_features_are_those_of_keras_and_loads_with_built_in_layers_alone(
    name: str, widths: list[int], tmp_path: Path
) -> None:
    network = application(name, pretrained=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    features = np.asarray(network(images))
    assert [x.shape[-1] for x in network.get_layer("features").input] == widths
    assert features.shape == (2, sum(widths))
    assert network.trainable_weights == []

    chosen = APPLICATIONS[name]
    own_scaling = {name: value for name, value in chosen.options.items() if name != "include_preprocessing"}
    plain = chosen.architecture(include_top=False, weights=None, **own_scaling)
    weights = network.get_weights()
    if chosen.scaling.order == "BGR":
        weights[0] = weights[0][:, :, ::-1]
    plain.set_weights(weights)
    last = np.mean(plain(preprocess(name, images)), axis=(1, 2))
    np.testing.assert_allclose(features[:, -widths[-1] :], last, rtol=1e-3, atol=1e-3 * np.abs(last).max())

    network.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(images), features)


@pytest.mark.parametrize(("name", "millions"), [("MobileNet", 568), ("EfficientNetV2B0", 720)])
def test_their_work_is_counted(name: str, millions: float) -> None:
    """In millions at 224 pixels (Howard 2017, table 8, less one for the classes; the 0.72 billion of Tan & Le)."""
    assert multiply_adds(application(name, pretrained=False), 224, 224) == pytest.approx(millions, rel=0.01)


PROGRAM = """
import sys
from pathlib import Path
import keras, numpy as np
from ml.errors import MissingWeightsError
from ml.models.applications import CAFFE, cache_folder
from ml.models.backbones import build_backbone

network = build_backbone("MobileNet025")
images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
keras_own = keras.applications.MobileNet(
    alpha=0.25, include_top=False, weights="imagenet", input_shape=(224, 224, 3), pooling="avg"
)
expected = keras_own(keras.applications.mobilenet.preprocess_input(images.astype(np.float32)))
np.testing.assert_allclose(np.asarray(network(images))[:, -256:], expected, atol=1e-4)
assert np.asarray(network(images[:, :64, :96])).shape == (2, 496)

whole = cache_folder() / "mobilenet_2_5_224_tf_no_top.h5"
half = whole.read_bytes()[:1_000_000]
for name, file in (
    ("MobileNet025", whole),
    ("VGG16", whole.with_name("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")),
):
    file.write_bytes(half)
    try:
        build_backbone(name)
    except MissingWeightsError as error:
        print(error)
"""


def test_the_real_weights_in_the_cache_are_used_and_half_a_file_is_refused(tmp_path: Path) -> None:
    """In a process of its own, since Keras reads KERAS_HOME when it is imported."""
    if not WEIGHTS.is_file():
        pytest.skip(f"no {WEIGHTS.name} in {WEIGHTS.parent}")
    (tmp_path / "models").mkdir()
    shutil.copy(WEIGHTS, tmp_path / "models")
    environment = os.environ | {"KERAS_HOME": str(tmp_path), "https_proxy": closed_proxy(), "no_proxy": ""}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    said = [line for line in ended.stdout.splitlines() if "can't be used" in line]
    assert len(said) == 2, ended.stdout
    assert WEIGHTS.name in said[0]
    assert "truncated" in said[0]
    assert "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5" in said[1]
    assert all("remove it" in line for line in said)


def closed_proxy() -> str:
    """A proxy that refuses every connection: no download can succeed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keras's cache folder, which is empty; return it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", closed_proxy())
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "models"


def test_missing_weights_say_at_once_which_file_goes_where(offline: Path) -> None:
    started = time.monotonic()
    with pytest.raises(MissingWeightsError) as caught:
        build_backbone("ResNet50V2")
    assert time.monotonic() - started < 5
    message = str(caught.value)
    assert "no resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5 in" in message
    assert str(offline) in message
    assert "Put the file into that folder, or allow the download" in message
    assert not list(offline.glob("*.h5"))


def test_a_server_that_is_silent_does_not_hang_a_run(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(MissingWeightsError, match="timed out"):
            build_backbone("MobileNet")


@pytest.mark.filterwarnings("ignore:.*input_shape.* is undefined")
def test_the_files_looked_for_are_those_of_keras(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras's own download, which can't happen here, names its URL when it fails."""
    monkeypatch.setattr("urllib.request._opener", None)
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(offline.parent))
    for name, chosen in APPLICATIONS.items():
        with pytest.raises(Exception, match="URL fetch failure") as caught:
            chosen.architecture(include_top=False, weights="imagenet", **chosen.options)
        assert f"/keras-applications/{chosen.weights}:" in str(caught.value), name
