import html
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow.api_fastapi.app import init_auth_manager
from airflow.plugins_manager import is_valid_plugin
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from menagerie import api, plugin
from world import ANIMAL, make_settings

from ml.results import DagRun, StageResult
from ml.settings import Settings
from ml.stages.job import Job

Results = dict[str, StageResult]
MOUNTED = "/menagerie"
KINDS = ("picture", "thumbnail")


def mounted(settings: Settings, guarded: bool = False) -> TestClient:
    """Return a client of the page, mounted as Airflow mounts it."""
    page, airflow = api.make_app(settings), FastAPI()
    if not guarded:
        page.dependency_overrides[api.logged_in] = lambda: None
    airflow.mount(MOUNTED, page)
    return TestClient(airflow)


@pytest.fixture(scope="module")
def client(served: Settings, results: Results) -> Iterator[TestClient]:
    with mounted(served) as client:
        yield client


@pytest.fixture(scope="module")
def _auth_manager() -> None:
    """Set up what Airflow's API server has: tokens are checked by it."""
    init_auth_manager()


def addresses(text: str) -> set[str]:
    return set(re.findall(r'(?:src|href)="([^"#][^"]*)"', text.replace("&amp;", "&")))


def retried(text: str) -> bool:
    """Return whether the browser asks for the page again by itself."""
    return '<meta http-equiv="refresh"' in text


@pytest.mark.parametrize("token", [None, "forged"])
@pytest.mark.usefixtures("_auth_manager")
def test_no_route_answers_without_airflows_login(served: Settings, token: str | None) -> None:
    client = mounted(served, guarded=True)
    client.cookies.update({"_token": token} if token else {})
    routes = [route for route in api.make_app(served).routes if isinstance(route, APIRoute)]
    assert {route.path for route in routes} == {
        "/",
        "/now",
        "/picture/{run_id}/{name}.png",
        "/thumbnail/{run_id}/{name}.webp",
        "/report/{run_id}",
        "/task/{what}",
    }
    assert len(routes) == len(api.make_app(served).routes), "a route that the guard doesn't cover"
    for route in routes:
        path = route.path.format(run_id="0" * 32, name="tsne", what="run")
        assert client.get(MOUNTED + path).status_code in (401, 403), path
        # What is asked is looked at after who asks.
        assert client.get(MOUNTED + route.path.format(run_id="x", name="../x", what="x")).status_code in (401, 403, 404)


def test_the_page_shows_the_champion_and_every_link_of_ours_answers(client: TestClient, results: Results) -> None:
    answer = client.get(f"{MOUNTED}/")
    assert answer.status_code == 200
    text = answer.text
    numbers = results["promote"].metrics
    assert f"{numbers['cv_accuracy_mean']:.1%}" in text
    low, high = (f"{numbers[f'selected_accuracy_{end}']:.1%}" for end in ("low", "high"))
    assert re.search(rf"{low} to\s+{high}, corrected", text)
    assert f"{numbers['unseen_false_alarms']:.1%} <span" in text
    assert "measured on classes left out of training" in text
    rates = (1000 * numbers[f"{name}_at_95"] for name in ("false_alarms", "unseen_false_alarms"))
    assert "<tr><td>95</td>" + "".join(f"<td>{rate:,.0f}</td>" for rate in rates) in text
    assert "Promoted: there was no champion" in text
    assert "No photos of fox are accepted yet" in text
    ours = {link for link in addresses(text) if re.match(r"(picture|thumbnail|report)/", link)}
    assert {re.sub("/.*/", "/", link).split("?")[0] for link in ours} >= {
        "picture/tsne.png",
        "picture/mistakes.png",
        "thumbnail/tsne.webp",
    }
    for link in ours:
        found = client.get(f"{MOUNTED}/{link}")
        assert found.status_code == 200
        assert found.headers["content-type"].split(";")[0] in ("image/png", "image/webp", "text/html")
    sizes = {kind: sum(len(client.get(f"{MOUNTED}/{a}").content) for a in ours if a.startswith(kind)) for kind in KINDS}
    assert sizes["thumbnail"] < sizes["picture"] / 4


def test_the_policy_lets_only_the_page_itself_in(client: TestClient) -> None:
    answer = client.get(f"{MOUNTED}/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'self'"
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', answer.text))
    assert policy["script-src"] == policy["style-src"] == f"'nonce-{nonce}'"
    assert nonce not in client.get(f"{MOUNTED}/").text
    # What the policy would block isn't there: inline handlers and styles.
    assert not re.search(r"\s(style|on\w+)=", re.sub(r"<(script|style).*?</\1>", "", answer.text, flags=re.S))


def test_a_report_may_run_nothing(client: TestClient, job: Job) -> None:
    answer = client.get(f"{MOUNTED}/report/{job.parent}")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["report/" + "0" * 32, "picture/" + "0" * 32 + "/tsne.png"])
def test_what_is_not_there_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(f"{MOUNTED}/{path}").status_code == 404


def test_paths_cannot_be_smuggled_in(client: TestClient, job: Job) -> None:
    for name in ("..%2Fresult", "tsne.png%3F", "%2e%2e"):
        assert client.get(f"{MOUNTED}/picture/{job.parent}/{name}.png").status_code in (404, 422)


def test_what_runs_wrote_is_escaped(client: TestClient, job: Job) -> None:
    tracker = job.tracker
    parent = tracker.open_run(ANIMAL, DagRun(f"retrain_{ANIMAL}", 'manual"><script>'), job.digest, {})
    tracker.close_run(parent, False, "<script>alert(1)</script>")
    text = client.get(f"{MOUNTED}/").text
    tracker.client.delete_run(parent)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<script") == 1


