"""Several pretrained networks: one without weights, and the average of those that have them."""

import socket
from pathlib import Path

import keras
import numpy as np
import pytest
from world import World

from ml.errors import MissingWeightsError
from ml.models.applications import application
from ml.models.average import average_probabilities
from ml.models.backbones import BACKBONES, Backbone
from ml.stages import average, compare, final, report, transfer
from ml.stages.evaluation import OUT_OF_FOLD

LITE, MOBILE = "EfficientNetLite0", "MobileNet025"


def random_weights(name: str) -> keras.Model:
    """The same every time: what stands for a trained one is as reproducible."""
    keras.utils.set_random_seed(0)
    return application(name, pretrained=False)


@pytest.fixture
def mobile(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(BACKBONES, MOBILE, Backbone(MOBILE, random_weights))
    return MOBILE


def test_a_backbone_without_weights_fails_alone(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", closed)
    monkeypatch.delenv("no_proxy", raising=False)
    job = world.job("no weights")
    with pytest.raises(MissingWeightsError, match=r"vgg16_weights\S+ in .*Put the file"):
        transfer.run(job, "VGG16")
    other = transfer.run(job, LITE)
    assert average.run(job, [other]) is None
    assert [candidate.name for candidate in compare.run(job, [other]).candidates] == [f"transfer {LITE}"]
    report.run(job, [other])
    assert "transfer" not in job.tracker.client.get_run(job.parent).data.tags["menagerie.reason"]


def test_the_average_is_a_candidate_and_one_network(world: World, mobile: str, tmp_path: Path) -> None:
    job = world.job("average")
    members = [transfer.run(job, LITE), transfer.run(job, mobile)]
    averaged = average.run(job, members)
    assert averaged is not None

    tables = [job.tracker.read_table(result.run_id, OUT_OF_FOLD) for result in (*members, averaged)]
    expected = average_probabilities([table.probability for table in tables[:2]], [0.5**0.5] * 2)
    np.testing.assert_allclose(tables[2].probability, expected, atol=1e-6)
    (candidate,) = averaged.candidates
    assert candidate.complexity == sum(result.candidates[0].complexity for result in members)
    assert averaged.metrics.keys() == members[0].metrics.keys()
    assert average.run(world.job("average again"), members).reused  # type: ignore[union-attr]

    compared = compare.run(job, [*members, averaged])
    assert set(job.tracker.read_table(compared.run_id, "candidates").candidate) == {
        "average",
        f"transfer {LITE}",
        f"transfer {MOBILE}",
    }

    network = final.final_model(job, candidate)
    assert network.input_shape == (None, *BACKBONES[LITE].canvas, 3)
    indices = np.arange(4)
    padding = candidate.settings["padding"]
    apart = [final.predict(final.final_model(job, m.candidates[0]), job.dataset, indices, padding) for m in members]
    together = final.predict(network, job.dataset, indices, padding)
    np.testing.assert_allclose(together, average_probabilities(apart, [0.5**0.5] * 2), atol=1e-3)
    network.save(tmp_path / "average.keras")
    loaded = keras.models.load_model(tmp_path / "average.keras", safe_mode=True)
    np.testing.assert_allclose(final.predict(loaded, job.dataset, indices, padding), together, atol=1e-4)
