"""The comparison of regularisations: a row a combination, and each switched as it says."""

import pytest
from world import World

from ml.models import hypermodel
from ml.results import Candidate, StageResult
from ml.stages import regularise

TINY = hypermodel.START[0] | {"filters": 16, "blocks": 1, "colours": 0, "dense": 0, "dropout": 0.5, "l2": 0.0}


def test_every_combination_is_judged_on_every_fold(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regularise, "STANDARD", {"dropout": 0.3})
    job = world.job("regularise")
    settings = {"by_fold": {str(fold): TINY for fold in range(5)}, "config": TINY, "epochs": 1}
    settings |= {"negatives": "balanced", "seed": 0, "side": hypermodel.SIDE}
    tuned = StageResult("tune", job.animal, job.digest, "", {}, (Candidate("tune", 1.0, 0.5, settings),))
    result = regularise.run(job, tuned)
    assert not result.candidates
    table = job.tracker.read_table(result.run_id, "regularisation")
    assert list(table.name) == ["none", "dropout"]
    assert list(table.dropout) == [False, True]
    assert (table.cv_accuracy_low <= table.cv_accuracy_mean).all()
    assert (table.cv_accuracy_mean <= table.cv_accuracy_high).all()
    assert (table.overfits == (table.train_accuracy_mean > table.cv_accuracy_high)).all()
    assert ((table.train_accuracy_mean - table.cv_accuracy_mean - table.overfit_gap).abs() < 1e-9).all()
    assert result.metrics["overfitting"] == table.overfits.sum()
    assert "regularisation" in job.tracker.pictures(result.run_id)
    assert regularise.run(world.job("again"), tuned).reused


def test_a_regularisation_has_the_tuned_strength_or_the_standard_one() -> None:
    on, off = dict.fromkeys(regularise.STANDARD, True), dict.fromkeys(regularise.STANDARD, False)
    assert regularise.with_only(on, TINY) == TINY | {"dropout": 0.5, "l2": 1e-3, "batch_norm": True}
    assert regularise.with_only(off, TINY) == TINY | {"dropout": 0.0, "l2": 0.0, "batch_norm": False}
    assert regularise._name(on) == "dropout + batch norm + L2"
    assert regularise.with_only(off | {"l2": True}, TINY | {"l2": 1e-5})["l2"] == 1e-5
