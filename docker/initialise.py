"""What a cluster needs once, before anything else starts: databases and their users, tables, the login, photos.

Everything here may be done again: what is there stays, and a password follows docker/.env.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg2
from psycopg2 import sql

from ml import settings
from ml.environment import USER

MLFLOW = "postgresql+psycopg2://mlflow@postgres/mlflow"


def main() -> None:
    chosen = settings.read()
    passwords = {name: os.environ[f"{name.upper()}_DATABASE_PASSWORD"] for name in ("airflow", "mlflow")}
    make_databases(passwords, os.environ["POSTGRES_PASSWORD"])
    run("menagerie", "airflow", "db", "migrate")
    run("mlflow", "db", "upgrade", MLFLOW, PGPASSWORD=passwords["mlflow"])
    run("python", "-m", "mlflow.server.auth", "db", "upgrade", "--url", MLFLOW, PGPASSWORD=passwords["mlflow"])
    keep_login(chosen.home / "airflow" / "passwords.json", os.environ["AIRFLOW_PASSWORD"])
    if not os.environ.get("PHOTOS_GIVEN"):
        with TemporaryDirectory() as folder:
            run("menagerie", "sample", f"{folder}/drawings")
            shutil.copytree(f"{folder}/drawings", chosen.photos, dirs_exist_ok=True)


def make_databases(passwords: Mapping[str, str], password: str) -> None:
    """Make for each name a user, and a database that is theirs alone."""
    connection = psycopg2.connect(host="postgres", user="postgres", password=password)
    connection.autocommit = True  # PostgreSQL makes no database inside a transaction
    with connection.cursor() as cursor:
        for name, own in passwords.items():
            user = sql.Identifier(name)
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(user))
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD %s").format(user), [own])
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(user, user))
                cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(user))
    connection.close()


def keep_login(path: Path, password: str) -> None:
    """Write the password of Airflow's user to where its API server looks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({USER: password}, file)
    aside.replace(path)


def run(*command: str, **variables: str) -> None:
    print(*command, flush=True)
    subprocess.run(command, env={**os.environ, **variables}, check=True)


if __name__ == "__main__":
    main()
