"""Messages for people: logged always, and sent to the addresses that `MENAGERIE_NOTIFY` names.

For example `MENAGERIE_NOTIFY="https://chat.example.org/hooks/xyz mailto:keeper@example.org"`, with
`MENAGERIE_SMTP="smtp://user:password@mail.example.org:587?from=menagerie@example.org"`.
"""

import logging
import smtplib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from functools import partial
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import httpx

from ml.addresses import is_local
from ml.settings import Settings

TIMEOUT = 15.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """What a person is told."""

    subject: str
    """One line."""
    text: str
    about: Mapping[str, str] = field(default_factory=dict)
    """The same as facts for programs: which DAG, run, task, and why."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Where to look, by what is found there."""

    def __str__(self) -> str:
        return "\n".join([self.text, "", *(f"{what}: {where}" for what, where in self.links.items())]).strip()


def send(message: Message, settings: Settings) -> None:
    """Log a message and send it to every address; one that can't be reached is logged, and hinders nothing else."""
    log.warning("%s\n%s", message.subject, message)
    for address in settings.notify:
        try:
            (_mail if address.startswith("mailto:") else _post)(message, address, settings)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # Of a webhook only its host: whoever knows the rest of its address may write there.
            what = f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else str(error)
            log.error("%s could not be told: %s: %s", urlsplit(address).hostname or address, type(error).__name__, what)


def _post(message: Message, url: str, settings: Settings) -> None:
    """POST a message as JSON; `text` is what Slack, Mattermost and their like show."""
    text = f"{message.subject}\n{message}"
    body = {"text": text, "subject": message.subject, **message.about, "links": dict(message.links)}
    httpx.post(url, json=body, timeout=TIMEOUT).raise_for_status()


def _mail(message: Message, address: str, settings: Settings) -> None:
    """Send a message by SMTP; `smtps:` is encrypted from the first byte, `smtp:` as soon as the server offers it.

    The server's certificate is verified. A password is never sent in the clear, except to a server on this machine.
    """
    server = urlsplit(settings.smtp)
    mail = EmailMessage()
    mail["Subject"] = " ".join(message.subject.split())
    mail["From"] = parse_qs(server.query).get("from", [f"menagerie@{socket.gethostname()}"])[0]
    mail["To"] = unquote(urlsplit(address).path)
    mail.set_content(str(message))
    secure, context = server.scheme == "smtps", ssl.create_default_context()
    connect = partial(smtplib.SMTP_SSL, context=context) if secure else smtplib.SMTP
    with connect(server.hostname or "localhost", server.port or (465 if secure else 25), timeout=TIMEOUT) as smtp:
        if not secure:
            _encrypt(smtp, server, context)
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(mail)


def _encrypt(smtp: smtplib.SMTP, server: SplitResult, context: ssl.SSLContext) -> None:
    """Encrypt a connection if the server offers it.

    Raises:
        ValueError: it doesn't, and there is a password.
    """
    smtp.ehlo()
    if smtp.has_extn("starttls"):
        smtp.starttls(context=context)
    elif server.username and not is_local(server.geturl()):
        raise ValueError(
            f"{server.hostname} offers no encryption, so it was not given the password; use smtps:// or another server"
        )
