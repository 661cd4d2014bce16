import logging
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from listeners import mailbox, webhook

from ml import settings
from ml.notify import Message, send
from ml.settings import Settings

MESSAGE = Message(
    "retrain_fox: tune failed",
    "tune of retrain_fox, run r, has failed.\nDataError: no füchse",
    {"dag": "retrain_fox", "reason": "DataError: no füchse"},
    {"Its log": "http://airflow/log"},
)


def told(*addresses: str, smtp: str = "") -> Settings:
    return settings.read({"MENAGERIE_NOTIFY": " ".join(addresses), "MENAGERIE_SMTP": smtp})


def test_with_nothing_set_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    send(MESSAGE, told())
    assert "retrain_fox: tune failed" in caplog.text
    assert "DataError: no füchse" in caplog.text
    assert "Its log: http://airflow/log" in caplog.text


def test_a_webhook_gets_words_and_facts() -> None:
    with webhook() as (url, posted):
        send(MESSAGE, told(url))
    assert posted == [
        {
            "text": f"{MESSAGE.subject}\n{MESSAGE.text}\n\nIts log: http://airflow/log",
            "subject": MESSAGE.subject,
            "dag": "retrain_fox",
            "reason": "DataError: no füchse",
            "links": {"Its log": "http://airflow/log"},
        }
    ]


def test_a_mail_has_sender_subject_and_the_same_words() -> None:
    with mailbox() as (server, mails):
        send(MESSAGE, told("mailto:keeper@example.org", "mailto:other@example.org", smtp=server))
    assert [mail["To"] for mail in mails] == ["keeper@example.org", "other@example.org"]
    assert (mails[0]["From"], mails[0]["Subject"]) == ("menagerie@example.org", MESSAGE.subject)
    assert mails[0].get_content().strip().splitlines() == str(MESSAGE).splitlines()


def test_a_subject_of_several_lines_breaks_no_mail() -> None:
    with mailbox() as (server, mails):
        send(Message("one\ntwo\r\nBcc: all@example.org", "text"), told("mailto:keeper@example.org", smtp=server))
    assert mails[0]["Subject"] == "one two Bcc: all@example.org"
    assert mails[0]["Bcc"] is None


def test_one_that_refuses_and_one_that_is_not_there_hinder_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with webhook(500) as (refusing, refused), webhook() as (url, posted):
        send(MESSAGE, told(refusing, "http://127.0.0.1:9/secret", "mailto:a@b", url, smtp="smtp://127.0.0.1:9"))
    assert len(refused) == len(posted) == 1
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert "127.0.0.1 could not be told: HTTPStatusError: status 500" in errors
    assert "mailto:a@b could not be told: ConnectionRefusedError" in errors[-1]
    assert "secret" not in caplog.text


def test_a_password_is_not_sent_in_the_clear(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: resolve("127.0.0.1", *rest, **named))
    with mailbox() as (server, mails):
        elsewhere = server.replace("127.0.0.1", "user:secret@mail.example.org")
        send(MESSAGE, told("mailto:keeper@example.org", smtp=elsewhere))
        assert not mails
        assert "mail.example.org offers no encryption, so it was not given the password" in caplog.text
        assert "secret" not in caplog.text
        send(MESSAGE, told("mailto:keeper@example.org", smtp=elsewhere.replace("user:secret@", "")))
    assert len(mails) == 1


def test_a_mail_server_with_a_certificate_of_nobody_gets_nothing(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with mailbox(context) as (server, mails):
        url = server.replace("smtp://127.0.0.1", "smtps://user:secret@localhost")
        send(MESSAGE, told("mailto:keeper@example.org", smtp=url))
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
        assert not mails
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(certificate))
            send(MESSAGE, told("mailto:keeper@example.org", smtp=url.replace("user:secret@", "")))
    assert len(mails) == 1
