import hashlib
import io
import random
import socket
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ml.data.sources import download, fetch_photos
from ml.errors import DataError, NoRetryError, ParameterError, ServiceError

BODY = random.Random(0).randbytes(300_000)


@dataclass
class Site:
    """What the server gives, and how badly it behaves."""

    body: bytes = BODY
    etag: str | None = '"v1"'
    modified: str | None = None
    ranges: bool = True
    checks_version: bool = True
    """False: answers a Range even where If-Range names another version."""
    most: int = len(BODY)
    """Bytes that it gives for one Range."""
    rewinds: bool = False
    """Answers a Range with the beginning of the file."""
    tells_size: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes of each coming answer after which the connection drops."""
    statuses: list[int] = field(default_factory=list)
    """Statuses of the coming answers, before any file is given."""
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def version(self) -> str | None:
        return self.etag or self.modified


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append(dict(self.headers))
        if self.path == "/moved":
            return self.answer(302, {"Location": "/Photos.zip"})
        if self.path == "/missing":
            return self.answer(404)
        if site.statuses:
            return self.answer(site.statuses.pop(0))
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        current = not site.checks_version or self.headers.get("If-Range") == site.version
        headers = {"ETag": site.etag, "Last-Modified": site.modified}
        if "Range" in self.headers and site.ranges and current:
            if start >= len(site.body):
                return self.answer(416, {"Content-Range": f"bytes */{len(site.body)}"})
            status, rest = 206, site.body[start : start + site.most]
            if site.rewinds:
                start, rest = 0, site.body[: len(rest)]
            headers["Content-Range"] = f"bytes {start}-{start + len(rest) - 1}/{len(site.body)}"
        else:
            status, rest = 200, site.body
        if site.tells_size:
            headers["Content-Length"] = str(len(rest))
        self.answer(status, headers, rest[: site.cuts.pop(0)] if site.cuts else rest)

    def answer(self, status: int, headers: dict[str, str | None] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": "0"}).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    site = Site()
    with ThreadingHTTPServer(("127.0.0.1", 0), type("SiteHandler", (Handler,), {"site": site})) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/Photos.zip"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "photos.zip"


def fetch(site: Site, target: Path, attempts: int = 4) -> Path:
    return download(site.url, target, attempts=attempts, pause=0.0)


def leave_part(site: Site, target: Path, size: int) -> None:
    """Break a download off, as a killed one would leave it."""
    site.cuts = [size]
    with pytest.raises(ServiceError):
        fetch(site, target, attempts=1)
    assert not target.exists()
    site.asked.clear()


def only(target: Path) -> bool:
    return {path.name for path in target.parent.iterdir()} <= {target.name, f"{target.name}.lock"}


def test_a_file_arrives_whole(site: Site, target: Path) -> None:
    assert fetch(site, target) == target
    assert target.read_bytes() == BODY
    assert only(target)


def test_progress_counts_up_to_the_whole(site: Site, target: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    site.cuts = [100_000]
    download(site.url, target, lambda done, total: seen.append((done, total)), pause=0.0)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {len(BODY)}
    assert seen[-1] == (len(BODY), len(BODY))


def test_redirects_are_followed(site: Site, target: Path) -> None:
    download(site.url.replace("Photos.zip", "moved"), target)
    assert target.read_bytes() == BODY


def test_a_file_of_untold_size_arrives(site: Site, target: Path) -> None:
    site.tells_size = False
    fetch(site, target)
    assert target.read_bytes() == BODY


def test_broken_transfers_go_on_where_they_stopped(site: Site, target: Path) -> None:
    site.cuts = [100_000, 50_000, 0]
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert only(target)
    assert [asked.get("Range") for asked in site.asked] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
        "bytes=150000-",
    ]
    assert {asked.get("If-Range") for asked in site.asked[1:]} == {'"v1"'}


def test_the_next_call_goes_on_where_the_last_one_stopped(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert [asked["Range"] for asked in site.asked] == ["bytes=120000-"]


def test_a_date_resumes_where_the_etag_is_weak(site: Site, target: Path) -> None:
    site.etag, site.modified = 'W/"v1"', "Sat, 01 Jan 2022 00:00:00 GMT"
    leave_part(site, target, 120_000)
    site.checks_version = False
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert [asked["If-Range"] for asked in site.asked] == [site.modified]


def test_without_a_version_it_starts_over(site: Site, target: Path) -> None:
    site.etag = None
    leave_part(site, target, 120_000)
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert "Range" not in site.asked[0]


def test_without_a_byte_it_starts_over(site: Site, target: Path) -> None:
    leave_part(site, target, 0)
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert "Range" not in site.asked[0]


def test_a_version_is_forgotten_with_its_part(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    site.body, site.etag = BODY[::-1], None
    leave_part(site, target, 50_000)
    fetch(site, target)
    assert target.read_bytes() == site.body
    assert "Range" not in site.asked[0]


def test_a_server_that_gives_less_than_asked_is_asked_for_the_rest(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    site.most = 100_000
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert [asked["Range"] for asked in site.asked] == ["bytes=120000-", "bytes=220000-"]


def test_a_server_that_gives_another_range_starts_over(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    site.rewinds = True
    fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_server_without_ranges_starts_over(site: Site, target: Path) -> None:
    site.ranges = False
    leave_part(site, target, 120_000)
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert len(site.asked) == 1


@pytest.mark.parametrize("checks_version", [True, False])
@pytest.mark.parametrize("size", [80_000, 250_000, 300_000])
def test_a_changed_file_starts_over(site: Site, target: Path, checks_version: bool, size: int) -> None:
    leave_part(site, target, 120_000)
    site.body, site.etag, site.checks_version = random.Random(1).randbytes(size), '"v2"', checks_version
    fetch(site, target)
    assert target.read_bytes() == site.body
    assert only(target)


def test_another_url_does_not_go_on_with_the_part_of_the_first(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    download(f"{site.url}?other", target)
    assert "Range" not in site.asked[0]
    assert target.read_bytes() == BODY


def test_a_damaged_note_starts_over(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    target.with_name("photos.zip.part.json").write_text('{"url": ')
    fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_part_that_is_whole_already_becomes_the_file(site: Site, target: Path) -> None:
    leave_part(site, target, 120_000)
    target.with_name("photos.zip.part").write_bytes(BODY)
    fetch(site, target)
    assert target.read_bytes() == BODY


def test_giving_up_says_how_far_it_got_and_that_it_resumes(site: Site, target: Path) -> None:
    site.cuts = [100_000, 10_000, 5_000]
    with pytest.raises(ServiceError, match=r"115,000 of 300,000 bytes.*running it again resumes") as caught:
        fetch(site, target, attempts=3)
    assert site.url in str(caught.value)
    assert len(site.asked) == 3
    assert not target.exists()


def test_giving_up_does_not_promise_to_resume_where_it_cannot(site: Site, target: Path) -> None:
    site.etag, site.cuts = None, [100_000]
    with pytest.raises(ServiceError, match=r"100,000 of 300,000 bytes") as caught:
        fetch(site, target, attempts=1)
    assert "resumes" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_asked_again(site: Site, target: Path, status: int) -> None:
    site.statuses = [status, status]
    fetch(site, target)
    assert target.read_bytes() == BODY
    site.statuses, target = [status] * 2, target.with_name("second.zip")
    with pytest.raises(ServiceError, match=str(status)):
        fetch(site, target, attempts=2)


@pytest.mark.parametrize("status", [204, 304, 401, 403, 410])
def test_refusals_are_final(site: Site, target: Path, status: int) -> None:
    site.statuses = [status]
    with pytest.raises(NoRetryError, match=rf"{status}.*pass the file"):
        fetch(site, target)
    assert len(site.asked) == 1
    assert not target.exists()


def test_a_missing_file_names_the_url_and_the_way_round(site: Site, target: Path) -> None:
    url = site.url.replace("Photos.zip", "missing")
    with pytest.raises(NoRetryError, match=r"404.*pass the file") as caught:
        download(url, target)
    assert url in str(caught.value)
    assert len(site.asked) == 1


def test_no_connection_is_said(target: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/photos.zip"
        with pytest.raises(ServiceError, match="Check the connection") as caught:
            download(url, target, pause=0.0)
    assert url in str(caught.value)
    assert "refused" in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://a.org/x", "file:///etc/passwd", "/x.zip", "https://", "http://a.org:x/", ""])
def test_only_http_is_spoken(target: Path, url: str) -> None:
    with pytest.raises(ParameterError, match="https://"):
        download(url, target)
    assert not target.parent.exists()


def test_the_digest_is_checked(site: Site, target: Path) -> None:
    good = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(DataError, match=good) as caught:
        download(site.url, target, expected_sha256="0" * 64)
    assert site.url in str(caught.value)
    assert not target.exists()
    assert only(target)
    download(site.url, target, expected_sha256=good.upper())
    assert target.read_bytes() == BODY


def test_a_file_that_is_there_is_not_fetched_again(site: Site, target: Path) -> None:
    fetch(site, target)
    fetch(site, target)
    download(site.url, target, expected_sha256=hashlib.sha256(BODY).hexdigest())
    assert len(site.asked) == 1
    site.body = BODY[::-1]
    download(site.url, target, expected_sha256=hashlib.sha256(site.body).hexdigest())
    assert target.read_bytes() == site.body


def test_two_at_once_fetch_it_once(site: Site, target: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: fetch(site, target), range(2))) == [target, target]
    assert target.read_bytes() == BODY
    assert len(site.asked) == 1


def test_a_full_disk_is_a_storage_error_and_goes_on_later(site: Site, target: Path) -> None:
    script = """
        import resource, signal, sys
        from pathlib import Path
        from ml.data.sources import download
        from ml.errors import StorageError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            download(sys.argv[1], Path(sys.argv[2]))
        except StorageError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), site.url, str(target)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "File too large" in said
    assert str(target) in said
    assert not target.exists()
    fetch(site, target)
    assert target.read_bytes() == BODY
    assert site.asked[-1]["Range"] == "bytes=100000-"


