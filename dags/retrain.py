"""Retrains one animal's classifier: `retrain_<animal>` for each table of animals.toml."""

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from approval import Approval, answer
from defaults import EVERY_DAG, TAG, at, dag_run_of, dataset_asset, form, model_asset, queue
from stages import job_of, read, report, stage

from ml import animals, settings
from ml.animals import Animal
from ml.errors import MissingWeightsError
from ml.params import RetrainParams

DOC = """
### Retrain the classifier of {animal}

Runs when the accepted photos of {animal} change{besides}. It looks at the photos (t-SNE),
judges a small network, searches for a better one, regularises and augments it, tells it every class, judges pretrained
networks, fine-tunes the best, and averages them, all in cross-validation. It chooses the simplest that is as good as
the best, and lets it meet the champion photo by photo. **A worse model never takes the champion's place**; a tie keeps
it. With *Ask before promoting*, neither does a better one before a person has approved it, under *Required Actions*.

How much of this is tried is said by the *preset*: quick, standard or thorough.

Everything is kept in the MLflow experiment `{animal}`: numbers, curves, pictures, and, with the run of this DAG run,
`report.html`.
Work that an earlier run did for the same photos and settings is not done again, unless *Compute again* is ticked: if
nothing has changed at all, every task is skipped.
"""
ANY = "none_failed_min_one_success"
LONGEST = 50
"""Priority of the longest task; that of others is the number of tasks that wait for them, and one."""


def retrain(animal: Animal, preset: str) -> None:
    """Define the DAG `retrain_<animal>`."""
    name, photos = animal.name, dataset_asset(animal.name)
    defaults: dict[str, Any] = {"preset": preset, "require_approval": animal.require_approval}

    @dag(
        dag_id=f"retrain_{name}",
        schedule=AssetOrTimeSchedule(timetable=at(animal.schedule), assets=[photos]) if animal.schedule else [photos],
        params=form(RetrainParams, **defaults),
        tags=[TAG, "training", name],
        doc_md=DOC.format(
            animal=name, besides=f", and on the schedule `{animal.schedule}`" if animal.schedule else ", and by hand"
        ),
        **EVERY_DAG,
    )
    def retrain_animal() -> None:
        @task
        def prepare() -> dict[str, Any]:
            """Open the MLflow run on the accepted dataset."""
            from ml.stages import prepare

            context = get_current_context()
            params = RetrainParams.read(context["params"], **defaults)
            job = prepare.run(name, params, settings.read(), dag_run_of(context))
            if said := prepare.unchanged(job):
                raise AirflowSkipException(said)
            return job.to_dict()

        @task
        def chosen_searches(job: dict[str, Any]) -> list[str]:
            """Name the searches for a better network from scratch."""
            if job["params"]["tune_mode"] == "off":
                raise AirflowSkipException("not wanted: see the param tune_mode, and the preset")
            from ml.stages import search

            return search.searches(job_of(job))

        @task
        def chosen_copies(job: dict[str, Any], tuned: dict[str, Any]) -> list[int]:
            """Name how often an epoch shows a photo, each a candidate."""
            # The longest first: so all cores are busy to the end.
            return sorted(set(job["params"]["augment_copies"]), reverse=True)

        @task(trigger_rule=ANY)
        def chosen_backbones(job: dict[str, Any]) -> list[str]:
            """Name the pretrained networks to judge."""
            return list(dict.fromkeys(job["params"]["backbones"]))

        @task(trigger_rule=ANY, queue=queue("promote"))
        def promote(
            job: dict[str, Any], comparison: dict[str, Any], decision: dict[str, Any], said: dict[str, Any] | None
        ) -> dict[str, Any]:
            """Train the winner on all photos, check it, and make it champion, if it is to be."""
            from ml.stages import promote

            return promote.run(job_of(job), read(comparison), read(decision), answer(said)).to_dict()

        @task(outlets=[model_asset(name)])
        def announce(promoted: dict[str, Any]) -> None:
            """Announce a new champion."""
            if not promoted["metrics"]["promoted"]:
                raise AirflowSkipException(promoted["summary"])
            told = {key: promoted["metrics"][key] for key in ("cv_accuracy_mean", "selected_accuracy")}
            event = get_current_context()["outlet_events"][model_asset(name)]
            event.extra = {"summary": promoted["summary"], "dataset": promoted["digest"]} | told

        job = prepare()
        explored = stage("explore", "Draw t-SNE maps of pixels and of features.", skip_on=MissingWeightsError)(job)
        lowest = stage("floor", "Judge what colours alone tell.")(job)

        small = stage("baseline", "Judge the small network.")(job)
        search = stage("search", "Search for a better network from scratch.", map_index_template="{{ each }}")
        searched = search.partial(job=job).expand(each=chosen_searches(job))
        tuned = stage("tune", "Judge what the searches found.")(job, [searched])
        regularised = stage("regularise", "Compare regularisations of the network found.", unless=("regularise", "no"))(
            job, tuned
        )
        augment = stage("augment", "Judge the network found on augmented photos.", map_index_template="x{{ each }}")
        augmented = augment.partial(job=job, result=tuned).expand(each=chosen_copies(job, tuned))
        told = "Judge the network found, told every photo's class."
        classed = stage("classes", told, unless=("class_epochs", 0))(job, tuned)

        names = chosen_backbones(job)
        explored >> names  # the map's features are those of the first backbone: they are in the cache then
        transfer = stage(
            "transfer",
            "Judge a head on a pretrained network.",
            skip_on=MissingWeightsError,
            map_index_template="{{ each }}",
        )
        transferred = transfer.partial(job=job).expand(each=names)
        tops = "Train the top of the best pretrained network too."
        # It is the longest task, and what it waits for has its priority too: last of all, it would train alone.
        finetuned = stage("finetune", tops, unless=("finetune_epochs", 0), trigger_rule=ANY, priority_weight=LONGEST)(
            job, [transferred]
        )
        together = "Judge the average of the pretrained networks, where there are several."
        averaged = stage("average", together, trigger_rule=ANY)(job, [transferred, finetuned])

        proposed = [small, tuned, augmented, classed, transferred, finetuned, averaged]
        compared = stage("compare", "Choose a candidate.", trigger_rule=ANY)(job, [lowest, *proposed])
        seen = stage("explain", "Show what the winner looks at.", trigger_rule=ANY)(job, compared, proposed)

        decided = stage("decide", "Let the winner meet the champion.")(job, compared)
        approved = Approval(task_id="approve", animal=name, job=job, comparison=compared, decision=decided)
        promoted = promote(job, compared, decided, approved.output)
        announce(promoted)
        crossed = stage("cross", "Let each animal's champion judge the others' photos.")(job)
        promoted >> crossed

        # As a teardown it runs whatever happened, and hides no failure: it has no say in the DAG run's state.
        found = [explored, lowest, small, tuned, regularised, augmented, classed, transferred, finetuned, averaged]
        found += [compared, seen, decided, promoted, crossed]
        [regularised, seen, crossed] >> report()(job, found).as_teardown()

    retrain_animal()


for one in animals.read(settings.read().animals).values():
    retrain(one, one.preset or settings.read().preset)
