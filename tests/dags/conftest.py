"""Airflow writes where it is told to: into a folder that goes with the tests."""

import atexit
import os
import shutil
import tempfile

# Read when airflow is first imported, which is before any fixture.
if "AIRFLOW_HOME" not in os.environ:
    os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="menagerie-airflow-")
    atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "false"
