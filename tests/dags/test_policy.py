"""What every DAG has to be: quick to parse, documented, tagged, and safe to run twice."""

import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow._shared.module_loading.file_discovery import find_path_from_directory
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from listeners import webhook

DAGS = Path(__file__).resolve().parents[2] / "dags"
HEAVY = ("tensorflow", "keras", "mlflow", "great_expectations", "sklearn", "pandas", "matplotlib", "scipy")


@pytest.fixture(scope="module")
def bag() -> DagBag:
    return DagBag(str(DAGS))


def test_all_dags_are_there(bag: DagBag) -> None:
    assert not bag.import_errors
    assert set(bag.dags) >= {"validate_images", "retrain_tiger", "retrain_fox", "retrain_elephant", "gan_fox"}


def test_policy(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert dag.doc_md, dag.dag_id
        assert "menagerie" in dag.tags
        assert dag.max_active_runs == 1
        assert not dag.catchup
        assert dag.on_failure_callback
        for task in dag.tasks:
            assert task.owner == "menagerie"
            assert task.retries == 2
            assert task.retry_policy is not None
            assert task.on_failure_callback, task.task_id
            assert task.execution_timeout == (None if task.task_id.endswith("approve") else timedelta(hours=24))
            assert task.doc or task.doc_md or task.python_callable.__doc__, task.task_id


def test_what_takes_longest_begins_first_and_what_nobody_waits_for_last(bag: DagBag) -> None:
    def priorities(dag_id: str) -> dict[str, int]:
        dag = DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[dag_id]))
        return {task.task_id: task.weight_rule.get_weight(SimpleNamespace(task=task)) for task in dag.tasks}

    retrain, gan = priorities("retrain_fox"), priorities("gan_fox")
    to_finetuning = ["prepare", "explore", "chosen_backbones", "transfer", "finetune"]
    assert sorted(retrain, key=lambda task: -retrain[task])[:5] == to_finetuning
    assert max(retrain["regularise"], retrain["explain"]) < min(retrain["augment"], retrain["classes"])
    for dag_id in ("validate_images", "score_images"):
        assert min(priorities(dag_id).values()) > max(*retrain.values(), *gan.values())


def test_every_param_of_a_trigger_form_explains_itself(bag: DagBag) -> None:
    for dag in bag.dags.values():
        for name in dag.params:
            param = dag.params.get_param(name)
            schema = param.schema
            assert schema["title"], (dag.dag_id, name)
            assert param.description.endswith("."), (dag.dag_id, name)
            assert "null" in schema["type"], (dag.dag_id, name, "the form couldn't be sent while it is empty")
            assert param.resolve(None) is None, (dag.dag_id, name)
            if {"integer", "number"} & {*schema["type"]}:
                assert {"minimum", "maximum"} <= schema.keys(), (dag.dag_id, name)


