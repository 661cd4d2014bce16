import os
import subprocess
import sys
from pathlib import Path

import pytest

from ml import settings
from ml.errors import ParameterError


def test_with_nothing_set_everything_lies_in_the_checkout() -> None:
    read = settings.read({})
    assert read.home == settings.CHECKOUT / "var"
    assert read.photos == read.home / "drawings"
    assert read.animals == settings.CHECKOUT / "animals.toml"
    assert (read.cache, read.datasets) == (read.home / "cache", read.home / "datasets")
    assert (read.airflow_url, read.mlflow_uri) == ("http://127.0.0.1:8080", "http://127.0.0.1:5000")
    assert 1 <= read.parallelism <= 8


def test_every_variable_is_heard(tmp_path: Path) -> None:
    read = settings.read(
        {
            "MENAGERIE_HOME": str(tmp_path / "home"),
            "MENAGERIE_PHOTOS": str(tmp_path / "zoo"),
            "MENAGERIE_ANIMALS": str(tmp_path / "a.toml"),
            "MENAGERIE_HOST": "192.168.1.5",
            "MENAGERIE_AIRFLOW_PORT": "18080",
            "MENAGERIE_MLFLOW_PORT": "15000",
            "MENAGERIE_PARALLELISM": "3",
            "MENAGERIE_PRESET": "quick",
        }
    )
    assert (read.home, read.photos, read.animals) == (tmp_path / "home", tmp_path / "zoo", tmp_path / "a.toml")
    assert (read.airflow_url, read.mlflow_uri) == ("http://192.168.1.5:18080", "http://192.168.1.5:15000")
    assert (read.host, read.parallelism, read.preset) == ("192.168.1.5", 3, "quick")
    assert settings.read({"MLFLOW_TRACKING_URI": "http://elsewhere:1"}).mlflow_uri == "http://elsewhere:1"


def test_photos_by_url_come_to_a_folder_of_this_machine(tmp_path: Path) -> None:
    read = settings.read({"MENAGERIE_HOME": str(tmp_path), "MENAGERIE_PHOTOS": "s3://zoo/my photos/"})
    assert read.photos == tmp_path / "mirrors/s3/zoo/my photos"
    assert read.root() == "s3://zoo/my photos"
    assert read.root("gs://zoo/new/") == "gs://zoo/new"
    assert read.root("new") == str(Path("new").absolute())
    assert settings.read({"MENAGERIE_PHOTOS": str(tmp_path)}).root() == str(tmp_path)


def test_a_store_is_an_address_in_an_object_store() -> None:
    assert settings.read({}).store == settings.read({"MENAGERIE_STORE": ""}).store == ""
    assert settings.read({"MENAGERIE_STORE": "gs://zoo/shared/"}).store == "gs://zoo/shared"


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3:///zoo",
        "file:///zoo",
        "S3://zoo",
        "s3://zoo/../x",
        "file://..",
        "file://../x",
        "file://~/x",
        "local://.",
        "s3://zoo//x",
        "://zoo",
    ],
)
def test_an_address_of_no_object_is_refused_by_its_name(text: str) -> None:
    for name in ("MENAGERIE_STORE", "MENAGERIE_PHOTOS"):
        with pytest.raises(
            ParameterError, match=f"{name} must be such as s3://bucket/folder or gs://bucket/folder. Rec"
        ):
            settings.read({name: text})
    with pytest.raises(ParameterError, match="A URL of photos must be such as"):
        settings.read({}).root(text)
    with pytest.raises(ParameterError, match="MENAGERIE_STORE must be such as"):
        settings.read({"MENAGERIE_STORE": "/mnt/zoo"})


def test_servers_on_every_address_are_found_on_this_machine() -> None:
    read = settings.read({"MENAGERIE_HOST": "0.0.0.0", "MENAGERIE_AIRFLOW_PORT": "18080"})
    assert read.host == "0.0.0.0"
    assert (read.airflow_url, read.mlflow_uri) == ("http://127.0.0.1:18080", "http://127.0.0.1:5000")
    assert read.own_mlflow_uri == read.mlflow_uri


