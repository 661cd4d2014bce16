"""What may lie in the registry where a champion should be, and what becomes of it."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from ml.errors import LostError, ParameterError
from ml.results import DagRun
from ml.tracking import CHAMPION, RegisteredVersion, Tracker

NAME = "fox-classifier"
TAGS = {"dag_run": "r", "dataset": "d", "padding": "null", "complexity": "1.5"}
MLMODEL = """\
artifact_path: model
flavors:
  keras: {{data: data, keras_backend: tensorflow, keras_version: {version}, save_exported_model: true}}
  python_function: {{loader_module: {loader}, data: data, code: code}}
"""


def network(bias: float = 0.0) -> keras.Model:
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    head = keras.layers.Dense(
        1, activation="sigmoid", kernel_initializer="ones", bias_initializer=keras.initializers.Constant(bias)
    )
    return keras.Model(image, head(x))


def said(model: keras.Model) -> float:
    return float(model.predict_on_batch(np.full((1, 8, 8, 3), 100, np.uint8))[0, 0])


@pytest.fixture
def registered(tracker: Tracker) -> RegisteredVersion:
    parent = tracker.open_run("fox", DagRun("retrain_fox", "1"), "digest", {})
    with tracker.stage("fox", parent, "promote", "key") as stage:
        made = stage.register(network(), NAME, TAGS, "words")
    tracker.set_alias(made, CHAMPION)
    return made


def file_of(tracker: Tracker, registered: RegisteredVersion) -> Path:
    folder = tracker.client.get_model_version_download_uri(registered.name, registered.version)
    if folder.startswith("models:/"):
        folder = tracker.client.get_logged_model(folder.removeprefix("models:/")).artifact_location
    return Path(folder.removeprefix("file://"), "data", "model.keras")


def test_what_is_registered_is_loaded_again_and_carries_its_checksum(
    tracker: Tracker, registered: RegisteredVersion
) -> None:
    found = tracker.champion(NAME)
    assert found == registered
    assert len(found.tags["sha256"]) == 64
    assert said(tracker.load_model(found)) == said(network())
    served = mlflow.pyfunc.load_model(found.uri)  # what others use still works
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, 8, 8, 3)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def replace(file: Path) -> None:
    network(bias=3.0).save(file)


def pickle(file: Path) -> None:
    file.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "saved_model.pb").write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, replace, pickle, folder, Path.unlink])
def test_a_network_that_is_not_what_was_registered_is_refused_with_what_to_do(
    tracker: Tracker, registered: RegisteredVersion, damage: Callable[[Path], None]
) -> None:
    damage(file_of(tracker, registered))
    with pytest.raises(LostError, match=rf"Version 1 of {NAME}.*model\.keras.*menagerie champion {NAME} VERSION"):
        tracker.load_model(registered)


@pytest.mark.parametrize("damage", [cut, pickle, folder, Path.unlink])
def test_without_a_checksum_what_is_no_network_is_refused_too(
    tracker: Tracker, registered: RegisteredVersion, damage: Callable[[Path], None]
) -> None:
    tracker.client.delete_model_version_tag(NAME, "1", "sha256")
    damage(file_of(tracker, registered))
    champion = tracker.champion(NAME)
    assert champion
    with pytest.raises(LostError, match="can't be used"):
        tracker.load_model(champion)


def test_a_version_without_checksum_is_loaded_with_a_warning_and_can_be_given_one(
    tracker: Tracker, registered: RegisteredVersion, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.client.delete_model_version_tag(NAME, "1", "sha256")
    champion = tracker.champion(NAME)
    assert champion
    tracker.load_model(champion)
    assert "has no tag sha256" in caplog.text
    tracker.choose_champion(NAME, "1")
    assert tracker.champion(NAME) == registered


def poisoned(file: Path) -> None:
    """Put a Lambda layer, which would run its code when it is loaded, into the network."""
    evil = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: os.system("touch pwned") or x)])
    evil.save(file)


def test_code_in_a_keras_file_is_not_run(tracker: Tracker, registered: RegisteredVersion, tmp_path: Path) -> None:
    tracker.client.delete_model_version_tag(NAME, "1", "sha256")
    poisoned(file_of(tracker, registered))
    (tmp_path / "pwned").unlink()  # it ran when it was made
    champion = tracker.champion(NAME)
    assert champion
    with pytest.raises(LostError, match="safe mode"):
        tracker.load_model(champion)
    assert not (tmp_path / "pwned").exists()


class Dropper(tf.saved_model.experimental.TrackableResource):
    """A resource of a SavedModel that writes a file when it is made, which is when TensorFlow loads the model."""

    def __init__(self, target: Path) -> None:
        super().__init__()
        self.target = str(target)

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

    def _initialize(self) -> None:
        tf.io.write_file(self.target, "pwned")


def attack(tracker: Tracker, folder: Path, loader: str = "mlflow.keras") -> RegisteredVersion:
    """Register a SavedModel, and a module beside it, that write a file; MLmodel asks for either to be used."""
    (folder / "data").mkdir(parents=True)
    (folder / "code").mkdir()
    (folder / "data" / "keras_module.txt").write_text("keras")
    (folder / "MLmodel").write_text(MLMODEL.format(version=keras.__version__, loader=loader))
    pwned = folder.parent / "pwned"
    (folder / "code" / "evil_loader.py").write_text(
        f"from pathlib import Path\nPath({str(pwned)!r}).touch()\nclass Evil:\n    def predict(self, x): pass\n"
        "def _load_pyfunc(path): return Evil()\n"
    )
    model = tf.Module()
    model.dropper = Dropper(pwned)
    tf.saved_model.save(model, str(folder / "data" / "model"))
    pwned.unlink(missing_ok=True)
    run = tracker.open_run("fox", DagRun("by_hand", "1"), "digest", {})
    tracker.client.log_artifacts(run, str(folder), "model")
    tracker.client.create_registered_model(NAME)
    source = f"{tracker.client.get_run(run).info.artifact_uri}/model"
    made = tracker.client.create_model_version(NAME, source, run, tags=TAGS)
    tracker.client.set_registered_model_alias(NAME, CHAMPION, made.version)
    champion = tracker.champion(NAME)
    assert champion
    return champion


@pytest.mark.parametrize(
    ("loader", "load"), [("mlflow.keras", mlflow.keras.load_model), ("evil_loader", mlflow.pyfunc.load_model)]
)
def test_neither_a_saved_model_nor_a_loader_in_the_registry_is_run(
    tracker: Tracker, tmp_path: Path, loader: str, load: Callable[[str], object]
) -> None:
    champion = attack(tracker, tmp_path / "made", loader)
    with pytest.raises(LostError, match=r"expected the file data/model\.keras.*Received: data/keras_module\.txt"):
        tracker.load_model(champion)
    assert not (tmp_path / "pwned").exists()
    load(champion.uri)
    assert (tmp_path / "pwned").exists(), "the attack is real: MLflow's own way runs it"


def test_scoring_runs_nothing_of_the_registry(tracker: Tracker, tmp_path: Path) -> None:
    attack(tracker, tmp_path / "made", "evil_loader")
    photos = tmp_path / "few"
    photos.mkdir()
    keras.utils.array_to_img(np.zeros((8, 8, 3))).save(photos / "a.jpg")
    (tmp_path / "animals.toml").write_text('[fox]\npositives = ["fox/*"]\nnegatives = ["*/*"]\n')
    environment = {
        "MENAGERIE_HOME": str(tmp_path / "var"),
        "MENAGERIE_ANIMALS": str(tmp_path / "animals.toml"),
        "MLFLOW_TRACKING_URI": tracker.uri,
    }
    command = [sys.executable, "-m", "ml.cli", "score", str(photos)]
    ended = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ended.returncode == 1, ended.stderr
    assert f"Version 1 of {NAME} can't be used" in ended.stderr
    assert not (tmp_path / "pwned").exists()


def test_an_alias_given_to_a_version_made_by_hand_is_told_with_what_to_do(tracker: Tracker, tmp_path: Path) -> None:
    champion = attack(tracker, tmp_path / "made")
    for tag in ("padding", "complexity"):
        tracker.client.delete_model_version_tag(NAME, champion.version, tag)
    with pytest.raises(LostError, match=rf"tags padding, complexity are missing.*menagerie champion {NAME} none"):
        tracker.champion(NAME)
    assert tracker.champions(["fox", "wolf"]) == {}
    assert tracker.champion_number(NAME) == "1"


def test_a_version_is_chosen_by_its_number_or_none_is(tracker: Tracker, registered: RegisteredVersion) -> None:
    assert tracker.choose_champion(NAME, "none") is None
    assert tracker.champion(NAME) is None
    assert tracker.choose_champion(NAME, "1") == registered
    with pytest.raises(ParameterError, match=r"a version of fox-classifier: 1\. Received: 7"):
        tracker.choose_champion(NAME, "7")
    cut(file_of(tracker, registered))
    with pytest.raises(LostError):
        tracker.choose_champion(NAME, "1")


def test_a_network_kept_with_a_run_is_compared_too(tracker: Tracker) -> None:
    parent = tracker.open_run("fox", DagRun("gan_fox", "1"), "digest", {})
    with tracker.stage("fox", parent, "gan", "key") as stage:
        stage.network("generator.keras", network())
    assert said(tracker.load_network(stage.id, "generator.keras")) == said(network())
    replace(Path(tracker.client.get_run(stage.id).info.artifact_uri.removeprefix("file://"), "generator.keras"))
    with pytest.raises(LostError, match=r"generator\.keras of MLflow run .* SHA-256"):
        tracker.load_network(stage.id, "generator.keras")


def test_a_network_that_unpacks_to_more_than_any_is_refused(
    tracker: Tracker, registered: RegisteredVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.client.delete_model_version_tag(NAME, "1", "sha256")
    file = file_of(tracker, registered)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({}) + " " * 3_000_000)
    monkeypatch.setattr("ml.tracking.networks.LARGEST", 2_000_000)
    champion = tracker.champion(NAME)
    assert champion
    with pytest.raises(LostError, match="unpack to at most 2,000,000 bytes"):
        tracker.load_model(champion)
