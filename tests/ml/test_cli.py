import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ml import cli


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MENAGERIE_PHOTOS", "MENAGERIE_ANIMALS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_imports_nothing_heavy() -> None:
    heavy = "{'airflow', 'mlflow', 'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib'}"
    subprocess.run(
        [sys.executable, "-c", f"import sys, ml.cli; sys.exit(bool({heavy} & sys.modules.keys()))"], check=True
    )


@pytest.mark.parametrize("arguments", [[], ["fly"], ["score"], ["demo", "--photos"]])
def test_wrong_use_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: menagerie" in capsys.readouterr().err


def test_a_wrong_setting_is_wrong_use(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MENAGERIE_AIRFLOW_PORT", "eighty")
    assert cli.main(["down"]) == 2
    assert (
        "MENAGERIE_AIRFLOW_PORT must be a whole number from 1 to 65535. Received: 'eighty'" in capsys.readouterr().err
    )


def test_a_demo_needs_a_folder_of_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--photos", str(tmp_path / "nowhere")]) == 2
    assert str(tmp_path / "nowhere") in capsys.readouterr().err


def test_a_demo_says_why_it_cant_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "home"))
    assert cli.main(["demo", "--preset", "quick"]) == 1
    assert str(tmp_path / "home") in capsys.readouterr().err


def test_a_failure_is_told_in_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert cli.main(["sample", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("menagerie: ")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_down_without_a_stack(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["down"]) == 0
    assert "Nothing was running" in capsys.readouterr().out


def test_sample_draws(tmp_path: Path) -> None:
    assert cli.main(["sample", str(tmp_path / "drawings")]) == 0
    assert len(list((tmp_path / "drawings").glob("tiger/*.jpg"))) == 40


def test_download_unpacks_into_the_folder_of_photos(tmp_path: Path, home: Path) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("fox/1.jpg", b"not looked at")
    assert cli.main(["download", str(tmp_path / "photos.zip")]) == 0
    assert (home / "drawings" / "fox" / "1.jpg").read_bytes() == b"not looked at"


def test_download_needs_a_folder_if_the_photos_are_at_a_url(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MENAGERIE_PHOTOS", "s3://zoo/photos")
    assert cli.main(["download", "photos.zip"]) == 2
    assert "The photos are at s3://zoo/photos. Name the folder to unpack into." in capsys.readouterr().err


def test_airflow_is_run_on_the_stack(home: Path) -> None:
    command = [sys.executable, "-m", "ml.cli", "airflow", "config", "get-value", "database", "sql_alchemy_conn"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(home / "airflow" / "airflow.db") in answer.stdout