@pytest.mark.parametrize("name", ["validate_images", "retrain", "gan"])
def test_a_dag_file_parses_quickly_and_imports_nothing_heavy(name: str) -> None:
    """In a process that has imported Airflow already, as the DAG processor's have."""
    program = f"""
import sys, time
import airflow.sdk, pydantic, httpx
airflow.sdk.dag, airflow.sdk.task, airflow.sdk.Asset, airflow.sdk.AssetOrTimeSchedule
sys.path.insert(0, {str(DAGS)!r})
started = time.process_time()
import {name}
print(time.process_time() - started, *[module for module in {HEAVY!r} if module in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert answer[1:] == []
    assert float(answer[0]) < 0.5


def test_a_wrong_table_stops_its_animal_alone_and_people_hear_of_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "animals.toml"
    healthy = '[wolf]\npositives = ["wolf/*"]\nnegatives = ["*/*"]\n'
    table.write_text(f'{healthy}[fox]\npositives = ["fox/*"]\nnegatives = ["*/*"]\npreset = "thourough"\n')
    monkeypatch.setenv("MENAGERIE_ANIMALS", str(table))
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path))
    with webhook() as (url, posted):
        monkeypatch.setenv("MENAGERIE_NOTIFY", url)
        bags = [DagBag(str(DAGS)) for _ in range(2)]
        assert len(posted) == 1
        assert f"{table}, line 7, table [fox]: preset must be" in posted[0]["text"]
        table.write_text(f"# another line\n{table.read_text()}")
        DagBag(str(DAGS))
        assert len(posted) == 1, "the same fault, a line below"
        table.write_text(healthy)
        DagBag(str(DAGS))
        table.write_text(f"{healthy}[fox]\n")
        DagBag(str(DAGS))
    assert len(posted) == 3  # both keys are missing now
    for bag in bags:
        assert bag.import_errors == {}
        assert {"validate_images", "retrain_wolf", "score_images"} == bag.dags.keys()
        assert {task.task_id for task in bag.dags["validate_images"].tasks} == {"scan", "wolf.validate", "wolf.publish"}


def test_people_hear_once_of_a_file_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "animals.toml"
    table.write_text('[wolf]\npositives = ["wolf/*"]\nnegatives = ["*/*"]\n', encoding="utf-16")
    monkeypatch.setenv("MENAGERIE_ANIMALS", str(table))
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path))
    with webhook() as (url, posted):
        monkeypatch.setenv("MENAGERIE_NOTIFY", url)
        errors = [DagBag(str(DAGS)).import_errors for _ in range(2)]
    assert len(posted) == 1
    assert "Save it as UTF-8" in posted[0]["text"]
    assert all("Save it as UTF-8" in error for error in errors[0].values())


def test_without_a_place_to_remember_the_other_animals_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "animals.toml"
    table.write_text('fox = 3\n[wolf]\npositives = ["wolf/*"]\nnegatives = ["*/*"]\n')
    monkeypatch.setenv("MENAGERIE_ANIMALS", str(table))
    monkeypatch.setenv("MENAGERIE_HOME", str(table))  # no folder
    bag = DagBag(str(DAGS))
    assert bag.import_errors == {}
    assert {"validate_images", "retrain_wolf", "score_images"} == bag.dags.keys()


def test_what_is_put_into_a_folder_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("dags", "plugins"):
        copied = shutil.copytree(DAGS.with_name(folder), tmp_path / folder)
        for place in ("0/artifacts", "menagerie", "menagerie/0"):
            (copied / place).mkdir(parents=True, exist_ok=True)
            (copied / place / "evil.py").write_text("1")
        found = {Path(path).name for path in find_path_from_directory(str(copied), ".airflowignore", "glob")}
        assert "evil.py" not in found
        assert found >= ({"plugin.py"} if folder == "plugins" else {"retrain.py", "gan.py"})


def test_schedules_are_those_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "animals.toml"
    common = 'positives = ["x/*"]\nnegatives = ["*/*"]\n'
    table.write_text(
        f'[fox]\n{common}[wolf]\n{common}schedule = "0 3 * * 1"\nrequire_approval = true\n'
        f'preset = "thorough"\n[hare]\n{common}schedule = ""\n'
    )
    monkeypatch.setenv("MENAGERIE_ANIMALS", str(table))
    dags = DagBag(str(DAGS)).dags
    assert dags["validate_images"].timetable.expression == "0 0 * * *"
    fox, wolf, hare = (dags[f"retrain_{name}"] for name in ("fox", "wolf", "hare"))
    assert fox.timetable.timetable.expression == "0 0 * * 0"
    assert wolf.timetable.timetable.expression == "0 3 * * 1"
    assert (wolf.params["preset"], wolf.params["require_approval"]) == ("thorough", True)
    assert fox.params["require_approval"] is False
    assert not hasattr(hare.timetable, "timetable")
    for name, dag in (("fox", fox), ("wolf", wolf), ("hare", hare)):
        assert [asset.name for asset in dag.timetable.asset_condition.objects] == [f"dataset://{name}"]


def test_tasks_that_train_nothing_do_not_wait_for_tensorflow() -> None:
    program = """
import sys
from ml.stages import approval, compare, decide, explore, failure, floor, prepare, report, validate
print(*[module for module in ("tensorflow", "keras") if module in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == ""


def test_importing_a_module_does_nothing(tmp_path: Path) -> None:
    program = (
        "import ml.settings, ml.animals, ml.params, ml.results, ml.tracking, ml.stages, ml.cli, os; print(os.listdir())"
    )
    environment = {"MENAGERIE_HOME": str(tmp_path / "home"), "PATH": ""}
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert answer.stdout.strip() == "[]"
    assert not (tmp_path / "home").exists()