def test_what_runs_now_is_a_part_of_its_own(client: TestClient, job: Job) -> None:
    assert "Nothing is running" in client.get(f"{MOUNTED}/now").text
    parent = job.tracker.open_run(ANIMAL, DagRun("validate_images", "manual__now"), job.digest, {})
    text = client.get(f"{MOUNTED}/now").text
    job.tracker.close_run(parent, True)
    job.tracker.client.delete_run(parent)
    assert "Checking the photos of" in text
    assert f'data-runs="{parent}"' in text
    assert "<html" not in text


def test_the_page_tells_how_the_photos_were_read_last(client: TestClient, job: Job) -> None:
    tracker, texts = job.tracker, []
    parent = tracker.open_run("validate_images", DagRun("validate_images", "manual__read"), "", {})
    tracker.tag(parent, "folder", "/photos")
    texts.append(client.get(f"{MOUNTED}/now").text)
    tracker.log_metrics(parent, {"n_photos": 1234.0, "n_unreadable": 3.0})
    for succeeded in (True, False):
        tracker.close_run(parent, succeeded, "" if succeeded else "DataError: no photo")
        texts.append(client.get(f"{MOUNTED}/").text)
    tracker.client.delete_run(parent)
    running, read, failed = texts
    assert "<b>Reading the photos</b>" in running
    assert "<b>1,234</b> photos of <code>/photos</code>" in read
    assert f"/runs/{parent}/artifacts/tables/unreadable.csv" in read
    assert "DataError: no photo" in failed.split("The photos could not be read")[1]


def test_without_mlflow_the_page_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        settings = make_settings(tmp_path, tmp_path).model_copy(
            update={"mlflow_uri": f"http://127.0.0.1:{probe.getsockname()[1]}"}
        )
        answer = mounted(settings).get(f"{MOUNTED}/")
    assert answer.status_code == 503
    assert settings.mlflow_uri in answer.text
    assert "make up" in answer.text
    assert retried(answer.text)


def test_a_wrong_table_is_a_red_card_beside_the_other_animals(served: Settings, tmp_path: Path) -> None:
    table = tmp_path / "animals.toml"
    table.write_text('[wombat]\npositives = ["wombat/*"]\nnegatives = ["*/*"]\n[fox]\npositives = []\n')
    answer = mounted(served.model_copy(update={"animals": table})).get(f"{MOUNTED}/")
    assert answer.status_code == 200
    text = html.unescape(answer.text)
    assert "Fox is stopped" in text
    assert "positives must be a list of globs" in text
    assert f"<code>{table}</code>, line 5" in text
    assert 'href="../dags/retrain_wombat"' in text


def test_a_missing_experiment_is_a_welcome(served: Settings, tmp_path: Path) -> None:
    table = tmp_path / "animals.toml"
    table.write_text('[wombat]\npositives = ["wombat/*"]\nnegatives = ["*/*"]\n')
    text = mounted(served.model_copy(update={"animals": table})).get(f"{MOUNTED}/").text
    assert "First steps" in text
    assert "There are no photos in" not in text
    assert 'href="../dags/retrain_wombat"' in text


def test_without_photos_the_page_gives_commands_that_lead_on(served: Settings, tmp_path: Path) -> None:
    table = tmp_path / "animals.toml"
    table.write_text('[wombat]\npositives = ["wombat/*"]\nnegatives = ["*/*"]\n')
    fresh = served.model_copy(update={"animals": table, "home": tmp_path, "photos_root": str(tmp_path / "it's empty")})
    client = mounted(fresh)
    steps = html.unescape(client.get(f"{MOUNTED}/").text)
    command = re.search(r"For the sample drawings, run <code>(.*?)</code>", steps)
    assert command
    assert "make up PHOTOS=folder" in steps
    subprocess.run(shlex.split(command[1]), check=True, capture_output=True)
    assert len(list(fresh.photos.glob("*/*.jpg"))) > 100
    assert "There are no photos in" not in client.get(f"{MOUNTED}/").text


def test_every_link_into_mlflow_opens_its_training_pages(client: TestClient, job: Job) -> None:
    links = {link for link in addresses(client.get(f"{MOUNTED}/").text) if "/#/" in link}
    assert len(links) > 3
    assert {link for link in links if not link.endswith("?workflowType=machine_learning")} == set()
    docs = {"dag": f"retrain_{ANIMAL}", "run": "manual__2026-11-22T10:00:00+00:00", "task": "explore"}
    for what, part in (("run", "/runs/"), ("docs", "/artifacts/data_docs?")):
        location = client.get(f"{MOUNTED}/task/{what}", params=docs, follow_redirects=False).headers["location"]
        assert part in location
        assert location.endswith("?workflowType=machine_learning")


def test_an_accuracy_on_drawings_says_so(client: TestClient) -> None:
    shown = client.get(f"{MOUNTED}/").text.split('class="number"')[1].split("</dl>")[0]
    assert "These are drawings that Menagerie made itself" in shown


def test_airflow_finds_the_page_in_its_navigation() -> None:
    assert is_valid_plugin(plugin.MenageriePlugin)
    page, _ = plugin.MenageriePlugin.external_views
    (app,) = plugin.MenageriePlugin().fastapi_apps
    assert f"/{page['href']}" == f"{app['url_prefix']}/"
    assert page["url_route"] == "menagerie"
