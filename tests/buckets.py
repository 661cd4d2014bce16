"""An S3 server for tests: moto's, over HTTP, in a process of its own."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import fsspec
import httpx


@dataclass(frozen=True)
class S3:
    """A server that runs, with no bucket in it."""

    address: str
    process: subprocess.Popen[bytes]

    @property
    def variables(self) -> dict[str, str]:
        """What its clients find it by."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def make_bucket(self) -> "Bucket":
        name = f"bucket-{uuid4().hex}"
        httpx.put(f"{self.address}/{name}").raise_for_status()
        return Bucket(f"s3://{name}", fsspec.filesystem("s3", use_listings_cache=False))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Let it answer nothing during a block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Bucket:
    url: str
    driver: fsspec.AbstractFileSystem

    def put(self, name: str, content: bytes) -> None:
        self.driver.pipe_file(f"{self.url}/{name}", content)

    def put_folder(self, name: str, folder: Path) -> None:
        for file in folder.rglob("*"):
            if file.is_file():
                self.put(f"{name}/{file.relative_to(folder).as_posix()}", file.read_bytes())

    def remove(self, name: str) -> None:
        self.driver.rm_file(f"{self.url}/{name}")

    def names(self) -> set[str]:
        return {path.partition("/")[2] for path in self.driver.find(self.url)}


@contextmanager
def s3_server() -> Iterator[S3]:
    """Run a server during a block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}")
                break
            except httpx.TransportError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield S3(f"http://127.0.0.1:{port}", process)
    finally:
        process.kill()
        process.wait()