def test_photos_follow_the_home_and_relative_paths_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = settings.read({"MENAGERIE_HOME": "mine"})
    assert (read.home, read.photos) == (tmp_path / "mine", tmp_path / "mine" / "drawings")


def test_an_empty_variable_counts_as_not_set() -> None:
    names = ["HOME", "PHOTOS", "ANIMALS", "HOST", "AIRFLOW_PORT", "MLFLOW_PORT", "PARALLELISM", "NOTIFY", "SMTP"]
    empty = {f"MENAGERIE_{name}": "" for name in names} | {"MLFLOW_TRACKING_URI": ""}
    assert settings.read(empty) == settings.read({})


@pytest.mark.parametrize("text", ["0", "65536", "-1", "80a", "8080.5", "1e3", "²"])
def test_a_port_that_is_none_is_refused_by_its_name(text: str) -> None:
    for name in ("MENAGERIE_AIRFLOW_PORT", "MENAGERIE_MLFLOW_PORT"):
        with pytest.raises(ParameterError) as caught:
            settings.read({name: text})
        assert str(caught.value) == f"{name} must be a whole number from 1 to 65535. Received: {text!r}."


def test_a_training_uses_one_gpu_unless_told_otherwise() -> None:
    assert [settings.read({"MENAGERIE_GPUS": text}).gpus for text in ("", "1", "4", "all")] == [1, 1, 4, None]
    with pytest.raises(ParameterError, match=r"MENAGERIE_GPUS must be a whole number from 1 to 64, or all\. Received"):
        settings.read({"MENAGERIE_GPUS": "many"})


@pytest.mark.parametrize("text", ["0", "65", "many"])
def test_a_parallelism_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="MENAGERIE_PARALLELISM must be a whole number from 1 to 64"):
        settings.read({"MENAGERIE_PARALLELISM": text})


def test_whom_to_tell_is_a_list_of_addresses() -> None:
    assert settings.read({}).notify == settings.read({"MENAGERIE_NOTIFY": "log"}).notify == ()
    several = settings.read({"MENAGERIE_NOTIFY": " log https://host/hook?x=1  mailto:me@host "})
    assert several.notify == ("https://host/hook?x=1", "mailto:me@host")
    assert settings.read({"MENAGERIE_SMTP": "smtps://me:secret@host:465?from=a@b"}).smtp.endswith("?from=a@b")


@pytest.mark.parametrize("text", ["you@zoo", "ftp://zoo", "https://", "mailto:zoo", "https://zoo/ slack"])
def test_an_address_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ParameterError, match="MENAGERIE_NOTIFY must be addresses such as https://host/path") as caught:
        settings.read({"MENAGERIE_NOTIFY": text})
    assert "zoo" not in str(caught.value)


@pytest.mark.parametrize("text", ["host:25", "http://host", "smtp://", "smtp://host/path", "smtp://host?to=me@host"])
def test_a_mail_server_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="MENAGERIE_SMTP must be such as smtp://user:password@host:587"):
        settings.read({"MENAGERIE_SMTP": text})


def test_secrets_are_not_shown() -> None:
    read = settings.read({"MENAGERIE_NOTIFY": "https://host/secret", "MENAGERIE_SMTP": "smtp://me:secret@host"})
    assert "secret" not in repr(read)


def test_the_environment_is_read_when_asked_and_reading_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENAGERIE_HOME", str(tmp_path / "later"))
    assert settings.read().home == tmp_path / "later"
    assert not (tmp_path / "later").exists()


def test_the_data_layer_imports_nothing_heavy() -> None:
    modules = "ml.settings, ml.animals, ml.params, ml.data.datasets, ml.data.validation"
    heavy = "{'tensorflow', 'keras', 'sklearn', 'mlflow', 'matplotlib', 'great_expectations', 'airflow'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert run.stdout == "[]\n"


