"""What tests share: pictures that look natural enough to be hashed, folders of them, buckets, a bare user, an ear."""

import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from buckets import S3, Bucket, s3_server
from hypothesis import settings
from PIL import Image

from ml import progress

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the stack
if "PYTEST_XDIST_WORKER" in os.environ:  # workers of one thread each do more than workers that wait for each other's
    for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(threads, "1")

# The same examples in every run; `make fuzz` looks for new ones.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None)
settings.load_profile("fixed")

Picture = Callable[..., Image.Image]


def _picture(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """Return large soft shapes, smaller ones upon them, and grain: another seed, another picture."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128.0)
    for side, strength in ((4, 60), (9, 30), (24, 12)):
        coarse = Image.fromarray(random.integers(0, 256, (side, side * 3 // 2, 3), np.uint8))
        picture += (np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 127.5 - 1) * strength
    picture += random.normal(0, 3, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def picture() -> Picture:
    """`picture(seed, width=96, height=64)` returns a picture of its own for every seed."""
    return _picture


@pytest.fixture(scope="session")
def fill() -> Callable[[Path, dict[str, int]], Path]:
    """`fill(root, {"fox": 6})` writes that many unlike JPEGs into each folder below `root`, and returns `root`."""

    def fill(root: Path, counts: dict[str, int]) -> Path:
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = _picture(zlib.crc32(f"{folder}/{number}".encode()))
                picture.save(root / folder / f"{number:03d}.jpg", quality=90)
        return root

    return fill


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every word that `ml.progress` is told during the test, such as `fold 1 of 5, epoch 2 of 3`."""
    words: list[str] = []

    def hear(reporter: object, loops: tuple, numbers: dict[str, float]) -> None:
        words.append(", ".join(f"{loop.unit} {loop.number:g} of {loop.of}" for loop in loops))

    monkeypatch.setattr(progress._Reporter, "hear", hear)
    with progress.reporting(lambda report: None):
        yield words


@pytest.fixture
def own_environment() -> Iterator[None]:
    """Whatever the test, or what it runs, sets in this process's environment goes with it."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def unprivileged() -> Iterator[Callable]:
    """Return a context in which the rights of files count, even for root, and as `folder` where its user may write."""
    folder = Path(tempfile.mkdtemp())

    @contextmanager
    def nobody() -> Iterator[Path]:
        if os.geteuid() != 0:
            yield folder
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 65534, 65534)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)

    nobody.folder = folder  # type: ignore[attr-defined]
    yield nobody
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            Path(parent, name).chmod(0o700)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An object store."""
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket; drivers find it by the variables of this test."""
    for name, value in s3.variables.items():
        monkeypatch.setenv(name, value)
    return s3.make_bucket()