def photos() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("Tiger-Fox-Elephant/tiger/1.jpg", b"stripes")
        archive.writestr("Tiger-Fox-Elephant/Tiger_negative_class/2.jpg", b"spots")
    return file.getvalue()


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.jpg")}


def test_photos_are_fetched_and_unpacked(site: Site, tmp_path: Path) -> None:
    site.body = photos()
    for name in ("first", "second"):
        root = fetch_photos(site.url, tmp_path / name, tmp_path / "cache")
        assert names(root) == {"tiger/1.jpg", "Tiger_negative_class/2.jpg"}
    assert len(site.asked) == 1, "the archive is kept"


def test_photos_of_two_sites_are_kept_apart(site: Site, tmp_path: Path) -> None:
    site.body = photos()
    fetch_photos(site.url, tmp_path / "first", tmp_path / "cache")
    fetch_photos(f"{site.url}?other", tmp_path / "second", tmp_path / "cache")
    assert len(site.asked) == 2


def test_an_archive_that_was_downloaded_by_hand_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "Tiger.zip").write_bytes(photos())
    root = fetch_photos(str(tmp_path / "Tiger.zip"), tmp_path / "photos", tmp_path / "cache")
    assert names(root) == {"tiger/1.jpg", "Tiger_negative_class/2.jpg"}


def test_nothing_is_fetched_for_a_root_that_exists(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="exists already"):
        fetch_photos(site.url, tmp_path, tmp_path / "cache")
    assert not site.asked


def test_a_page_instead_of_an_archive_is_named(site: Site, tmp_path: Path) -> None:
    site.body = b"<!DOCTYPE html><p>Please log in"
    with pytest.raises(DataError, match=r"Photos\.zip can't be read.*delete it"):
        fetch_photos(site.url, tmp_path / "photos", tmp_path / "cache")
    assert not (tmp_path / "photos").exists()
