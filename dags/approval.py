"""The question whether a new model may become champion, asked in Airflow under Required Actions."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowSkipException

from ml import notify, settings
from ml.notify import Message


class Approval(ApprovalOperator):
    """Waits for a person, if one is to be asked and the winner is proposed as champion; no answer in time is a no.

    What follows runs in any case, and takes the answer from here: a rejection is written to MLflow too.
    """

    template_fields = (*ApprovalOperator.template_fields, "job", "comparison", "decision")

    def __init__(
        self, *, animal: str, job: Any, comparison: Any, decision: Any, params: Any = None, **kwargs: Any
    ) -> None:
        note = Param("", type=["string", "null"], maxLength=1000, title="Note", description="Why; MLflow keeps it.")
        super().__init__(
            subject=f"May this model become the champion for {animal}?",
            defaults=self.REJECT,
            params={"note": note},  # instead of those of the DAG
            doc_md="Ask a person, where that is wanted, whether it may take the champion's place.",
            **kwargs | {"execution_timeout": None},  # a person has the hours that the form gives
        )
        self.animal, self.job, self.comparison, self.decision = animal, job, comparison, decision

    def execute(self, context: Any) -> None:
        from ml.results import StageResult
        from ml.stages import approval
        from ml.stages.job import Job

        chosen, params = settings.read(), self.job["params"]
        comparison, decided = StageResult.from_dict(self.comparison), StageResult.from_dict(self.decision)
        if not decided.metrics["proposed"]:
            raise AirflowSkipException(f"there is nothing to approve: {decided.summary}")
        if not params["require_approval"]:
            raise AirflowSkipException("nobody is to be asked: see the param require_approval")
        self.body = approval.question(Job.from_dict(self.job, chosen), comparison, decided)
        self.response_timeout = timedelta(hours=params["approval_hours"])
        page = self.generate_link_to_ui_from_context(context=context, base_url=chosen.airflow_link)
        why = f"{comparison.candidates[0].name}: {decided.summary}"
        notify.send(Message(self.subject, why, {"animal": self.animal}, {"Approve or reject": page}), chosen)
        super().execute(context)

    def skip(self, ti: Any, tasks: Any) -> None:
        """Skip nothing where it is rejected."""


def answer(said: Mapping[str, Any] | None) -> Any:
    """Return what an `Approval` gave as `ml.stages.approval.Answer`, or `None` if nobody was asked."""
    from ml.stages.approval import Answer

    if said is None:
        return None
    user = said["responded_by_user"] or {}
    approved = said["chosen_options"] == [ApprovalOperator.APPROVE]
    return Answer(approved, user.get("name", ""), said["responded_at"], said["params_input"].get("note") or "")
