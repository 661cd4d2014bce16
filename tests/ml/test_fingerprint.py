import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml import fingerprint

STAGES = ("baseline", "floor", "explain", "transfer", "features")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(fingerprint.PACKAGE, tmp_path / "ml", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def named(root: Path) -> dict[str, str]:
    """Return the fingerprints of some stages of the code below `root`."""
    program = f"from ml import fingerprint\nfor name in {STAGES}: print(fingerprint.of(f'ml.stages.{{name}}'))"
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True)
    return dict(zip(STAGES, said.stdout.split(), strict=True))


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


def test_the_same_code_has_the_same_name_wherever_it_is_installed(copy: Path) -> None:
    assert named(copy) == {name: fingerprint.of(f"ml.stages.{name}") for name in STAGES}


def test_what_depends_on_a_changed_module_has_another_name_and_the_rest_keeps_its(copy: Path) -> None:
    before = named(copy)
    edit(copy / "ml/models/histogram.py", "\nimport", "\nBINS_MORE = 1\nimport")
    after = named(copy)
    # `explain` fits whatever stage has won, which it imports by name.
    assert {name for name in STAGES if after[name] != before[name]} == {"floor", "explain"}


def test_comments_docstrings_and_layout_change_no_name(copy: Path) -> None:
    before = named(copy)
    for file in copy.rglob("*.py"):
        source = file.read_text().replace('"""\n', ' More words."""\n', 1)
        file.write_text(f"# A comment.\n\n{source}\n\n# Another.\n")
    assert named(copy) == before


def test_a_changed_constant_deep_in_a_function_changes_the_name(copy: Path) -> None:
    before = named(copy)
    edit(copy / "ml/stages/features.py", "np.concatenate(rows)", "np.concatenate(rows) * 2")
    after = named(copy)
    assert after["features"] != before["features"]
    assert after["transfer"] != before["transfer"]
    assert after["floor"] == before["floor"]


@pytest.mark.parametrize("library", ["pillow", "scikit-learn", "tensorflow"])
def test_another_version_of_a_numeric_library_is_another_name(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint.of("ml.stages.transfer")
    real = fingerprint._version
    monkeypatch.setattr(fingerprint, "_version", lambda name: "99" if name == library else real(name))
    assert fingerprint.of.__wrapped__("ml.stages.transfer") != before


def test_decoding_depends_on_pillow_and_on_no_tensorflow() -> None:
    assert fingerprint.libraries("ml.data.photos").keys() == {"numpy", "pillow", "pi-heif"}


def test_imports_inside_functions_and_by_name_are_followed() -> None:
    assert "ml.models.backbones" in fingerprint.closure("ml.stages.features")
    assert "ml.stages.classes" in fingerprint.closure("ml.stages.final")


def test_a_module_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"ml\.stages\.nothing"):
        fingerprint.of("ml.stages.nothing")
