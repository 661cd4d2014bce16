"""Trains a generator of pictures: `gan_<animal>` for each table of animals.toml that has `gan = true`."""

from typing import Any

from airflow.sdk import dag, get_current_context, task
from defaults import EVERY_DAG, TAG, dag_run_of, dataset_asset, form
from stages import report, stage

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
            params = GanParams.read(context["params"], preset=preset)
            return prepare.run(animal, params, settings.read(), dag_run_of(context)).to_dict()

        job = prepare()
        cropped = stage("crops", "Cut the photos around the animal.", GanParams)(job)
        trained = stage("gan", "Train the generator.", GanParams)(job)
        cropped >> trained
        scored = stage("score", "Let the champion and an independent judge say what it draws.", GanParams)(job, trained)
        helps = stage("helps", "Try whether its pictures make a classifier better.", GanParams)(job, trained)
        published = stage("publish", "Register it, and let it meet the champion.", GanParams)(job, trained)
        told = [cropped, trained, scored, helps, published]
        # As a teardown it runs whatever happened, and hides no failure: it has no say in the DAG run's state.
        [scored, helps, published] >> report(GanParams)(job, told).as_teardown()

    gan_animal()


for one in animals.read(settings.read().animals).values():
    if one.gan:
        draw(one.name, one.preset or settings.read().preset)
