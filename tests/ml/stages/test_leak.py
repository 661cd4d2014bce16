"""With labels that mean nothing no model may be better than chance: anything else is a leak somewhere."""

import random
from pathlib import Path

import pytest
from world import make_settings

from ml.data.sample import draw_samples
from ml.params import RetrainParams, ValidateParams
from ml.results import DagRun, StageResult
from ml.stages import (
    augment,
    average,
    baseline,
    classes,
    compare,
    decide,
    finetune,
    floor,
    prepare,
    promote,
    search,
    transfer,
    tune,
    validate,
)


@pytest.mark.timeout(1800)  # all stages, with epochs enough to learn by heart
def test_shuffled_labels_give_chance_accuracy_and_no_champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    draw_samples(root, per_class=40, others=15)
    files = sorted(root.rglob("*.jpg"))
    contents = [file.read_bytes() for file in files]
    random.Random(0).shuffle(contents)
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)

    settings, params = make_settings(tmp_path / "home", root), ValidateParams(folds=3)
    validate.publish(
        validate.run("fox", validate.scan(params, settings), params, settings, DagRun("validate_images", "v")), settings
    )
    little = {"baseline_epochs": 8, "tune_trials": 2, "tune_epochs": 4, "class_epochs": 4, "finetune_epochs": 1}
    job = prepare.run("fox", RetrainParams.read(little), settings, DagRun("retrain_fox", "r"))
    tuned = tune.run(job, [search.run(job, name) for name in search.searches(job)])
    transferred = [transfer.run(job, f"EfficientNetLite{size}") for size in (0, 1)]
    tuned_too = finetune.run(job, transferred)
    averaged = average.run(job, [*transferred, tuned_too])
    assert averaged is not None
    judged = [floor.run(job), baseline.run(job), tuned, augment.run(job, tuned, 2), classes.run(job, tuned)]
    judged += [*transferred, tuned_too, averaged]
    # Of nine 95 % intervals one may miss chance by chance.
    assert sum(not low <= 0.5 <= high for low, high in map(_interval, judged)) <= 1, judged
    for result in judged:
        assert 0.35 <= result.metrics["cv_all_roc_auc"] <= 0.65, result
    for result in transferred:
        assert 0.35 <= result.metrics["unseen_auc"] <= 0.65, result
    compared = compare.run(job, judged)
    assert abs(compared.metrics["selected_accuracy"] - 0.5) < 0.12
    decided = promote.run(job, compared, decide.run(job, compared))
    assert decided.metrics["promoted"] == 0
    assert "no better than chance" in decided.summary
    assert job.tracker.champion(job.classifier_name) is None


def _interval(result: StageResult) -> tuple[float, float]:
    return result.metrics["cv_accuracy_low"], result.metrics["cv_accuracy_high"]