def test_links_lead_where_a_browser_finds_the_pages() -> None:
    inside = {"MLFLOW_TRACKING_URI": "http://mlflow:5000"}
    read = settings.read(inside)
    assert (read.airflow_link, read.mlflow_link) == ("http://127.0.0.1:8080", "http://mlflow:5000")
    read = settings.read(
        {**inside, "MENAGERIE_AIRFLOW_PAGE": "https://a.org/", "MENAGERIE_MLFLOW_PAGE": "https://m.org"}
    )
    assert (read.airflow_link, read.mlflow_link) == ("https://a.org", "https://m.org")
    assert (read.airflow_url, read.mlflow_uri) == ("http://127.0.0.1:8080", "http://mlflow:5000")


def test_a_password_is_not_shown() -> None:
    read = settings.read({"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "hush"})
    assert read.mlflow_login == ("admin", "hush")
    assert "hush" not in repr(read)
    assert settings.read({}).mlflow_login is None


def test_an_unknown_setting_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(
        ParameterError, match=r"MENAGERIE_PRESETT is not a setting of Menagerie. Did you mean MENAGERIE_PRESET"
    ):
        settings.read({"MENAGERIE_PRESETT": "quick"})
    with pytest.raises(ParameterError, match="Settings: MENAGERIE_AIRFLOW_PAGE, "):
        settings.read({"MENAGERIE_XYZ": ""})


def test_names_of_services_in_kubernetes_are_no_settings() -> None:
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_API": "8080",
        "PORT": "tcp://10.0.0.1:8080",
    }
    links |= {"PORT_8080_TCP": "tcp://10.0.0.1:8080", "PORT_8080_TCP_ADDR": "10.0.0.1"}
    settings.read({f"MENAGERIE_API_SERVER_{name}": value for name, value in links.items()})


def test_a_wrong_preset_is_refused() -> None:
    with pytest.raises(
        ParameterError, match=r"MENAGERIE_PRESET must be one of quick, standard, thorough. Received: 'fast'"
    ):
        settings.read({"MENAGERIE_PRESET": "fast"})


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5182/internal",
        "https://169.254.169.254/x",
        "file:///etc",
        "ftp://a/b",
        "github://a",
        "local://x",
    ],
)
def test_photos_are_named_in_object_stores_that_are_allowed_alone(url: str) -> None:
    with pytest.raises(ParameterError, match=r"Photos may be read from s3://, gs://|must be such as s3"):
        settings.read({}).root(url)
    assert settings.read({}).root("s3://bucket/photos/") == "s3://bucket/photos"
    assert settings.read({"MENAGERIE_PROTOCOLS": "ftp s3"}).root("ftp://a/b") == "ftp://a/b"
    assert settings.read({"MENAGERIE_PHOTOS": "ftp://a/b"}).root("ftp://a/c") == "ftp://a/c"


def test_photos_are_named_in_folders_that_are_allowed_alone(tmp_path: Path) -> None:
    allowed, other = tmp_path / "camera traps", tmp_path / "other"
    for folder in (allowed / "site 1", other, tmp_path / "own"):
        folder.mkdir(parents=True)
    (allowed / "link").symlink_to(other)
    chosen = settings.read(
        {"MENAGERIE_PHOTOS": str(tmp_path / "own"), "MENAGERIE_PHOTO_FOLDERS": f"{allowed}/; s3://bucket/photos"}
    )
    for named in (allowed, allowed / "site 1", tmp_path / "own", "", "s3://bucket/photos", "s3://bucket/photos/x"):
        assert chosen.root(str(named))
    for named in (other, allowed / "link", allowed / ".." / "other", "s3://bucket/photos2", "gs://bucket/photos"):
        with pytest.raises(ParameterError, match="MENAGERIE_PHOTO_FOLDERS"):
            chosen.root(str(named))
    assert settings.read({}).root(str(other)) == str(other)
