"""A person is asked: the question, and what each answer does."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pytest
from world import World

from ml.results import StageResult
from ml.stages import approval, baseline, compare, decide, prepare, promote, report, transfer
from ml.stages.approval import Answer, question
from ml.stages.job import Job

AT = datetime(2026, 11, 22, 20, 30, tzinfo=UTC)
YES, NO = Answer(True, "Ada", AT, "fine"), Answer(False, "Ada", AT, "it looks at the grass")
NOBODY = Answer(False, "", AT)


@pytest.fixture(scope="module")
def asked(make_world: Callable[[], World]) -> World:
    return make_world()


@pytest.fixture(autouse=True)
def _inside(asked: World, _inside_home: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(asked.settings.home)


@pytest.fixture(scope="module")
def judged(asked: World) -> dict[str, StageResult]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(asked.settings.home)
        job = asked.job("judged")
        return {"baseline": baseline.run(job), "transfer": transfer.run(job, "EfficientNetLite0")}


def decided(world: World, name: str, judged: StageResult, **params: object) -> tuple[Job, StageResult, StageResult]:
    job = world.job(name, require_approval=True, **params)
    compared = compare.run(job, [judged])
    return job, compared, decide.run(job, compared)


def tags(job: Job, result: StageResult) -> dict[str, str]:
    return job.tracker.client.get_run(result.run_id).data.tags


def test_a_rejection_ends_well_is_kept_and_registers_nothing(asked: World, judged: dict[str, StageResult]) -> None:
    job, compared, found = decided(asked, "rejected", judged["transfer"])
    assert found.metrics["proposed"] == 1
    promoted = promote.run(job, compared, found, NO)
    assert promoted.metrics["promoted"] == 0
    kept = tags(job, promoted)
    assert (kept["menagerie.answer"], kept["menagerie.answered_by"], kept["menagerie.note"]) == (
        "rejected",
        "Ada",
        "it looks at the grass",
    )
    assert kept["menagerie.answered_at"] == "2026-11-22T20:30:00+00:00"
    decision = kept["menagerie.decision"]
    assert "Not promoted: Rejected by Ada, 2026-11-22 20:30 UTC: “it looks at the grass”." in decision
    assert "What spoke for it: there was no champion" in decision
    assert job.tracker.client.search_model_versions(f"name = '{job.classifier_name}'") == []


@pytest.mark.parametrize(("said", "again"), [(NO, False), (NOBODY, True)])
def test_what_was_rejected_is_not_asked_again_what_nobody_answered_is(
    asked: World, judged: dict[str, StageResult], said: Answer, again: bool
) -> None:
    seed = int(again)
    job, compared, found = decided(asked, f"first {again}", judged["transfer"], seed=seed)
    promoted = promote.run(job, compared, found, said)
    assert promoted.metrics["promoted"] == 0
    report.run(job, [compared, found, promoted])
    job.tracker.close_run(job.parent, succeeded=True)  # the stages that were left out are of no matter here
    assert (prepare.unchanged(asked.job(f"second {again}", require_approval=True, seed=seed)) is None) == again


def test_what_nobody_answered_says_so(asked: World, judged: dict[str, StageResult]) -> None:
    job, compared, found = decided(asked, "unanswered", judged["transfer"])
    promoted = promote.run(job, compared, found, NOBODY)
    assert promoted.metrics["unanswered"] == 1
    assert "Nobody had approved it until 2026-11-22 20:30 UTC." in promoted.summary
    assert tags(job, promoted)["menagerie.answer"] == "none"


def test_the_approved_becomes_champion_and_then_the_question_shows_it_beside_the_next(
    asked: World, judged: dict[str, StageResult]
) -> None:
    job, compared, found = decided(asked, "approved", judged["transfer"])
    text = question(job, compared, found)
    assert "| model | none yet | transfer EfficientNetLite0 |" in text
    late = decided(asked, "late", judged["transfer"])
    promoted = promote.run(job, compared, found, YES)
    assert promoted.metrics["promoted"] == 1
    assert "Approved by Ada, 2026-11-22 20:30 UTC: “fine”. It is version 1." in promoted.summary

    # Whoever was to meet no champion has to meet the one that came in between.
    refused = promote.run(*late, YES)
    assert refused.metrics["promoted"] == 0
    assert "version 1 became champion since it met version 0" in refused.summary

    job, compared, found = decided(asked, "next", judged["baseline"])
    text = question(job, compared, found)
    assert "| model | transfer EfficientNetLite0 | baseline |" in text
    accuracy = (judged["transfer"].metrics["cv_accuracy_mean"], judged["baseline"].metrics["cv_accuracy_mean"])
    row = next(line for line in text.splitlines() if line.startswith("| accuracy"))
    assert row.count("%") == 6
    assert all(f"{share:.1%}" in row for share in accuracy)
    unseen = next(line for line in text.splitlines() if line.startswith("| animals that no folder holds"))
    assert f"| {judged['transfer'].metrics['unseen_false_alarms']:.1%} (" in unseen
    assert unseen.endswith("| not measured |")
    assert "| megabytes of weights | 13." in text
    assert "not measured |" in text, "of networks from scratch"
    both = job.tracker.read_table(found.run_id, "against_champion")
    right = [(both[name] >= 0.5) == (both.label == 1) for name in ("champion", "probability")]
    assert f"#### Newly wrong: {(right[0] & ~right[1]).sum()} photo" in text
    assert f"#### Newly right: {(~right[0] & right[1]).sum()} photo" in text
    for run_id in (job.parent, compared.run_id, found.run_id):
        assert job.tracker.run_url(run_id) in text


def test_flips_are_sorted_cut_and_names_are_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    both = pd.DataFrame(
        {
            "path": ["fox/a|b.jpg", "fox/[x](y)\n<b>.jpg", "dog/1.jpg", "dog/2.jpg"],
            "class": ["fox", "fox", "dog", "dog"],
            "label": [1, 1, 0, 0],
            "champion": [0.4, 0.1, 0.2, 0.2],
            "probability": [0.6, 0.9, 0.7, 0.3],
        }
    )
    flips = approval._flips(both)
    assert [photo["champion"] for photo in flips["Newly right"]] == [0.1, 0.4]
    assert [photo["path"] for photo in flips["Newly wrong"]] == ["dog/1.jpg"]
    assert approval._plain(both.path[0]) == r"fox/a\|b\.jpg"
    assert approval._plain(both.path[1]) == r"fox/\[x\]\(y\) \<b\>\.jpg"


def test_an_answer_in_words() -> None:
    assert str(replace(YES, note="")) == "Approved by Ada, 2026-11-22 20:30 UTC."
    assert str(NOBODY) == "Nobody had approved it until 2026-11-22 20:30 UTC."
