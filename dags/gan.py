"""Trains a generator of pictures: `gan_<animal>` for each table of animals.toml that has `gan = true`."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from defaults import EVERY_DAG, TAG, dag_run_of, dataset_asset, form, queue

from ml import animals, settings
from ml.params import GanParams

DOC = """
### Draw {animal}

Trains a generator that draws new pictures of {animal}, has the champion classifier judge them, and publishes it as the
registered model `{animal}-gan`. Runs when the accepted photos of {animal} change, and by hand.

1. `crops` cuts the photos around the animal so that all show it at the same place and size, which decides how good the
   pictures become: by a table `boxes.csv` beside the photos (columns file, xmin, ymin, xmax, ymax, from 0 to 1), else
   by where a network finds the animal. Look at its contact sheet.
2. `gan` trains the generator; a task that was killed goes on where it was.
3. `score` draws a thousand pictures and lets the champion classifier and an independent judge say what they are, beside
   photos that the generator has not seen; `helps` tries whether they make a classifier better.
4. `publish` registers the generator. **One that draws clearly worse does not take the champion's place.**

Everything is kept in the MLflow experiment `{animal}`, with `report.html`. Work that an earlier run did for the same
photos and settings is not done again, unless *Compute again* is ticked.
"""


def stage(name: str, does: str) -> Any:
    """Return a task that runs `ml.stages.<name>` on the job and on the results that it is called with."""

    @task(task_id=name, doc_md=does, queue=queue(name))
    def run(job: dict[str, Any], *results: dict[str, Any]) -> dict[str, Any]:
        from ml.results import StageResult

        return import_module(f"ml.stages.{name}").run(_job(job), *map(StageResult.from_dict, results)).to_dict()

    return run


def draw(animal: str, preset: str) -> None:
    """Define the DAG `gan_<animal>`."""

    @dag(
        dag_id=f"gan_{animal}",
        schedule=[dataset_asset(animal)],
        params=form(GanParams, preset=preset),
        tags=[TAG, "gan", animal],
        doc_md=DOC.format(animal=animal),
        **EVERY_DAG,
    )
    def gan_animal() -> None:
        @task
        def prepare() -> dict[str, Any]:
            """Open the MLflow run on the accepted dataset."""
            from ml.stages import prepare

            context = get_current_context()
            params = GanParams.read(context["params"])
            return prepare.run(animal, params, settings.read(), dag_run_of(context)).to_dict()

        @task
        def report(job: dict[str, Any] | None, results: Sequence[Any]) -> None:
            """Write the report and close the MLflow run, however the stages ended."""
            from ml.results import StageResult
            from ml.stages import report

            if job is None:
                raise AirflowSkipException("there is no MLflow run to report on: see the log of prepare")
            report.run(_job(job), [StageResult.from_dict(result) for result in results if result])

        job = prepare()
        cropped = stage("crops", "Cut the photos around the animal.")(job)
        trained = stage("gan", "Train the generator.")(job)
        cropped >> trained
        scored = stage("score", "Let the champion and an independent judge say what it draws.")(job, trained)
        helps = stage("helps", "Try whether its pictures make a classifier better.")(job, trained)
        published = stage("publish", "Register it, and let it meet the champion.")(job, trained)
        told = [cropped, trained, scored, helps, published]
        # As a teardown it runs whatever happened, and hides no failure: it has no say in the DAG run's state.
        [scored, helps, published] >> report(job, told).as_teardown()

    gan_animal()


def _job(values: dict[str, Any]) -> Any:
    from ml.stages.job import Job

    return Job.from_dict(values, settings.read(), GanParams)


for one in animals.read(settings.read().animals).values():
    if one.gan:
        draw(one.name, one.preset or settings.read().preset)
