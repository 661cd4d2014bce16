"""A web server and a mail server that keep what they are sent: what is told to people really goes through a socket."""

import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the address of a web server that answers with `status`, and the JSON that was posted to it so far."""
    posted: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Hook)) as port:
        yield f"http://127.0.0.1:{port}/hook", posted


@contextmanager
def mailbox(tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[EmailMessage]]]:
    """Yield the address of a mail server, encrypted from the first byte with `tls`, and the mails that it took."""
    mails: list[EmailMessage] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            def say(line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

            say("220 mailbox")
            for raw in self.rfile:
                command = raw.decode().split()[0].upper()
                if command == "DATA":
                    say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mails.append(message_from_bytes(b"".join(lines), policy=policy.default))  # type: ignore[arg-type]
                say("221 bye" if command == "QUIT" else "250 OK")
                if command == "QUIT":
                    return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with _served(server) as port:
        yield f"smtp://127.0.0.1:{port}?from=menagerie@example.org", mails


@contextmanager
def _served(server: socketserver.BaseServer) -> Iterator[int]:
    serve: Callable[[], None] = server.serve_forever
    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.server_address[1]  # type: ignore[misc]
    finally:
        server.shutdown()
        server.server_close()
