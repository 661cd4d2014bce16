import io
import os
import stat
import string
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.data.archives import unpack
from ml.errors import DataError, ParameterError

Tree = Mapping[str, bytes]
Pack = Callable[[Path, Tree], Path]
PHOTOS: Tree = {"tiger/1.jpg": b"stripes", "Tiger_negative_class/2.jpg": b"spots", "empty.txt": b""}


def zipped(path: Path, tree: Tree) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in tree.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path


def tarred(mode: str) -> Pack:
    def pack(path: Path, tree: Tree) -> Path:
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for name, content in tree.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return path

    return pack


PACKERS = {"zip": zipped, "tar": tarred("w"), "tar.gz": tarred("w:gz"), "tar.xz": tarred("w:xz")}


@pytest.fixture(params=PACKERS)
def pack(request: pytest.FixtureRequest) -> Pack:
    return PACKERS[request.param]


def tree_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def refused(archive: Path, match: str, **limits: float) -> None:
    root = archive.parent / "photos"
    with pytest.raises(DataError, match=match):
        unpack(archive, root, **limits)  # type: ignore[arg-type]
    assert {path.name for path in archive.parent.iterdir()} <= {archive.name, "photos.unpacking.lock"}


def test_unpacks_folders_and_files(tmp_path: Path, pack: Pack) -> None:
    root = tmp_path / "new" / "photos"
    assert unpack(pack(tmp_path / "archive", PHOTOS), root) == root
    assert tree_of(root) == PHOTOS


SEGMENTS = st.text(string.ascii_letters + string.digits + " ._-é虎'\n", min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..") and not part.startswith("._")
)
# Suffixes keep folders and files apart, and a second top folder keeps the first one from being left out.
TREES = st.dictionaries(
    st.builds(
        lambda folders, name: "/".join([f"{folder}.d" for folder in folders] + [f"{name}.jpg"]),
        st.lists(SEGMENTS, max_size=3),
        SEGMENTS,
    ),
    st.binary(max_size=2_000),
    max_size=6,
).map(lambda tree: {**tree, "top.jpg": b""})


