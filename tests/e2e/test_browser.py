"""Somebody who has never seen the code retrains, watches, approves and follows the links: in a real browser."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import psutil
import pytest
from installation import MENAGERIE, install, menagerie, wait

from ml import mlflow_server, settings, stack
from ml.environment import USER, password
from ml.settings import Settings

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
NAVIGATION = "a[href$='/plugin/menagerie']"
PAGE, TASK, READING = 60_000, 600_000, 3_000
"""Milliseconds that the browser waits for a page, for a task, and before it answers a question."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return the settings of a stack that runs, whose photos are accepted; there is no champion yet."""
    environment = install(tmp_path_factory.mktemp("home"), "fox", "gan = true")
    menagerie(environment, "up")
    chosen = settings.read(environment)
    try:
        airflow = stack.client(chosen)
        airflow.patch("dags/validate_images", {"is_paused": False})
        run = airflow.post("dags/validate_images/dagRuns", {"logical_date": None})["dag_run_id"]
        while (state := airflow.get(f"dags/validate_images/dagRuns/{run}")["state"]) != "success":
            assert state in ("queued", "running")
            time.sleep(1)
        yield chosen
    finally:
        subprocess.run([MENAGERIE, "down"], env=environment, check=False)


@pytest.fixture
def browser(running: Settings, tmp_path: Path) -> Iterator[Any]:
    """Return a browser's page that shows Airflow, logged in; what it shows last is kept as a picture."""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        user, secret = mlflow_server.login(running) or ("", "")
        login = {"username": user, "password": secret, "origin": running.mlflow_uri}
        page = chromium.new_page(viewport={"width": 1400, "height": 900}, http_credentials=login)
        page.set_default_timeout(PAGE)
        try:
            page.goto(running.airflow_url)
            page.locator("[name=username]").fill(USER)
            page.locator("[name=password]").fill(password(running))
            page.keyboard.press("Enter")
            page.locator(NAVIGATION).wait_for()
            yield page
        finally:
            page.screenshot(path=tmp_path / "last.png")
            chromium.close()


def trigger(browser: Any, running: Settings) -> str:
    """Retrain by the form, without search, and with a person to be asked; return the DAG run's address."""
    browser.goto(f"{running.airflow_url}/dags/retrain_fox")
    browser.get_by_test_id("trigger-dag-button").click()
    form = browser.get_by_role("dialog")
    form.get_by_role("button", name="Networks from scratch").click()
    where = form.locator("[name=element_tune_mode]").locator("..").get_by_role("combobox")
    where.fill("off")
    where.press("Enter")
    form.get_by_role("button", name="The champion").click()
    form.get_by_text("Ask before promoting").click()
    form.get_by_test_id("trigger-dag-submit").click()
    browser.wait_for_url("**/runs/manual__*")
    return str(browser.url)


def shown(element: Any, milliseconds: int = 10_000) -> bool:
    try:
        element.wait_for(timeout=milliseconds)
    except playwright.TimeoutError:
        return False
    return True


def await_text(page: Any, element: Any) -> None:
    """Wait as long as a task may take until the Menagerie page shows this; else the failure tells what it shows."""
    try:
        element.wait_for(timeout=TASK)
    except playwright.TimeoutError as error:
        pytest.fail(f"{error}\nThe page shows:\n{page.locator('body').inner_text()}")


