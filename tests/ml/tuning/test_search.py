import json
import multiprocessing
import random
import time
from pathlib import Path

import numpy as np
import pytest
import toy_search
from toy_search import BAD, FOLDS, GOOD

from ml.tuning import STRATEGIES, Fit, Fits, Trial, inner_folds, ranked, search

TESTS = Path(toy_search.__file__).parent


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def kept(folder: Path) -> set[str]:
    """Return the keys of the fits that were finished."""
    keys = set()
    for file in folder.glob("[!.]*.npz"):
        with np.load(file) as stored:
            keys.add(json.loads(str(stored["said"]))["key"])
    return keys


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_killed_at_any_time_goes_on_as_if_it_had_not_been(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["toy_search"])
    plan, outers = toy_search.plan(strategy, 5), (None, 0, 1)
    folder, log, when = tmp_path / "fits", tmp_path / "log", random.Random(strategy)
    killed = 0
    while True:
        finished, begun = kept(folder), len(lines(log))
        child = server.Process(target=toy_search.run, args=(folder, plan, log, outers))
        child.start()
        while len(lines(log)) == begun and child.is_alive():
            time.sleep(0.002)
        if killed < 4:
            child.join(when.uniform(0, 0.12))
            child.kill()
        child.join()
        assert not finished & set(lines(log)[begun:])
        if child.exitcode == 0:
            break
        assert child.exitcode == -9
        killed += 1
    assert killed

    whole = toy_search.run(tmp_path / "others", plan, outers=outers)
    begun = len(lines(log))
    assert toy_search.shown(toy_search.run(folder, plan, log, outers)) == toy_search.shown(whole)
    assert len(lines(log)) == begun
    assert kept(folder) == kept(tmp_path / "others")


def test_no_search_sees_its_outer_fold(tmp_path: Path) -> None:
    def spoilt(configuration: dict, epochs: int, left_out: frozenset[int]) -> Fit:
        """Give bad configurations the best of answers on fold 0."""
        given = toy_search.fit(configuration, epochs, left_out)
        answered = ~np.isnan(given.probabilities)
        given.probabilities[(toy_search.PHOTOS == 0) & answered] = 99 * (1 - toy_search.quality(configuration))
        return given

    def trials(fits: Fits) -> dict[int | None, list[Trial]]:
        plan, space = toy_search.plan("random", 3), toy_search.space()
        return {
            outer: search(plan, space, outer, FOLDS, [GOOD, BAD], fits, toy_search.score) for outer in (None, *FOLDS)
        }

    honest = trials(Fits(tmp_path / "a", toy_search.fit))
    fooled = trials(Fits(tmp_path / "b", spoilt))
    assert toy_search.shown({0: honest[0]}) == toy_search.shown({0: fooled[0]})
    assert ranked(honest[1])[0].configuration != ranked(fooled[1])[0].configuration
    # `score` is not a number on photos trained on, so every fit was judged on folds that it left out.
    assert np.isfinite([trial.score for tried in honest.values() for trial in tried]).all()


def test_fits_are_shared_between_searches_that_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["toy_search"])
    plan, log, outers = toy_search.plan("random", 3), tmp_path / "log", (None, *FOLDS)
    children = [
        server.Process(target=toy_search.run, args=(tmp_path / "fits", plan, log, (outer,))) for outer in outers
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    done = lines(log)
    trials = toy_search.run(tmp_path / "fits", plan, log)
    # A fit without two folds serves the searches of both.
    assert len(done) == len(set(done)) < sum(len(trial.scores) for tried in trials.values() for trial in tried)
    assert lines(log) == done
    assert toy_search.shown(trials) == toy_search.shown(toy_search.run(tmp_path / "others", plan))
    assert len({json.dumps([one.configuration for one in tried]) for tried in trials.values()}) == 1


def test_a_hopeless_trial_stops_after_two_folds(tmp_path: Path) -> None:
    start = [GOOD, GOOD | {"blocks": 3}, BAD, GOOD | {"blocks": 3, "rate": 1.2e-3}]
    plan, fits = toy_search.plan("random", 4), Fits(tmp_path, toy_search.fit)
    tried = search(plan, toy_search.space(), None, FOLDS, start, fits, toy_search.score)
    assert [trial.stopped for trial in tried] == [False, False, True, False]
    assert [len(trial.scores) for trial in tried] == [4, 4, 2, 4]
    assert ranked(tried)[-1] is tried[2]


def test_the_first_two_folds_of_all_searches_are_few_pairs() -> None:
    firsts = {frozenset({outer, inner}) for outer in range(5) for inner in inner_folds(range(5), outer)[:2]}
    assert len(firsts) == 5
    assert all(sorted([*inner_folds(range(5), outer), outer]) == list(range(5)) for outer in range(5))


def test_minutes_stop_the_search_between_trials(tmp_path: Path) -> None:
    trials = toy_search.run(tmp_path, toy_search.plan(minutes=0))
    assert {len(tried) for tried in trials.values()} == {1}


def test_it_tells_which_trial_it_is_at(tmp_path: Path, told: list[str]) -> None:
    fits = Fits(tmp_path, toy_search.fit)
    search(toy_search.plan("random", 2), toy_search.space(), None, FOLDS, [GOOD], fits, toy_search.score)
    assert told == ["trial 1 of 2", "trial 2 of 2"]


def test_an_error_ends_the_search_as_it_is(tmp_path: Path) -> None:
    def full(*_: object) -> Fit:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        search(toy_search.plan(), toy_search.space(), None, FOLDS, [GOOD], Fits(tmp_path, full), toy_search.score)


def test_a_stopped_trial_or_a_short_one_is_never_the_best() -> None:
    def trial(number: int, epochs: int, score: float, stopped: bool = False) -> Trial:
        return Trial(None, number, {}, epochs, (score, score), stopped, 0.0, {})

    given = [trial(0, 9, 0.6), trial(1, 9, 0.9, stopped=True), trial(2, 3, 0.95), trial(3, 9, 0.7)]
    assert [one.number for one in ranked(given)] == [3, 0, 1, 2]
