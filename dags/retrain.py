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
judges a small network and pretrained ones in cross-validation, chooses the simplest that is as good as the best, and
lets it meet the champion photo by photo. **A worse model never takes the champion's place**; a tie keeps it.

Everything is kept in the MLflow experiment `{animal}`: numbers, curves, pictures, and, with the run of this DAG run,
`report.html`.
Work that an earlier run did for the same photos and settings is not done again, unless *Compute again* is ticked.
"""


def retrain(animal: str, schedule: str) -> None:
    """Define the DAG `retrain_<animal>`."""

    @dag(
        dag_id=f"retrain_{animal}",
        schedule=AssetOrTimeSchedule(timetable=at(schedule), assets=[dataset_asset(animal)]),
        catchup=False,
        max_active_runs=1,
        params=form(RetrainParams),
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
            return prepare.run(animal, params, settings.read(), dag_run_of(context)).to_dict()

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

        @task(trigger_rule="none_failed")
        def chosen_backbones(job: dict[str, Any]) -> list[str]:
            """Name the pretrained networks of the form."""
            return list(dict.fromkeys(job["params"]["backbones"]))

        @task(map_index_template="{{ backbone }}")
        @_skip_without_weights()
        def transfer(backbone: str, job: dict[str, Any]) -> dict[str, Any]:
            """Judge a head on a pretrained network."""
            from ml.stages import transfer

            get_current_context()["backbone"] = backbone  # type: ignore[typeddict-unknown-key]
            return transfer.run(_job(job), backbone).to_dict()

        @task(trigger_rule="none_failed")
        def average(job: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
            """Judge the average of the pretrained networks, where there are several."""
            if len(judged := _results(results)) < 2:
                raise AirflowSkipException("an average takes two pretrained networks or more")
            from ml.stages import average

            return average.run(_job(job), judged).to_dict()

        @task(trigger_rule="none_failed")
        def compare(job: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
            """Choose a candidate."""
            from ml.stages import compare

            return compare.run(_job(job), _results(results)).to_dict()

        @task(trigger_rule="none_failed")
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
        explored, lowest, judged, names = explore(job), floor(job), baseline(job), chosen_backbones(job)
        transferred = transfer.partial(job=job).expand(backbone=names)
        # The map's features are those of the first backbone: what comes second finds them in the cache.
        explored >> names
        averaged = average(job, transferred)
        compared = compare(job, [lowest, judged, transferred, averaged])
        seen = explain(job, compared, [judged, transferred, averaged])
        decided = promote(job, compared)
        announce(decided)
        # As a teardown it runs whatever happened, and hides no failure: it has no say in the DAG run's state.
        everything = [explored, lowest, judged, transferred, averaged, compared, seen, decided]
        [decided, seen] >> report(job, everything).as_teardown()

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
    retrain(one.name, one.schedule)