@given(tree=TREES, kind=st.sampled_from(sorted(PACKERS)))
@settings(max_examples=60, deadline=None)
def test_any_tree_of_safe_names_comes_out_as_it_went_in(tree: Tree, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = PACKERS[kind](Path(folder, "archive"), tree)
        assert tree_of(unpack(archive, Path(folder, "photos"))) == tree


def test_a_sole_top_folder_around_folders_is_left_out(tmp_path: Path, pack: Pack) -> None:
    archive = pack(
        tmp_path / "archive", {"__MACOSX/x": b"", **{f"Photos/{name}": data for name, data in PHOTOS.items()}}
    )
    assert tree_of(unpack(archive, tmp_path / "photos")) == PHOTOS
    assert not (tmp_path / "photos.unpacking").exists()


def test_a_sole_class_folder_is_kept(tmp_path: Path, pack: Pack) -> None:
    archive = pack(tmp_path / "archive", {"tiger/1.jpg": b"1"})
    assert tree_of(unpack(archive, tmp_path / "photos")) == {"tiger/1.jpg": b"1"}


def test_litter_of_desktops_is_skipped(tmp_path: Path, pack: Pack) -> None:
    litter = {
        "__MACOSX/tiger/._1.jpg": b"x",
        "tiger/.DS_Store": b"x",
        "tiger/Thumbs.db": b"x",
        "tiger/._1.jpg": b"x",
    }
    archive = pack(tmp_path / "archive", {**litter, **PHOTOS})
    assert tree_of(unpack(archive, tmp_path / "photos")) == PHOTOS


def test_a_tar_of_the_current_folder_unpacks(tmp_path: Path) -> None:
    source = tmp_path / "source" / "tiger"
    source.mkdir(parents=True)
    (source / "1.jpg").write_bytes(b"stripes")
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        archive.add(source.parent, ".")
    assert tree_of(unpack(tmp_path / "a.tgz", tmp_path / "photos")) == {"tiger/1.jpg": b"stripes"}


@pytest.mark.parametrize(
    "name",
    ["../x.jpg", "a/../../x.jpg", "/x.jpg", "//host/x.jpg", "C:/x.jpg", "a/C:x.jpg", "a\\..\\x.jpg", "\\x"],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    refused(pack(tmp_path / "archive", {"tiger/1.jpg": b"1", name: b"out"}), "lead out")


def test_names_cut_by_a_nul_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"tiger/1.jpgX.exe": b"1"})
    archive.write_bytes(archive.read_bytes().replace(b"1.jpgX.exe", b"1.jpg\0.exe"))
    refused(archive, "lead out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [["a/1.jpg", "a/1.jpg"], ["a/1.jpg", "a//./1.jpg"], ["a", "a/1.jpg"], ["a/b", "a"]])
def test_names_that_are_there_twice_are_refused(tmp_path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        for name in names:
            archive.writestr(name, b"1")
    refused(tmp_path / "archive", "the name of another")


def test_names_too_long_for_the_disk_are_refused(tmp_path: Path, pack: Pack) -> None:
    refused(pack(tmp_path / "archive", {"x" * 300: b"1"}), "can't hold")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "archive", "w") as archive:
        info = tarfile.TarInfo("tiger/1.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    refused(tmp_path / "archive", "link, a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("tiger/1.jpg")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(tmp_path / "archive", "link or a device")


def test_encrypted_zips_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {"tiger/1.jpg": b"1"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1  # the flags of the local header, then of the central directory
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    refused(archive, "encrypted")


def test_zip_methods_without_bound_on_memory_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("tiger/1.jpg", b"1")
    refused(tmp_path / "archive", "deflate")


def test_size_and_count_are_capped(tmp_path: Path, pack: Pack) -> None:
    archive = pack(tmp_path / "archive", {f"{i}.jpg": os.urandom(100_000) for i in range(10)})
    refused(archive, "more than 900,000 bytes", max_bytes=900_000)
    refused(archive, "more than 9 files", max_files=9)
    unpack(archive, tmp_path / "photos", max_bytes=1_100_000, max_files=10)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("name", ["tiger/1.jpg", "__MACOSX/1.jpg"])
def test_bombs_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    archive = PACKERS[kind](tmp_path / "archive", {"a.jpg": b"", name: bytes(20 << 20)})
    assert archive.stat().st_size < 25_000
    if kind == "zip" and name.startswith("__MACOSX"):
        assert tree_of(unpack(archive, tmp_path / "photos")) == {"a.jpg": b""}  # never decompressed
    else:
        refused(archive, "more than 16,777,216 bytes")


@pytest.mark.parametrize("claimed", [1, 1 << 10, 1 << 31])
def test_zips_that_lie_about_sizes_are_refused(tmp_path: Path, claimed: int) -> None:
    size = 20 << 20
    archive = zipped(tmp_path / "archive", {"tiger/1.jpg": bytes(size)})
    lie = archive.read_bytes().replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little"))
    archive.write_bytes(lie)
    refused(archive, "can't be read|more than")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g"])
def test_headers_held_in_memory_are_capped(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 8 << 20
    with tarfile.open(tmp_path / "archive", "w:gz") as archive:
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    refused(tmp_path / "archive", "a header has 8,388,608 bytes; at most 1,048,576 are read")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9, 0.99])
def test_half_archives_are_refused(tmp_path: Path, pack: Pack, share: float) -> None:
    archive = pack(tmp_path / "archive", {f"{i}.jpg": os.urandom(3_000) for i in range(20)})
    whole = archive.read_bytes()
    if whole.endswith(bytes(1024)):  # the end of a tar is padded
        whole = whole.rstrip(b"\0")
    archive.write_bytes(whole[: int(len(whole) * share)])
    refused(archive, "can't be read")


def test_a_tar_cut_between_two_photos_is_refused(tmp_path: Path) -> None:
    archive = tarred("w")(tmp_path / "archive", {"1.jpg": b"1", "2.jpg": b"2"})
    archive.write_bytes(archive.read_bytes()[:1024])
    refused(archive, "can't be read")


def test_damaged_archives_are_refused(tmp_path: Path, pack: Pack) -> None:
    archive = pack(tmp_path / "archive", {f"{i}.jpg": os.urandom(3_000) for i in range(4)})
    data = bytearray(archive.read_bytes())
    for place in range(0, len(data), 512):  # every header of a tar is hit
        data[place + 100 : place + 103] = b"\xff\xff\xff"
    archive.write_bytes(data)
    refused(archive, "can't be read")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz"])
def test_the_checksum_at_the_end_is_read(tmp_path: Path, kind: str) -> None:
    archive = PACKERS[kind](tmp_path / "archive", PHOTOS)
    data = bytearray(archive.read_bytes())
    data[-8 if kind == "tar.gz" else -3] ^= 1
    archive.write_bytes(data)
    refused(archive, "can't be read")


def test_sparse_files_in_a_tar_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("1.jpg")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 26)}
    info.size = 512
    with tarfile.open(tmp_path / "archive", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b"0\n".ljust(512, b"\0")))
    refused(tmp_path / "archive", "sparse")


def test_headers_of_headers_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    header = info.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    (tmp_path / "archive").write_bytes(header * 3_000 + bytes(1024))
    refused(tmp_path / "archive", "can't be read")


@pytest.mark.parametrize("size", [-512, -(1 << 40)])
def test_a_tar_that_claims_less_than_nothing_is_refused(tmp_path: Path, size: int) -> None:
    info = tarfile.TarInfo("1.jpg")
    info.size = size
    (tmp_path / "archive").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(tmp_path / "archive", "can't be read")


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><p>Not found", b"Rar!\x1a\x07\x00", bytes(5000)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive").write_bytes(content)
    refused(tmp_path / "archive", "can't be read|holds no files")


def test_archives_without_files_are_refused(tmp_path: Path, pack: Pack) -> None:
    refused(pack(tmp_path / "archive", {}), "holds no files")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"photos\.zip"):
        unpack(tmp_path / "photos.zip", tmp_path / "photos")


def test_an_existing_root_is_left_alone(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", PHOTOS)
    root = tmp_path / "photos"
    root.mkdir()
    (root / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(ParameterError, match="exists already"):
        unpack(archive, root)
    assert tree_of(root) == {"mine.jpg": b"mine"}


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "photos.unpacking" / "old").mkdir(parents=True)
    assert tree_of(unpack(zipped(tmp_path / "archive", PHOTOS), tmp_path / "photos")) == PHOTOS
    assert not (tmp_path / "photos.unpacking").exists()


def test_a_full_disk_leaves_no_root(tmp_path: Path, pack: Pack) -> None:
    archive = pack(tmp_path / "archive", {"tiger/1.jpg": b"1", "tiger/2.jpg": os.urandom(200_000)})
    script = """
        import resource, signal, sys
        from pathlib import Path
        from ml.data.archives import unpack
        from ml.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            unpack(Path(sys.argv[1]), Path(sys.argv[2]))
        except StorageError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(archive), str(tmp_path / "photos")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "File too large" in said
    assert "Nothing was left" in said
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "photos.unpacking.lock"}
