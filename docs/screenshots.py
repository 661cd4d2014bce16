"""Renews the pictures of the README from the stack that runs here: `make up`, a retraining of each animal, and
`make screenshots`.

The stack must stand on the drawings (`MENAGERIE_PHOTOS` unset): photos have owners, and drawings have none.
"""

import io
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from ml import settings, stack
from ml.data import photos
from ml.environment import USER, password
from ml.settings import Settings

FOLDER = Path(__file__).parent
MOST_BYTES = 200_000
ANIMAL = "fox"


def main() -> None:
    chosen = settings.read()
    drawings = sorted(chosen.photos.glob(f"{ANIMAL}/*.jpg"))
    if not drawings or not all(photos.inspect(file.read_bytes())[0].drawn for file in drawings):
        raise SystemExit(f"Expected drawings in {chosen.photos}. Make them: menagerie sample {chosen.photos}")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1400, "height": 760}, color_scheme="light")
        page.set_default_timeout(60_000)
        _log_in(page, chosen)
        pictures = {
            "airflow": _dag_run(page, chosen),
            "menagerie": _animal(page, chosen),
            "assets": _assets(page, chosen),
            "report": _report(page, chosen),
        }
        for name, picture in pictures.items():
            _keep(name, picture)
        chromium.close()


def _chromium() -> str:
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    if path := next(found, None):
        return path
    raise SystemExit("No Chromium is installed: apt-get install chromium")


def _log_in(page: Page, chosen: Settings) -> None:
    page.goto(chosen.airflow_url)
    page.locator("[name=username]").fill(USER)
    page.locator("[name=password]").fill(password(chosen))
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Menagerie").wait_for()


def _dag_run(page: Page, chosen: Settings) -> bytes:
    """The last retraining that ended well, in Airflow."""
    path = f"dags/retrain_{ANIMAL}/dagRuns"
    runs: list[dict[str, Any]] = stack.client(chosen).get(path, order_by="-id", state="success", limit=1)["dag_runs"]
    if not runs:
        raise SystemExit(f"Expected a retraining that ended well. Run retrain_{ANIMAL} first.")
    page.goto(f"{chosen.airflow_url}/dags/retrain_{ANIMAL}/runs/{quote(runs[0]['dag_run_id'], safe='')}")
    page.get_by_text("promote", exact=True).first.wait_for()
    page.wait_for_timeout(2000)  # it moves into place
    return page.screenshot()


def _assets(page: Page, chosen: Settings) -> bytes:
    """How the DAGs start each other, as Airflow draws it around an asset."""
    page.goto(f"{chosen.airflow_url}/assets")
    page.get_by_role("link", name=f"dataset://{ANIMAL}").click()
    page.get_by_text(f"model://{ANIMAL}").wait_for()
    page.add_style_tag(content=".react-flow__panel { display: none }")  # the map of the map, and the buttons
    page.wait_for_timeout(2000)
    nodes = [node.bounding_box() for node in page.locator(".react-flow__node").all()]
    boxes = [box for box in nodes if box]
    left, top = (min(box[side] for box in boxes) - 12 for side in ("x", "y"))
    right = max(box["x"] + box["width"] for box in boxes) + 12
    bottom = max(box["y"] + box["height"] for box in boxes) + 12
    return page.screenshot(clip={"x": left, "y": top, "width": right - left, "height": bottom - top})


def _animal(page: Page, chosen: Settings) -> bytes:
    """The animal on the Menagerie page, in Airflow."""
    page.goto(f"{chosen.airflow_url}/plugin/menagerie")
    frame = page.frame_locator("iframe")
    frame.locator(f"#{ANIMAL}").evaluate("element => element.scrollIntoView()")
    page.wait_for_timeout(2000)  # pictures come when they are seen
    return page.screenshot()


def _report(page: Page, chosen: Settings) -> bytes:
    """The head of the last report, as it looks by itself; it must say that it is on drawings."""
    address = f"{chosen.airflow_url}/menagerie/"
    page.goto(address)
    link = page.locator(f"#{ANIMAL}").get_by_text("Report of the last retraining").get_attribute("href")
    page.set_viewport_size({"width": 960, "height": 1300})
    page.goto(f"{address}{link}")
    page.get_by_text("These are drawings").wait_for()
    return page.screenshot()


def _keep(name: str, picture: bytes) -> None:
    """Keep it with as many colours as `MOST_BYTES` allow."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    for colours in (256, 128, 64, 32):
        packed = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
        if packed.tell() < MOST_BYTES:
            break
    (FOLDER / f"{name}.png").write_bytes(packed.getvalue())
    print(f"docs/{name}.png: {packed.tell():,} bytes, {colours} colours")


if __name__ == "__main__":
    main()
