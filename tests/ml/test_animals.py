from pathlib import Path

import pytest

from ml import settings
from ml.animals import Animal, faults, indefinite, read
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


@pytest.mark.parametrize("text", ["", "# nothing yet\n"])
def test_a_file_without_animals_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"names no animal. Expected a table such as \[fox\]"):
        _read(tmp_path, text)


HEALTHY = f"[ant]\n{TIGER}"


@pytest.mark.parametrize(
    ("table", "line", "says"),
    [
        (
            f"[tiger]\n{TIGER}colour = 'orange'\n",
            4,
            "colour is not a key of an animal. Keys: positives, negatives, hold",
        ),
        (f"[tiger]\n{TIGER}negative = []\n", 4, "Did you mean negatives?"),
        (f"[tiger]\n{TIGER}[tiger.fox]\n", 4, "fox is not a key of an animal"),
        (
            "[tiger]\npositives = 'tiger/*'\nnegatives = ['*']\n",
            2,
            'positives must be a list of globs, such as ["fox/*"].',
        ),
        ("[tiger]\nnegatives = ['*']\npositives = [7]\n", 3, "Received: 7"),
        ("[tiger]\npositives = []\nnegatives = ['*']\n", 2, "positives must be a list of globs"),
        ("[tiger]\npositives = ['*']\n", 1, "negatives is missing. It must be a list of globs"),
        (f"[tiger]\n{TIGER}gan = 'perhaps'\n", 4, 'gan must be true or false. Received: "perhaps"'),
        (f"[tiger]\n{TIGER}preset = 'thourough'\n", 4, 'preset must be "quick", "standard" or "thorough". Received'),
        (f"[tiger]\n{TIGER}schedule = '61 * * * *'\n", 4, "schedule must be five cron fields that meet some day"),
        (f"[tiger]\n{TIGER}schedule = '0 0 30 2 *'\n", 4, 'Received: "0 0 30 2 *"'),
        (f"[tiger]\n{TIGER}name = 'lion'\n", 4, "name is not a key of an animal: its name is the heading, [tiger]"),
        (f"[Tiger]\n{TIGER}", 1, "the name of an animal must be at most 40 lower-case letters"),
        (f"['../tiger']\n{TIGER}", 1, "the name of an animal must be"),
        (f"[tiger]\n{TIGER}gan = yes\n", 4, "it is not TOML: Invalid value. Received: gan = yes"),
        (f"[tiger]\n{TIGER}gan =\n", 4, "it is not TOML"),
        (f"[tiger\n{TIGER}", 1, "it is not TOML"),
        (
            "[tiger]\npositives = ['l\udcf6we/*']\nnegatives = ['*']\n",
            2,
            "Save the file as UTF-8. Received, read as Latin-1",
        ),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_bad_table_stops_its_animal_alone_and_names_line_and_key(
    table: str, line: int, says: str, first: bool, tmp_path: Path
) -> None:
    text = table + HEALTHY if first else HEALTHY + table
    animals = _read(tmp_path, text.encode(errors="surrogateescape"))
    assert list(animals) == ["ant"]
    ((heading, (fault, *others)),) = faults(tmp_path / "animals.toml").items()
    assert fault.text not in [other.text for other in others], "said once"
    assert heading.lower().strip("./") == "tiger"
    assert fault.line == line + (0 if first else 3)
    assert says in fault.text
    assert str(fault).startswith(f"{tmp_path / 'animals.toml'}, line {fault.line}, table [")
    assert not {"tuple", "Field", "Value error", "Input"} & set(fault.text.replace(",", " ").split())


@pytest.mark.parametrize("text", ["tiger = 3\n", f"[[tiger]]\n{TIGER}"])
def test_what_is_no_table_is_said_once(text: str, tmp_path: Path) -> None:
    assert list(_read(tmp_path, text + HEALTHY)) == ["ant"]
    ((_, (fault,)),) = faults(tmp_path / "animals.toml").items()
    assert "expected a table, with [tiger] as its heading. Received: tiger = " in fault.text
    assert fault.line == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_byte_order_mark_is_read_over(encoding: str, newline: str, tmp_path: Path) -> None:
    assert list(_read(tmp_path, HEALTHY.replace("\n", newline).encode(encoding))) == ["ant"]
    assert faults(tmp_path / "animals.toml") == {}


def test_another_encoding_of_two_bytes_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"line 1: the file is saved as UTF-16 .*Save it as UTF-8"):
        _read(tmp_path, HEALTHY.encode("utf-16"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fox", "a fox"),
        ("elephant", "an elephant"),
        ("owl", "an owl"),
        ("ape", "an ape"),
        ("red_fox", "a red fox"),
        ("unicorn", "a unicorn"),
    ],
)
def test_an_animal_has_its_article(name: str, words: str) -> None:
    assert indefinite(name) == words


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"Expected the table of animals at .*/none.toml. Received: No such file"):
        read(tmp_path / "none.toml")
    with pytest.raises(ParameterError, match="Received: Is a directory"):
        read(tmp_path)
