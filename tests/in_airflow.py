"""Programs that run within an Airflow of their own, in one process: no scheduler, no server."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DAGS = Path(__file__).resolve().parents[1] / "dags"


def make_airflow(home: Path, **variables: str) -> dict[str, str]:
    """Make Airflow's database in `home`, where Menagerie is at home too; return the variables to run with.

    `variables` are more of them.
    """
    environment = (
        os.environ
        | {
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "MENAGERIE_HOME": str(home),
            "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        | variables
    )
    subprocess.run(["airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return environment


def results_of(program: str, argument: Any, environment: dict[str, str]) -> list[Any]:
    """Run a program with the folder of DAGs and `argument`, in JSON; return what it printed in lines of RESULT."""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(DAGS), json.dumps(argument)],
        env=environment,
        cwd=environment["MENAGERIE_HOME"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return [json.loads(line[7:]) for line in ended.stdout.splitlines() if line.startswith("RESULT ")]
