"""What of a person's environment reaches the programs of the stack.

A variable stays out if it belongs to one of the families that decide what Python, Keras, MLflow, Git, matplotlib and
web servers do: it was set for other programs, and would change what ours read, write or compute. Of these families a
few names are let in, because they are settings of Menagerie or change nothing but speed and patience. Everything else
passes: Airflow's and TensorFlow's own options, GPUs, credentials, proxies, the locale.
"""

import re
from collections.abc import Mapping

FAMILIES = re.compile(
    r"PYTHON(?!_)|KERAS|MLFLOW_|GIT_|GX_|MPL|MATPLOTLIB|FLASK_|UVICORN_|GUNICORN_|WEB_CONCURRENCY$"
    r"|AIRFLOW_CONFIG$|TF_USE_LEGACY_KERAS$|XLA_FLAGS$"
)
LET_IN = re.compile(
    r"PYTHON(DONTWRITEBYTECODE|FAULTHANDLER|HASHSEED|PYCACHEPREFIX|UNBUFFERED)$"
    r"|GIT_SSL_|MLFLOW_TRACKING_URI$|MLFLOW_SERVER_(ALLOWED_HOSTS|CORS_ALLOWED_ORIGINS|X_FRAME_OPTIONS)$|MLFLOW_HTTP_"
)
OF_ANOTHER_SERVER = re.compile(r"MLFLOW_(TRACKING|S3|GCS|BOTO|KERBEROS|WORKSPACE)")
"""How clients reach an MLflow server that isn't ours."""

PROXY = re.compile(r"(https?|all)_proxy$", re.IGNORECASE)
PROXIES = re.compile(r"(https?|socks5h?)://|[^:/]+(:\d+)?/?$|$", re.IGNORECASE)
"""What HTTP clients can go through. They fail before they ask anything if a variable names another kind."""


def inherited(environ: Mapping[str, str], owns_mlflow: bool) -> dict[str, str]:
    """Return the variables of `environ` that programs of the stack may see.

    Args:
        environ: a process's environment.
        owns_mlflow: whether the MLflow server is the stack's own; if not, what clients need for it is let in as well.
    """
    passed = {}
    for name, value in environ.items():
        let_in = LET_IN.match(name) or (not owns_mlflow and OF_ANOTHER_SERVER.match(name))
        if FAMILIES.match(name) and not let_in:
            continue
        if PROXY.match(name):
            value = re.sub(r"^socks:", "socks5:", value.strip())  # as desktops write it  # noqa: PLW2901
            if not PROXIES.match(value):
                continue
        passed[name] = value
    return passed


def left_out(environ: Mapping[str, str], stack: Mapping[str, str], owns_mlflow: bool) -> list[str]:
    """Return the variables of `environ` that don't reach a `stack` with these variables, or that it sets otherwise."""
    passed = inherited(environ, owns_mlflow)
    return sorted(name for name, value in environ.items() if name not in passed and stack.get(name) != value)
