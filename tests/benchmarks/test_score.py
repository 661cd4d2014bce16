"""What scoring costs beside the forward pass that it can't do without, and what another animal adds."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from world import make_settings

from ml.data import incoming
from ml.data.incoming import Canvas
from ml.models.backbones import BACKBONES, build_backbone
from ml.models.head import LinearHead, build_classifier
from ml.params import ScoreParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages import jury, score_images
from ml.tracking import CHAMPION, RegisteredVersion, Tracker

pytestmark = pytest.mark.benchmark
BACKBONE = BACKBONES[jury.YARDSTICK]
ROUNDS = 3


def champion(tracker: Tracker, animal: str, seed: int) -> RegisteredVersion:
    backbone, random = build_backbone(BACKBONE.name), np.random.default_rng(seed)
    kernel = random.normal(0, 0.01, (backbone.output.shape[-1], 2)).astype(np.float32)
    head = LinearHead(("it", "other"), np.array([True, False]), kernel, np.zeros(2, np.float32), 1.0)
    run_id = tracker.open_run(animal, DagRun("retrain", animal), "none", {})
    with tracker.stage(animal, run_id, "promote", "key") as stage:
        tags = {"padding": str(list(BACKBONE.padding)), "dataset": "none", "complexity": "1", "dag_run": "none"}
        made = stage.register(build_classifier(backbone, head, BACKBONE.canvas), f"{animal}-classifier", tags, "…")
    tracker.set_alias(made, CHAMPION)
    return made


def test_scoring_is_hardly_slower_than_the_bare_pass(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least 0.9 of its photos a second, decoding included; three animals at most 1.05 of one's time.

    The bare pass gets its photos decoded beforehand. 512 photos are taken.
    """
    monkeypatch.chdir(tmp_path)
    three = make_settings(tmp_path / "home", photos)
    (tmp_path / "one.toml").write_text('[tiger]\npositives = ["tiger/*"]\nnegatives = ["*/*"]\n')
    one = replace(three, home=tmp_path / "one", animals=tmp_path / "one.toml")
    tracker = Tracker(three.mlflow_uri)
    first, *_ = [champion(tracker, animal, seed) for seed, animal in enumerate(("tiger", "fox", "elephant"))]

    names = incoming.listing(photos, 512)
    arriving = incoming.arriving(photos, names, [Canvas(*BACKBONE.canvas, BACKBONE.padding)])
    images = np.stack([photo.images[0] for photo in arriving if photo.images])
    model = tracker.load_model(first)

    def bare() -> float:
        model.predict_on_batch(images[: jury.BATCH])
        started = time.perf_counter()
        for start in range(0, len(images), jury.BATCH):
            model.predict_on_batch(images[start : start + jury.BATCH])
        return len(images) / (time.perf_counter() - started)

    def scored(settings: Settings, number: int) -> float:
        params = ScoreParams(photos=str(photos), most_photos=len(names))
        result = score_images.run(params, settings, DagRun("score_images", f"{settings.home.name} {number}"))
        return result.metrics["photos_a_second"]

    # By turns, and the best of each: what else the machine does is in all of them.
    turns = [(bare(), scored(one, number), scored(three, number)) for number in range(ROUNDS)]
    alone, of_one, of_three = (max(speeds) for speeds in zip(*turns, strict=True))
    print(
        f"\n{len(images)} photos, photos a second: bare pass {alone:.1f}; one animal {of_one:.1f} "
        f"({of_one / alone:.2f}); three {of_three:.1f} ({of_three / alone:.2f}; {of_one / of_three:.3f} of one's time)"
    )
    assert of_three >= 0.9 * alone
    assert of_one / of_three <= 1.05
