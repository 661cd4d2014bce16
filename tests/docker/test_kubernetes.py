"""The files for Kubernetes, as far as they can be judged without a cluster."""

import json
import re
from typing import Any

import pytest
import yaml

from ml import settings
from ml.settings import CHECKOUT

FOLDER = CHECKOUT / "docker" / "kubernetes"
PROGRAMS = ("apiServer", "scheduler", "dagProcessor", "triggerer")


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "values.yaml").read_text()))


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "pod.yaml").read_text()))


def celery_workers(values: dict[str, Any]) -> list[dict[str, Any]]:
    workers = values["workers"]["celery"]
    return [workers, *({**workers, **each} for each in workers["sets"])]


def test_the_chart_starts_what_compose_starts(values: dict[str, Any]) -> None:
    """By the image's own entry point: `menagerie airflow …`. The chart's defaults are for another image."""
    compose = yaml.safe_load((CHECKOUT / "docker" / "compose.yaml").read_text())["services"]
    started = [values[program]["args"] for program in PROGRAMS]
    assert started == [compose[name]["command"] for name in ("api-server", "scheduler", "dag-processor", "triggerer")]
    for worker in celery_workers(values):
        assert worker["args"][: len(compose["worker"]["command"])] == compose["worker"]["command"]


def test_no_program_of_another_image_is_called(values: dict[str, Any]) -> None:
    for each in [*(values[program] for program in PROGRAMS[1:]), *celery_workers(values)]:
        assert each["logGroomerSidecar"] == {"enabled": False}
        assert "/entrypoint" not in str(each.get("livenessProbe", ""))
    assert values["createUserJob"] == {"enabled": False}


def test_a_worker_listens_to_the_queue_that_tasks_are_sent_to(values: dict[str, Any]) -> None:
    env = {each["name"]: each["value"] for each in values["env"]}
    queues = [re.findall(r"--queues=(\w+)", " ".join(worker["args"]))[0] for worker in celery_workers(values)]
    assert queues == ["default", env["MENAGERIE_GPU_QUEUE"]]
    (gpu,) = values["workers"]["celery"]["sets"]
    assert gpu["queue"] == env["MENAGERIE_GPU_QUEUE"]
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_settings_can_be_read_and_hold_no_secret(values: dict[str, Any], pod: dict[str, Any]) -> None:
    env = {each["name"]: each["value"] for each in values["env"]}
    chosen = settings.read(env)
    assert chosen.mlflow_link == env["MENAGERIE_MLFLOW_PAGE"]
    assert chosen.parallelism == values["config"]["celery"]["worker_concurrency"]
    for each in [*values["env"], *pod["spec"]["containers"][0]["env"]]:
        assert "value" not in each or not re.search("PASSWORD|SECRET|KEY$", each["name"])


def test_the_chart_is_for_this_airflow(values: dict[str, Any]) -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    assert f"\napache-airflow=={values['airflowVersion']} " in lock


def test_pods_see_the_same_volumes(values: dict[str, Any], pod: dict[str, Any]) -> None:
    assert pod["spec"]["volumes"] == values["volumes"]
    assert pod["spec"]["containers"][0]["volumeMounts"] == values["volumeMounts"]
    assert pod["spec"]["containers"][0]["name"] == "base"  # the one that Airflow's executor fills in


def test_kubernetes_knows_every_field(values: dict[str, Any], pod: dict[str, Any]) -> None:
    """Its client drops what it doesn't know."""
    client = pytest.importorskip("kubernetes").client.ApiClient()

    def as_known(content: dict[str, Any]) -> Any:
        return client.sanitize_for_serialization(client.deserialize(json.dumps(content), "V1Pod", "application/json"))

    assert as_known(pod) == pod
    for worker in celery_workers(values):
        container = {
            "name": "worker",
            **{key: worker[key] for key in ("args", "resources")},
            **{key: values[key] for key in ("env", "volumeMounts")},
            "securityContext": values["securityContexts"]["containers"],
        }
        spec = {
            "containers": [container],
            "volumes": values["volumes"],
            "securityContext": values["securityContexts"]["pod"],
            "tolerations": worker.get("tolerations", []),
            "nodeSelector": worker.get("nodeSelector", {}),
            "terminationGracePeriodSeconds": worker["terminationGracePeriodSeconds"],
        }
        assert as_known({"spec": spec}) == {"spec": spec}
