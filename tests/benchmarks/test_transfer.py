"""What transfer costs beside the one pass of the backbone that it can't do without."""

import shutil
import time

import keras
import pytest

from ml.models.backbones import BACKBONES, build_backbone
from ml.params import RetrainParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages import prepare, transfer
from ml.stages.features import BATCH

pytestmark = pytest.mark.benchmark
BACKBONE = "EfficientNetLite0"


def test_transfer_takes_little_more_than_one_forward_pass(accepted: Settings) -> None:
    """At most 1.5 times the pass; a second run on the same photos takes no pass at all."""

    def job(name: str, **chosen: object):
        return prepare.run("fox", RetrainParams.read(chosen), accepted, DagRun("retrain_fox", name))

    first = job("first")
    rows, padding = first.dataset.rows, BACKBONES[BACKBONE].padding
    height, width = BACKBONES[BACKBONE].canvas
    backbone = build_backbone(BACKBONE)
    backbone.predict_on_batch(first.dataset.images(rows.index[:BATCH], height, width, padding))
    started = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        images = first.dataset.images(rows.index[start : start + BATCH], height, width, padding)
        keras.ops.convert_to_numpy(backbone.predict_on_batch(images))
    one_pass = time.perf_counter() - started

    started = time.perf_counter()
    transfer.run(first, BACKBONE)
    stage = time.perf_counter() - started

    started = time.perf_counter()
    transfer.run(job("second", seed=1), BACKBONE)
    second = time.perf_counter() - started
    print(
        f"\n{len(rows)} photos: one pass {one_pass:.1f} s; the stage {stage:.1f} s, {stage / one_pass:.2f} times; "
        f"again with another seed {second:.1f} s, {second / one_pass:.2f} times"
    )
    assert stage <= 1.5 * one_pass
    assert second <= 0.5 * one_pass
    shutil.rmtree(accepted.home)