def test_from_the_trigger_form_to_a_champion(browser: Any, running: Settings) -> None:
    run = trigger(browser, running)

    browser.locator(NAVIGATION).click()
    page = browser.frame_locator("iframe")
    page.get_by_text("No champion yet").wait_for()
    stage = page.locator("#now li:has(progress[value])").first
    text, share = stage.evaluate("li => [li.innerText, li.querySelector('progress').value]", timeout=TASK)
    assert re.search(r"(photo|fold|epoch) [\d,]+ of [\d,]+", text)
    assert 0 <= share <= 1

    page.get_by_text("approve or reject its model").click(timeout=TASK)
    # Until it asks, Airflow leads to the task's logs; opened just as it asks, the buttons never come alive.
    approve = browser.locator("[data-testid=hitl-option-Approve]:enabled")
    while not shown(approve):
        browser.goto(f"{run}/tasks/approve/required_actions")
    assert browser.get_by_text("accuracy on balanced draws").is_visible()
    browser.wait_for_timeout(READING)
    approve.click()
    browser.get_by_text("response successful").first.wait_for()

    browser.locator(NAVIGATION).click()
    await_text(page, page.locator("dl").get_by_text("version 1"))
    await_text(page, page.locator(".decision").get_by_text("Approved by admin"))
    assert page.get_by_text("Report of the last retraining").is_visible()
    with browser.expect_popup() as opened:
        page.get_by_text("MLflow run").first.click()
    opened.value.get_by_text("The DAG run in Airflow").wait_for(timeout=PAGE)

    for button, leads_to in (("MLflow run", "/#/experiments/"), ("Report", "/report/"), ("Data Docs", "/data_docs")):
        browser.goto(f"{run}/tasks/transfer/mapped/0/details")
        browser.locator("a[type=button]").get_by_text(button, exact=True).click()
        browser.wait_for_url(re.compile(re.escape(leads_to)))
    browser.get_by_text("dataset-dataset.html").wait_for()


@pytest.mark.parametrize("dag", ["validate_images", "score_images", "gan_fox", "retrain_fox"])
def test_every_form_starts_a_run_as_it_opens(browser: Any, running: Settings, dag: str) -> None:
    browser.goto(f"{running.airflow_url}/dags/{dag}")
    browser.get_by_test_id("trigger-dag-button").click()
    form = browser.get_by_role("dialog")
    submit = form.get_by_test_id("trigger-dag-submit")
    playwright.expect(submit).to_be_enabled(timeout=PAGE)
    if dag == "validate_images":  # what was typed and cleared again is null, and as good as untouched
        folder = form.locator("[name=element_photos]")
        folder.fill("/nowhere")
        folder.fill("")
        playwright.expect(submit).to_be_enabled(timeout=PAGE)
    submit.click()
    browser.wait_for_url("**/runs/manual__*")
    run = f"dags/{dag}/dagRuns/{unquote(browser.url.partition('/runs/')[2].partition('/')[0].partition('?')[0])}"
    airflow = stack.client(running)
    if dag == "validate_images":
        assert airflow.get(run)["conf"]["photos"] is None
        wait(lambda: airflow.get(run)["state"] in ("success", "failed"), seconds=PAGE / 500)
        assert airflow.get(run)["state"] == "success"
    else:  # that it runs to its end is another test
        tasks = wait(lambda: [each for each in airflow.all(f"{run}/taskInstances", "task_instances") if each["pid"]])
        airflow.patch(run, {"state": "failed"})
        assert tasks[0]["state"] in ("running", "success")


def test_the_page_comes_back_when_mlflow_does(browser: Any, running: Settings) -> None:
    started = [each for each in psutil.process_iter(["cmdline"]) if str(running.mlflow_port) in each.info["cmdline"]]
    assert started
    for process in started:
        process.suspend()
    try:
        browser.locator(NAVIGATION).click()
        page = browser.frame_locator("iframe")
        page.get_by_text("MLflow doesn't answer").wait_for()
    finally:
        for process in started:
            process.resume()
    page.locator("#now").wait_for()


@pytest.mark.parametrize("path", ["menagerie/", "menagerie/now", "menagerie/task/run?dag=a&run=b&task=c"])
def test_without_login_nothing_is_shown(running: Settings, path: str) -> None:
    assert httpx.get(f"{running.airflow_url}/{path}").status_code in (401, 403)


def test_many_who_write_at_once_are_all_answered(running: Settings) -> None:
    airflow = stack.client(running)

    def write(number: int) -> None:
        if number % 2:
            airflow.post("dags/validate_images/dagRuns", {"logical_date": None})
        else:
            airflow.patch("dags/validate_images", {"is_paused": True})

    for _ in range(5):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, range(8)))
