from pathlib import Path

import pytest

from ml import settings
from ml.animals import Animal, read
from ml.errors import ParameterError

TIGER = 'positives = ["tiger/*"]\nnegatives = ["Tiger_negative_class/*", "*/*"]\n'


def _read(tmp_path: Path, text: str | bytes) -> dict[str, Animal]:
    file = tmp_path / "animals.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(file)


def test_the_table_of_this_checkout_is_read() -> None:
    animals = read(settings.CHECKOUT / "animals.toml")
    assert list(animals) == ["tiger", "fox", "elephant"]
    assert [name for name, animal in animals.items() if animal.gan] == ["fox"]
    assert animals["tiger"].is_positive("tiger/108004.jpg")


def test_defaults_and_order(tmp_path: Path) -> None:
    animals = _read(
        tmp_path, f"[tiger]\n{TIGER}[ant]\n{TIGER}gan = true\nholdout = ['*/test_*']\nschedule = '0 3 * * 1'\n"
    )
    assert list(animals) == ["tiger", "ant"]
    assert (animals["tiger"].gan, animals["tiger"].holdout, animals["tiger"].schedule) == (False, (), "@weekly")
    assert (animals["ant"].gan, animals["ant"].name, animals["ant"].schedule) == (True, "ant", "0 3 * * 1")


@pytest.mark.parametrize("schedule", ["", "@daily", "@quarterly", "*/5 * * * *", "0 3 * * mon", "0 0 1,15 * *"])
def test_schedules(schedule: str, tmp_path: Path) -> None:
    assert _read(tmp_path, f"[tiger]\n{TIGER}schedule = '{schedule}'\n")["tiger"].schedule == schedule


def test_globs_cross_folders_and_mind_case(tmp_path: Path) -> None:
    tiger = _read(tmp_path, f"[tiger]\n{TIGER}holdout = ['*/test_*']\n")["tiger"]
    assert tiger.is_positive("tiger/2024/one.jpg")
    assert not tiger.is_positive("Tiger/one.jpg")
    assert not tiger.is_positive("tiger.jpg")
    assert tiger.is_holdout("tiger/test_1.jpg")
    assert not tiger.is_holdout("tiger/contest_1.jpg")


def test_the_first_glob_that_finds_negatives_is_used_less_the_positives(tmp_path: Path) -> None:
    tiger = _read(tmp_path, f"[tiger]\n{TIGER}")["tiger"]
    course = ["tiger/1.jpg", "Tiger_negative_class/1.jpg", "fox/1.jpg"]
    assert tiger.choose_negatives(course) == ["Tiger_negative_class/1.jpg"]
    assert tiger.choose_negatives(["tiger/1.jpg", "fox/1.jpg", "1.jpg"]) == ["fox/1.jpg"]
    assert tiger.choose_negatives(["tiger/1.jpg"]) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no animal. Expected a table such as [fox] with positives and negatives."),
        ("# nothing yet\n", "names no animal"),
        ("[tiger\n", "is not TOML: Expected ']'"),
        (b"[tiger]\npositives = ['\xff']\n", "is not TOML"),
        ("tiger = 3\n", "expected tables such as [fox], named by their heading. Received: tiger = 3"),
        (
            f"[tiger]\n{TIGER}colour = 'orange'\n",
            "table [tiger]: colour: Extra inputs are not permitted (received 'orange')",
        ),
        (
            f"[tiger]\n{TIGER}colour = 1\n",
            "Keys: positives, negatives, holdout, gan, group, apart, schedule, preset",
        ),
        (f"[tiger]\n{TIGER}[tiger.fox]\n", "table [tiger]: fox: Extra inputs are not permitted"),
        (f"[tiger]\n{TIGER}name = 'fox'\n", "named by their heading. Received: tiger = {'positives'"),
        (
            "[tiger]\npositives = 'tiger/*'\nnegatives = ['*']\n",
            "positives: Input should be a valid tuple (received 'tiger/*')",
        ),
        ("[tiger]\npositives = [7]\nnegatives = ['*']\n", "positives.0: Input should be a valid string (received 7)"),
        ("[tiger]\npositives = []\nnegatives = ['*']\n", "positives: Tuple should have at least 1 item"),
        ("[tiger]\npositives = ['*']\n", "table [tiger]: negatives: Field required"),
        (f"[tiger]\n{TIGER}gan = 'perhaps'\n", "gan: Input should be a valid boolean"),
        (f"[tiger]\n{TIGER}require_approval = 'ask'\n", "require_approval: Input should be a valid boolean"),
        (f"[tiger]\n{TIGER}schedule = 'weekly'\n", "schedule: Value error, expected five cron fields"),
        (f"[tiger]\n{TIGER}schedule = '61 * * * *'\n", "such as '0 3 * * 1' (Mondays at 3:00 UTC), or one of @hourly"),
        (f"[tiger]\n{TIGER}schedule = '0 0 3 * * 1'\n", "or '' for never (received '0 0 3 * * 1')"),
        (f"[tiger]\n{TIGER}schedule = '0 0 30 2 *'\n", "that meet some day"),
        (f"[Tiger]\n{TIGER}", "table [Tiger]: name: String should match pattern"),
        (f"['../tiger']\n{TIGER}", "table [../tiger]: name: String should match pattern"),
    ],
)
def test_a_fault_names_the_file_the_table_the_key_and_what_was_received(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError) as caught:
        _read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "animals.toml"))
    assert says in str(caught.value)


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"Expected the table of animals at .*/none.toml. Received: No such file"):
        read(tmp_path / "none.toml")
    with pytest.raises(ParameterError, match="Received: Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("group", "path", "scene"),
    [
        ("*/{site}/*", "fox/north/1.jpg", "site north"),
        ("*/{site}/*", "fox/north/2024/1.jpg", "site north"),
        ("*/{site}/*", "fox/1.jpg", ""),
        ("*/{site}_*", "fox/north_0001.jpg", "site north"),
        ("*/{camera}_{day}_*", "fox/cam2_20240512_0001.jpg", "camera cam2; day 20240512"),
        ("*/{day}/{camera}/*", "fox/2024-05-12/cam2/1.jpg", "day 2024-05-12; camera cam2"),
        ("*/{scene}_?.jpg", "fox/burst.07_3.jpg", "scene burst.07"),
        ("{site}/*", "north/fox/1.jpg", "site north"),
    ],
)
def test_a_group_is_what_the_path_says_in_the_place_of_the_braces(group: str, path: str, scene: str) -> None:
    assert Animal(name="fox", positives=["fox/*"], negatives=["*/*"], group=group).scene(path) == scene


def test_without_a_group_no_path_says_anything() -> None:
    assert Animal(name="fox", positives=["fox/*"], negatives=["*/*"]).scene("fox/north/1.jpg") == ""


@pytest.mark.parametrize(
    "group", ["*/*", "*/{}/*", "*/{site/*", "*/site}/*", "{a}/{a}/*", "{site name}/*", "{{site}}/*"]
)
def test_a_group_without_a_part_in_braces_is_refused(group: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="a pattern with one or more parts in braces, each named once"):
        _read(tmp_path, f"[tiger]\n{TIGER}group = '{group}'\n")
