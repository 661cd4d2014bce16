"""What a search costs beside keras-tuner's own, which builds every network anew and fits every fold of every trial."""

import time
from pathlib import Path

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.base_tuner import BaseTuner

from ml.models import hypermodel
from ml.params import RetrainParams
from ml.results import DagRun
from ml.settings import Settings
from ml.stages import prepare
from ml.stages.networks import Networks
from ml.stages.scratch import Bench
from ml.stages.search import Judging
from ml.tuning import Fits, Plan, search

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
TRIALS, EPOCHS, SEED = 12, 5, 0


def test_a_search_takes_half_of_what_random_search_does(tmp_path: Path, accepted: Settings) -> None:
    """The same configurations, epochs and folds, in process CPU time."""
    job = prepare.run("fox", RetrainParams(), accepted, DagRun("retrain_fox", "bench"))
    bench, folds = Bench.of(job, hypermodel.SIDE, "balanced", SEED), range(5)
    judging = Judging(bench, Networks(bench))
    space = keras_tuner.HyperParameters()
    hypermodel.declare(space)
    asked: list[dict] = []

    class Plain(BaseTuner):
        def run_trial(self, trial: keras_tuner.engine.trial.Trial) -> float:
            configuration = trial.hyperparameters.values
            asked.append(dict(configuration))
            scores = []
            for fold in folds:
                places, size = bench.trained_on(fold), configuration["batch_size"]
                network = hypermodel.build(configuration, SEED, epochs=EPOCHS, steps=-(-len(places) // size))
                network.fit(bench.images[places], bench.labels[places], size, EPOCHS, verbose=0)
                probabilities = np.full(len(bench.labels), np.nan)
                held_out = np.flatnonzero(bench.folds == fold)
                probabilities[held_out] = bench.predict(network, held_out)
                scores.append(judging.score(fold, probabilities))
            return float(np.mean(scores))

    started = time.process_time()
    objective = keras_tuner.Objective("score", "max")
    oracle = keras_tuner.oracles.RandomSearchOracle(objective, TRIALS, SEED + 1, space.copy())
    plain = Plain(oracle, directory=tmp_path, project_name="plain")
    oracle.verbose = 0
    plain.search()
    random_search = time.process_time() - started

    started = time.process_time()
    plan = Plan("random", TRIALS, 600, EPOCHS, SEED)
    trials = search(plan, space, None, folds, [], Fits(tmp_path / "fits", judging.fit), judging.score)
    ours = time.process_time() - started

    assert [trial.configuration for trial in trials] == asked
    best = [max(scores) for scores in ([t.score for t in trials if not t.stopped], [oracle.get_best_trials()[0].score])]
    print(
        f"\n{TRIALS} trials of {EPOCHS} epochs on {len(bench.trained_on(0))} photos, CPU: RandomSearch "
        f"{random_search:.0f} s (best AUC {best[1]:.3f}), ours {ours:.0f} s ({best[0]:.3f}), {ours / random_search:.2f}"
    )
    assert ours <= 0.5 * random_search
