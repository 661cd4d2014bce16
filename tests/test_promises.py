"""SECURITY.md names a test for each promise: all of them exist, under these names."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_promise_has_its_test() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = [line for line in text.partition("## Promises")[2].splitlines() if line.startswith("| ")][2:]
    assert len(promises) > 20
    for promise in promises:
        named = NAMED.findall(promise)
        assert named, promise
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), promise
