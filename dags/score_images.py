"""Lets every champion judge a folder of new photos, and tells how far they are from the training photos."""

from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, get_current_context, task
from defaults import SOON, TAG, dag_run_of, form

from ml import settings
from ml.params import ScoreParams

DOC = """
### Score images

Every champion says of each photo of a folder how probable its animal is. The MLflow experiment `score_images` keeps,
for each scoring, the table (CSV and Parquet, which explain themselves), a contact sheet, the photos that can't be read
with their reasons, and how far the photos are from those that each champion was trained with (**drift**). The log says
where the table lies.

A scoring that was killed goes on where it was. If the photos have drifted, and *Ask for validation* is ticked,
`validate_images` is started. The same without Airflow: `menagerie score FOLDER`.
"""


@dag(
    dag_id="score_images",
    schedule=None,
    params=form(ScoreParams),
    tags=[TAG, "scoring"],
    doc_md=DOC,
    **SOON,
)
def score_images() -> None:
    @task
    def score() -> dict[str, Any]:
        """Judge the photos, and compare them with the training photos."""
        from ml.stages import score_images

        context = get_current_context()
        params = ScoreParams.read(context["params"])
        return score_images.run(params, settings.read(), dag_run_of(context)).to_dict()

    @task.short_circuit
    def drifted(found: dict[str, Any]) -> bool:
        """Go on only if the photos have drifted and validation is to be asked for."""
        return (
            bool(found["metrics"].get("drift")) and ScoreParams.read(get_current_context()["params"]).validate_on_drift
        )

    validate = TriggerDagRunOperator(
        task_id="validate",
        trigger_dag_id="validate_images",
        note="The photos that score_images has scored have drifted from the training photos.",
        doc="Start the validation of the photo folder.",
    )
    drifted(score()) >> validate


score_images()
