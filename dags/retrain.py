"""Retrains one animal's classifier: `retrain_<animal>` for each table of animals.toml."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from airflow.sdk import AssetOrTimeSchedule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from defaults import TAG, TASKS, at, dag_run_of, dataset_asset, form, model_asset

from ml import animals, settings
from ml.errors import MissingWeightsError
from ml.params import RetrainParams

DOC = """
### Retrain the classifier of {animal}

Runs when the accepted photos of {animal} change, and on the schedule `{schedule}`. It looks at the photos (t-SNE),
judges a small network, searches for a better one, regularises and augments it, judges pretrained networks, fine-tunes
the best, and averages them, all in cross-validation. It chooses the simplest that is as good as the best, and lets it
meet the champion photo by photo. **A worse model never takes the champion's place**; a tie keeps it.

How much of this is tried is said by the *preset*: quick, standard or thorough.

Everything is kept in the MLflow experiment `{animal}`: numbers, curves, pictures, and, with the run of this DAG run,
`report.html`.
Work that an earlier run did for the same photos and settings is not done again, unless *Compute again* is ticked: if
nothing has changed at all, every task is skipped.
"""


def retrain(animal: str, schedule: str, preset: str) -> None:
    """Define the DAG `retrain_<animal>`."""

    @dag(
        dag_id=f"retrain_{animal}",
        schedule=AssetOrTimeSchedule(timetable=at(schedule), assets=[dataset_asset(animal)]),
        catchup=False,
        max_active_runs=1,
        params=form(RetrainParams, preset=preset),
        default_args=TASKS,
        tags=[TAG, "training", animal],
        doc_md=DOC.format(animal=animal, schedule=schedule),
    )
    def retrain_animal() -> None:
        @task
        def prepare() -> dict[str, Any]:
            """Open the MLflow run on the accepted dataset."""
            from ml.stages import prepare

            context = get_current_context()
            params = RetrainParams.read(context["params"])
            job = prepare.run(animal, params, settings.read(), dag_run_of(context))
            if said := prepare.unchanged(job):
                raise AirflowSkipException(said)
            return job.to_dict()

        @task
        @_skip_without_weights()
        def explore(job: dict[str, Any]) -> dict[str, Any]:
            """Draw t-SNE maps of pixels and of features."""
            from ml.stages import explore

            return explore.run(_job(job)).to_dict()

        @task
        def floor(job: dict[str, Any]) -> dict[str, Any]:
            """Judge what colours alone tell."""
            from ml.stages import floor

            return floor.run(_job(job)).to_dict()

        @task
        def baseline(job: dict[str, Any]) -> dict[str, Any]:
            """Judge the small network."""
            from ml.stages import baseline

            return baseline.run(_job(job)).to_dict()

        @task
        def chosen_searches(job: dict[str, Any]) -> list[str]:
            """Name the searches for a better network from scratch."""
            if job["params"]["tune_mode"] == "off":
                raise AirflowSkipException("the search is off: see the param tune_mode, and the preset")
            from ml.stages import search

            return search.searches(_job(job))

        @task(map_index_template="{{ search }}")
        def search(search: str, job: dict[str, Any]) -> dict[str, Any]:
            """Search for a better network from scratch, on all folds or without one."""
            from ml.stages import search as searching

            get_current_context()["search"] = search  # type: ignore[typeddict-unknown-key]
            return searching.run(_job(job), search).to_dict()

        @task
        def tune(job: dict[str, Any], searches: Sequence[Any]) -> dict[str, Any]:
            """Judge what the searches found."""
            from ml.stages import tune

            return tune.run(_job(job), _results(searches)).to_dict()

        @task
        def regularise(job: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
            """Compare regularisations of the network found."""
            if job["params"]["regularise"] == "no":
                raise AirflowSkipException("not wanted: see the param regularise, and the preset")
            from ml.results import StageResult
            from ml.stages import regularise

            return regularise.run(_job(job), StageResult.from_dict(tuned)).to_dict()

        @task
        def chosen_copies(job: dict[str, Any], tuned: dict[str, Any]) -> list[int]:
            """Name how often an epoch shows a photo, each a candidate."""
            # The longest first: so the cores are busy to the end.
            return sorted(set(job["params"]["augment_copies"]), reverse=True)

        @task(map_index_template="x{{ copies }}")
        def augment(copies: int, job: dict[str, Any], tuned: dict[str, Any]) -> dict[str, Any]:
            """Judge the network found on augmented photos."""
            from ml.results import StageResult
            from ml.stages import augment

            get_current_context()["copies"] = copies  # type: ignore[typeddict-unknown-key]
            return augment.run(_job(job), StageResult.from_dict(tuned), copies).to_dict()

        @task(trigger_rule="none_failed_min_one_success")
        def chosen_backbones(job: dict[str, Any]) -> list[str]:
            """Name the pretrained networks to judge."""
            return list(dict.fromkeys(job["params"]["backbones"]))

        @task(map_index_template="{{ backbone }}")
        @_skip_without_weights()
        def transfer(backbone: str, job: dict[str, Any]) -> dict[str, Any]:
            """Judge a head on a pretrained network."""
            from ml.stages import transfer

            get_current_context()["backbone"] = backbone  # type: ignore[typeddict-unknown-key]
            return transfer.run(_job(job), backbone).to_dict()

        @task(trigger_rule="none_failed_min_one_success")
        def finetune(job: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
            """Train the top of the best pretrained network too."""
            if not job["params"]["finetune_epochs"]:
                raise AirflowSkipException("not wanted: see the param finetune_epochs, and the preset")
            from ml.stages import finetune

            return finetune.run(_job(job), _results(results)).to_dict()

        @task(trigger_rule="none_failed_min_one_success")
        def average(job: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
            """Judge the average of the pretrained networks, where there are several."""
            if len(judged := _results(results)) < 2:
                raise AirflowSkipException("an average takes two pretrained networks or more")
            from ml.stages import average

            return average.run(_job(job), judged).to_dict()

        @task(trigger_rule="none_failed_min_one_success")
        def compare(job: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
            """Choose a candidate."""
            from ml.stages import compare

            return compare.run(_job(job), _results(results)).to_dict()

        @task(trigger_rule="none_failed_min_one_success")
        def explain(job: dict[str, Any], comparison: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
            """Show what the winner looks at."""
            from ml.results import StageResult
            from ml.stages import explain

            return explain.run(_job(job), StageResult.from_dict(comparison), _results(results)).to_dict()

        @task
        def promote(job: dict[str, Any], comparison: dict[str, Any]) -> dict[str, Any]:
            """Let it meet the champion."""
            from ml.results import StageResult
            from ml.stages import promote

            return promote.run(_job(job), StageResult.from_dict(comparison)).to_dict()

        @task
        def cross(job: dict[str, Any], decision: dict[str, Any]) -> dict[str, Any]:
            """Let each animal's champion judge the others' photos."""
            from ml.stages import cross

            return cross.run(_job(job)).to_dict()

        @task(outlets=[model_asset(animal)])
        def announce(decision: dict[str, Any]) -> None:
            """Announce a new champion."""
            if not decision["metrics"]["promoted"]:
                raise AirflowSkipException(decision["summary"])

        @task
        def report(job: dict[str, Any] | None, results: Sequence[Any]) -> None:
            """Write the report and close the MLflow run, however the stages ended."""
            from ml.stages import report

            if job is None:
                raise AirflowSkipException("there is no MLflow run to report on: see the log of prepare")
            report.run(_job(job), _results(results))

        job = prepare()
        explored, lowest, small = explore(job), floor(job), baseline(job)
        tuned = tune(job, search.partial(job=job).expand(search=chosen_searches(job)))
        regularised = regularise(job, tuned)
        augmented = augment.partial(job=job, tuned=tuned).expand(copies=chosen_copies(job, tuned))
        names = chosen_backbones(job)
        transferred = transfer.partial(job=job).expand(backbone=names)
        # The map's features are those of the first backbone: what comes second finds them in the cache.
        explored >> names
        finetuned = finetune(job, [transferred])
        averaged = average(job, [transferred, finetuned])
        proposed = [small, tuned, augmented, transferred, finetuned, averaged]
        compared = compare(job, [lowest, *proposed])
        seen = explain(job, compared, proposed)
        decided = promote(job, compared)
        announce(decided)
        crossed = cross(job, decided)
        # As a teardown it runs whatever happened, and hides no failure: it has no say in the DAG run's state.
        told = [explored, lowest, small, tuned, regularised, augmented, transferred, finetuned, averaged]
        [regularised, seen, crossed] >> report(job, [*told, compared, seen, decided, crossed]).as_teardown()

    retrain_animal()


@contextmanager
def _skip_without_weights() -> Iterator[None]:
    """Skip the task, with the reason, where a backbone's weights can't be had: the others go on."""
    try:
        yield
    except MissingWeightsError as error:
        raise AirflowSkipException(str(error)) from error


def _job(values: dict[str, Any]) -> Any:
    from ml.stages.job import Job

    return Job.from_dict(values, settings.read())


def _results(values: Sequence[Any]) -> list[Any]:
    """Return the stage results among XComs: single ones, mapped ones, and none where a task didn't end well."""
    from ml.results import StageResult

    results: list[Any] = []
    for value in values:
        if isinstance(value, dict):
            results.append(StageResult.from_dict(value))
        elif value is not None:
            results += _results(value)
    return results


for one in animals.read(settings.read().animals).values():
    retrain(one.name, one.schedule, one.preset or settings.read().preset)
