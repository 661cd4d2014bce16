import pytest

from ml import mlflow_pages

SERVER = "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ((), "experiments"),
        (("3",), "experiments/3"),
        (("3", "ab"), "experiments/3/runs/ab"),
        (("3", "ab", "artifacts/tables/unreadable.csv"), "experiments/3/runs/ab/artifacts/tables/unreadable.csv"),
    ],
)
def test_the_query_stands_behind_the_path_within_mlflow(where: tuple[str, ...], path: str) -> None:
    assert mlflow_pages.page(SERVER, *where) == f"{SERVER}/#/{path}?workflowType=machine_learning"
