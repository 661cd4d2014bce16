import os
import subprocess
import sys

import pytest

from ml.addresses import is_local
from ml.inherited import inherited, left_out


@pytest.mark.parametrize(
    "name",
    [
        *("PYTHONPATH", "PYTHONWARNINGS", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONSTARTUP"),
        *("KERAS_BACKEND", "KERAS_HOME", "KERAS_MAX_EPOCHS", "KERASTUNER_ORACLE_IP", "TF_USE_LEGACY_KERAS"),
        *(
            "MLFLOW_RUN_ID",
            "MLFLOW_EXPERIMENT_NAME",
            "MLFLOW_REGISTRY_URI",
            "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_WORKSPACE",
        ),
        *("MLFLOW_STATIC_PREFIX", "MLFLOW_DEFAULT_ARTIFACT_ROOT", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_PORT"),
        *("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"),
        *("GIT_DIR", "GIT_WORK_TREE", "MPLBACKEND", "MATPLOTLIBRC", "UVICORN_RELOAD", "FLASK_DEBUG", "AIRFLOW_CONFIG"),
    ],
)
def test_what_is_for_other_programs_stays_out_and_is_named(name: str) -> None:
    assert inherited({name: "x"}, owns_mlflow=True) == {}
    assert left_out({name: "x"}, {}, owns_mlflow=True) == [name]
    assert left_out({name: "x"}, {name: "x"}, owns_mlflow=True) == []


@pytest.mark.parametrize(
    "name",
    [
        *("AIRFLOW__CORE__PARALLELISM", "AIRFLOW_CONN_ZOO", "TF_ENABLE_ONEDNN_OPTS", "OMP_NUM_THREADS", "CUDA_PATH"),
        *("AWS_ACCESS_KEY_ID", "HOME", "LANG", "TZ", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE", "PYTHON_VERSION"),
        *("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_TRACKING_URI", "GIT_SSL_CAINFO"),
    ],
)
def test_settings_credentials_and_the_machine_pass(name: str) -> None:
    assert inherited({name: "x"}, owns_mlflow=True) == {name: "x"}
    assert left_out({name: "x"}, {}, owns_mlflow=True) == []


def test_what_clients_of_another_mlflow_need_passes_if_there_is_one() -> None:
    theirs = {
        "MLFLOW_TRACKING_TOKEN": "t",
        "MLFLOW_TRACKING_INSECURE_TLS": "true",
        "MLFLOW_S3_ENDPOINT_URL": "http://s3",
    }
    assert inherited({**theirs, "MLFLOW_RUN_ID": "0"}, owns_mlflow=False) == theirs


@pytest.mark.parametrize(
    ("proxy", "passed"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy:3128", "proxy:3128"),
        ("http://me:pw@proxy:3128/", "http://me:pw@proxy:3128/"),
        ("socks5h://127.0.0.1:1080", "socks5h://127.0.0.1:1080"),
        ("socks://127.0.0.1:1080/", "socks5://127.0.0.1:1080/"),
        ("", ""),
        ("socks4://127.0.0.1:1080", None),
        ("ftp://proxy", None),
    ],
)
def test_a_proxy_that_clients_cannot_use_breaks_none(proxy: str, passed: str | None) -> None:
    for name in ("ALL_PROXY", "all_proxy", "HTTPS_PROXY", "http_proxy"):
        variables = inherited({name: proxy}, owns_mlflow=True)
        assert variables.get(name) == passed
        assert left_out({name: proxy}, variables, owns_mlflow=True) == ([] if passed == proxy or passed else [name])
    bare = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    subprocess.run([sys.executable, "-c", "import httpx; httpx.Client()"], env=bare | variables, check=True)


def test_an_address_is_of_this_machine_or_it_is_not() -> None:
    for host in (
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "127.0.0.1",
        "127.1.2.3",
        "[::1]",
        "0.0.0.0",
        "me:pw@localhost",
    ):
        assert is_local(f"http://{host}:5000/x"), host
    for url in (
        "http://127.0.0.1.evil.com",
        "http://localhost.evil.com",
        "http://10.0.0.1",
        "sqlite:///a",
        "http://[x",
    ):
        assert not is_local(url), url
