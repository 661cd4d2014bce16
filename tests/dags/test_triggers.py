"""The Trigger form from a terminal and by REST: what is out of its range is refused before anything runs."""

import pytest
from in_airflow import make_airflow, results_of

from ml.params import ScoreParams, ValidateParams

ANIMALS = '[elephant]\npositives = ["elephant/*"]\nnegatives = ["*/*"]\n'
WRONG = {
    "retrain_elephant": [
        {"preset": "fast"},
        {"baseline_epochs": 0},
        {"seed": "one"},
        {"backbones": ["VGG16", "vgg19"]},
        {"augment_copies": [0]},
        {"augment_copies": "5, 200"},
        {"require_approval": "maybe"},
        {"approval_hours": 1000},
    ],
    "validate_images": [{"folds": 1}, {"most_left_out": 1.5}, {"emit": "yes"}],
}
RIGHT = {
    "retrain_elephant": {"preset": "quick", "seed": 7, "tune_trials": None, "augment_copies": "5, 10"},
    "validate_images": dict.fromkeys(ValidateParams.model_fields),
    "score_images": dict.fromkeys(ScoreParams.model_fields),
}
PROGRAM = """
import contextlib, io, json, sys
from airflow.cli import cli_parser
from airflow.api_fastapi.app import create_app
from fastapi.testclient import TestClient
wrong, right = json.loads(sys.argv[2])

def by_terminal(*words):
    arguments = cli_parser.get_parser().parse_args(["dags", *words])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        try:
            arguments.func(arguments)
        except (Exception, SystemExit) as error:
            return f"{type(error).__name__}: {error}"
    return said.getvalue()

def trigger(dag, conf):
    with contextlib.redirect_stdout(sys.stderr):
        return by_terminal("trigger", dag, "--conf", json.dumps(conf), "--output", "json")

with contextlib.redirect_stdout(sys.stderr):
    by_terminal("reserialize")
    http = TestClient(create_app(apps="core"))
    http.headers["Authorization"] = "Bearer " + http.get("/auth/token").json()["access_token"]
answers = []
for dag, confs in wrong.items():
    for conf in confs:
        answer = http.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        answers.append([dag, list(conf), trigger(dag, conf), answer.status_code, answer.text])
runs = http.get("/api/v2/dags/~/dagRuns").json()["total_entries"]
taken = []
for dag, conf in right.items():
    answer = http.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
    taken.append([trigger(dag, conf), answer.status_code, answer.json()["conf"]])
print("RESULT", json.dumps([answers, runs, taken]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("airflow")
    (home / "animals.toml").write_text(ANIMALS)
    return make_airflow(
        home, MENAGERIE_ANIMALS=str(home / "animals.toml"), AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="true"
    )


def test_a_wrong_value_is_refused_and_nothing_runs_a_right_one_is_taken(environment: dict[str, str]) -> None:
    ((answers, runs, taken),) = results_of(PROGRAM, [WRONG, RIGHT], environment)
    assert len(answers) == sum(map(len, WRONG.values()))
    for dag, (name,), said, status, text in answers:
        assert f"Invalid input for param {name}" in said, (dag, said)
        assert status == 400, (dag, text)
        assert f"Invalid input for param {name}" in text
    assert runs == 0
    for (said, status, conf), right in zip(taken, RIGHT.values(), strict=True):
        assert '"state": "queued"' in said
        assert (status, conf) == (200, right)
