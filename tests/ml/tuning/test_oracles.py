import pytest
import toy_search
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_search import BAD, GOOD

from ml.tuning.oracles import STRATEGIES, make_oracle


def ask(strategy: str, trials: int = 8, start: tuple = (), seed: int = 0, folder: str = "") -> list[dict]:
    """Return the configurations that an oracle gives out, told the quality of each."""
    oracle = make_oracle(strategy, toy_search.space(), start, trials=trials, epochs=9, seed=seed)
    oracle._set_project_dir(folder, "toy")
    oracle.verbose, oracle.max_trials, given = 0, trials, []
    while (trial := oracle.create_trial("tuner")).status != "STOPPED":
        given.append({name: value for name, value in trial.hyperparameters.values.items() if "/" not in name})
        oracle.update_trial(trial.trial_id, {"score": toy_search.quality(given[-1])})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return given


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_begins_with_what_it_is_given(strategy: str, tmp_path) -> None:
    given = ask(strategy, 3, (GOOD, BAD), folder=str(tmp_path))
    assert given[:2] == [GOOD, BAD]
    assert len({str(one) for one in given}) == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_seed_gives_the_same_configurations_again_and_0_is_a_seed(strategy: str, tmp_path) -> None:
    first, again, other = (
        ask(strategy, 3, seed=seed, folder=str(tmp_path / str(n))) for n, seed in enumerate((0, 0, 1))
    )
    assert first == again != other


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_grid_changes_one_value_of_the_best_so_far(seed: int, tmp_path_factory) -> None:
    given = ask("random+grid", 10, seed=seed, folder=str(tmp_path_factory.mktemp("grid")))
    for number in range(5, 8):  # with three hyper-parameters, the best has three neighbours at least
        best = max(given[:number], key=toy_search.quality)
        changed = [name for name in best if given[number][name] != best[name]]
        assert len(changed) == 1
    assert len({str(one) for one in given}) == 10
