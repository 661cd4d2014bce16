"""Guards the photos: reads them, holds them against what is expected, and announces the datasets that changed."""

from typing import Any

from airflow.sdk import dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowSkipException
from defaults import SOON, TAG, at, dag_run_of, dataset_asset, form, report_faults

from ml import animals, settings
from ml.params import ValidateParams

DOC = """
### Validate images

Reads every photo below the photo root once, leaves out those that can't be used (each with its reason), and checks each
animal's dataset as a whole. A dataset that passes becomes the **accepted** one. If it differs from the last,
`dataset://<animal>` is updated, which starts the retraining of that animal. If nothing changed, `publish` is skipped.

What was left out and why: the log of `validate`, the MLflow run of the validation, or Data Docs (the log says where).
"""


@dag(
    dag_id="validate_images",
    schedule=at("@daily"),
    params=form(ValidateParams),
    tags=[TAG, "data"],
    doc_md=DOC,
    **SOON,
)
def validate_images() -> None:
    @task
    def scan() -> dict[str, str]:
        """Read every photo once."""
        from ml.stages import validate

        context = get_current_context()
        params = ValidateParams.read(context["params"])
        return validate.scan(params, settings.read(), dag_run_of(context))

    scanned = scan()
    for animal in animals.read(settings.read().animals):

        @task_group(group_id=animal)
        def one_animal(animal: str = animal) -> None:
            @task
            def validate(scanned: dict[str, str], animal: str) -> dict[str, Any]:
                """Hold the photos against what is expected."""
                from ml.stages import validate

                context = get_current_context()
                params = ValidateParams.read(context["params"])
                return validate.run(animal, scanned, params, settings.read(), dag_run_of(context)).to_dict()

            @task(outlets=[dataset_asset(animal)])
            def publish(found: dict[str, Any]) -> None:
                """Accept the dataset, and announce it if it changed."""
                from ml.results import StageResult
                from ml.stages import validate

                context = get_current_context()
                result = StageResult.from_dict(found)
                validate.publish(result, settings.read())
                if result.reused and not ValidateParams.read(context["params"]).emit:
                    raise AirflowSkipException(f"the photos of {result.animal} are the same as before: {result.digest}")
                counts = {name: int(count) for name, count in result.metrics.items()}
                context["outlet_events"][dataset_asset(result.animal)].extra = {"digest": result.digest} | counts

            publish(validate(scanned, animal))

        one_animal()


report_faults()
validate_images()
