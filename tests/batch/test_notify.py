import asyncio
import gzip
import ipaddress
import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from anonymise.batch.notify import KEY_VARIABLE, PASSWORD_VARIABLE, EmailAccount, Notifier, read_email_account
from anonymise.config import EmailOptions
from anonymise.core.errors import ConfigError, StorageError

EXAMPLE = Path(__file__).parents[2] / "config" / "email_config.example.yml"
ALL = EmailOptions(
    uncaught_exception_email=True, processing_error_email=True, finished_email=True, email_attach_log_file=False
)
NONE = EmailOptions(
    uncaught_exception_email=False, processing_error_email=False, finished_email=False, email_attach_log_file=False
)


class Inbox:
    """A handler of a real SMTP server that keeps the mails it gets."""

    def __init__(self, answer: str = "250 OK", delay: float = 0.0) -> None:
        self.answer = answer
        self.delay = delay
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.encrypted: list[bool] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self.delay)
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            mail = message_from_bytes(content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.encrypted.append(session.ssl is not None)
            self.recipients.append(envelope.rcpt_tos)
            self.mails.append(mail)
        return self.answer

    @property
    def subjects(self) -> list[str]:
        return [str(mail["Subject"]).partition(": ")[2] for mail in self.mails]

    def texts(self) -> list[str]:
        bodies = [mail.get_body() for mail in self.mails]
        return [body.get_content() for body in bodies if body is not None]


Serve = Callable[..., int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts SMTP servers on free ports."""
    running: list[Controller] = []

    def start(inbox: Inbox, **options: Any) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        controller = Controller(inbox, hostname="127.0.0.1", port=port, **options)
        controller.start()
        running.append(controller)
        return port

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for this machine that nobody vouches for but itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail server of the tests")])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return folder / "certificate.pem", context


def account(port: int, **changes: object) -> EmailAccount:
    values: dict[str, object] = {
        "from": "anonymise@example.org",
        "to": ["operator@example.org", "second@example.org"],
        "host": "127.0.0.1",
        "port": port,
        "security": "none",
        "ca_file": None,
        "user": None,
        "password": None,
        "digest_interval_minutes": 60,
        "timeout_seconds": 20,
        "max_log_megabytes": 0.01,
    }
    return EmailAccount.model_validate(values | changes)


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_a_mail_says_which_run_ended_where_and_how(serve: Serve) -> None:
    inbox = Inbox()
    with Notifier(ALL, account(serve(inbox)), about="photos → published") as notifier:
        notifier.finished("3 done, 1 failed", ["Done: 3", "FAILED æøå\udce5.jpg (read): the file is empty"])
    (mail,) = inbox.mails
    assert mail["Subject"] == f"anonymise on {socket.gethostname()}: finished: 3 done, 1 failed"
    assert mail["From"] == "anonymise@example.org"
    assert mail["To"] == "operator@example.org, second@example.org"
    assert inbox.recipients == [["operator@example.org", "second@example.org"]]
    (text,) = inbox.texts()
    assert text.splitlines() == [
        f"photos → published, on {socket.gethostname()}",
        "",
        "Done: 3",
        "FAILED æøå\\udce5.jpg (read): the file is empty",
    ]


def test_of_many_failures_the_first_is_sent_at_once_and_the_others_together(serve: Serve) -> None:
    inbox = Inbox()
    with Notifier(ALL, account(serve(inbox)), about="run") as notifier:
        notifier.processing_error("0.jpg", "read", "the file is empty")
        assert eventually(lambda: inbox.subjects == ["1 image failed"])
        for n in range(1, 1001):
            notifier.processing_error(f"{n}.jpg", "write", "the disk is odd")
        assert len(inbox.mails) == 1
    assert inbox.subjects == ["1 image failed", "1000 images failed"]
    first, second = inbox.texts()
    assert "0.jpg (read): the file is empty" in first
    lines = second.splitlines()
    assert lines[2] == "1.jpg (write): the disk is odd"
    assert lines[-1] == "... and 900 more, which the log names."
    assert len(lines) == 103


def test_a_digest_is_sent_when_its_time_has_come(serve: Serve) -> None:
    inbox = Inbox()
    with Notifier(ALL, account(serve(inbox), digest_interval_minutes=0.005), about="run") as notifier:
        for n in range(3):
            notifier.processing_error(f"{n}.jpg", "read", "odd")
            notifier.processing_error(f"{n}b.jpg", "read", "odd")
            assert eventually(lambda: f"{n}b.jpg" in "".join(inbox.texts()))  # noqa: B023 - called before n changes


def test_an_error_is_told_with_its_traceback_unless_it_was_raised_on_purpose(serve: Serve) -> None:
    inbox = Inbox()
    with Notifier(ALL, account(serve(inbox)), about="run") as notifier:
        try:
            raise KeyError("oops")
        except KeyError as error:
            notifier.uncaught(error)
        notifier.uncaught(StorageError("The disk is full."))
    assert inbox.subjects == ["stopped by KeyError", "stopped by StorageError"]
    unexpected, expected = inbox.texts()
    assert "Traceback" in unexpected
    assert "oops" in unexpected
    assert expected.splitlines()[2:] == ["The disk is full."]


@pytest.mark.parametrize("kind", ["uncaught_exception_email", "processing_error_email", "finished_email"])
def test_only_the_mails_that_were_asked_for_are_sent(serve: Serve, kind: str) -> None:
    inbox = Inbox()
    options = NONE.model_copy(update={kind: True})
    assert options.any_enabled
    with Notifier(options, account(serve(inbox)), about="run") as notifier:
        notifier.uncaught(StorageError("full"))
        notifier.processing_error("a.jpg", "read", "odd")
        notifier.finished("all done", [])
    expected = {
        "uncaught_exception_email": "stopped by StorageError",
        "processing_error_email": "1 image failed",
        "finished_email": "finished: all done",
    }
    assert inbox.subjects == [expected[kind]]


def test_without_an_account_nothing_is_sent() -> None:
    assert not NONE.any_enabled
    n_threads = threading.active_count()
    with Notifier(ALL, None, about="run") as notifier:
        notifier.uncaught(StorageError("full"))
        notifier.processing_error("a.jpg", "read", "odd")
        notifier.finished("all done", [])
        assert threading.active_count() == n_threads


def attached(mail: EmailMessage) -> tuple[str | None, bytes]:
    (part,) = mail.iter_attachments()
    content = part.get_content()
    assert isinstance(content, bytes)
    return part.get_filename(), gzip.decompress(content)


def test_the_log_is_attached_compressed_and_only_its_end_if_it_is_long(serve: Serve, tmp_path: Path) -> None:
    inbox = Inbox()
    options = ALL.model_copy(update={"email_attach_log_file": True})
    log_file = tmp_path / "run å.log"
    log_file.write_text("short\n", "utf-8")
    address = account(serve(inbox))
    with Notifier(options, address, about="run", log_file=log_file) as notifier:
        notifier.finished("all done", [])
    assert attached(inbox.mails[0]) == ("run å.log.gz", b"short\n")

    random_lines = [random.Random(n).randbytes(20).hex() for n in range(1000)]
    log_file.write_bytes("\n".join(random_lines).encode("ascii"))
    with Notifier(options, address, about="run", log_file=log_file) as notifier:
        notifier.finished("all done", [])
    kept = attached(inbox.mails[1])[1].decode("ascii").split("\n")
    assert 9_900 < sum(len(line) + 1 for line in kept) <= 10_000
    assert kept == random_lines[-len(kept) :]


def test_a_log_that_is_gone_does_not_keep_the_mail_back(serve: Serve, tmp_path: Path) -> None:
    inbox = Inbox()
    options = ALL.model_copy(update={"email_attach_log_file": True})
    with Notifier(options, account(serve(inbox)), about="run", log_file=tmp_path / "gone.log") as notifier:
        notifier.finished("all done", ["Done: 3"])
    (text,) = inbox.texts()
    assert "Done: 3" in text
    assert "gone.log cannot be attached: No such file" in text


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mails_are_encrypted_and_the_password_only_travels_so(
    serve: Serve, certificate: tuple[Path, ssl.SSLContext], security: str
) -> None:
    inbox = Inbox()
    logins: list[tuple[bytes, bytes]] = []

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword) -> AuthResult:
        logins.append((login.login, login.password))
        return AuthResult(success=True)

    ca_file, context = certificate
    options = (
        {"ssl_context": context, "auth_require_tls": False}  # it means STARTTLS by that
        if security == "tls"
        else {"tls_context": context, "require_starttls": True, "auth_required": True}
    )
    port = serve(inbox, authenticator=check, **options)
    own = account(port, security=security, ca_file=ca_file, user="me", password="sesame")
    assert "sesame" not in repr(own)
    with Notifier(ALL, own, about="run") as notifier:
        notifier.finished("all done", [])
    assert inbox.subjects == ["finished: all done"]
    assert logins == [(b"me", b"sesame")]
    if security == "starttls":  # the other server understands nothing else than TLS
        assert inbox.encrypted == [True]


def wrong_password(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: object) -> AuthResult:
    return AuthResult(success=False, handled=False)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_that_nobody_vouches_for_gets_nothing(
    serve: Serve, certificate: tuple[Path, ssl.SSLContext], security: str, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    options = {"ssl_context" if security == "tls" else "tls_context": certificate[1]}
    with Notifier(ALL, account(serve(inbox, **options), security=security), about="run") as notifier:
        notifier.finished("all done", [])
    assert inbox.mails == []
    assert "certificate verify failed" in caplog.text


def test_a_server_without_starttls_gets_nothing_in_the_clear(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    with Notifier(ALL, account(serve(inbox), security="starttls"), about="run") as notifier:
        notifier.finished("all done", [])
    assert inbox.mails == []
    assert "STARTTLS extension not supported" in caplog.text


def test_a_wrong_password_is_logged_without_it(
    serve: Serve, certificate: tuple[Path, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    ca_file, context = certificate
    port = serve(Inbox(), tls_context=context, authenticator=wrong_password, auth_required=True)
    own = account(port, security="starttls", ca_file=ca_file, user="me", password="sesame")
    with caplog.at_level(logging.WARNING, "anonymise"), Notifier(ALL, own, about="run") as notifier:
        notifier.finished("all done", [])
    (record,) = [r for r in caplog.records if r.name == "anonymise.batch.notify"]
    assert "'finished: all done' was not sent" in record.message
    assert "535" in record.message
    assert "sesame" not in caplog.text


def test_a_server_that_refuses_is_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(answer="550 go away")
    with Notifier(ALL, account(serve(inbox)), about="run") as notifier:
        notifier.finished("all done", [])
    assert "go away" in caplog.text


class _RefusesOne(Inbox):
    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("second"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"


def test_a_recipient_that_is_refused_does_not_keep_the_mail_from_the_others(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = _RefusesOne()
    with Notifier(ALL, account(serve(inbox)), about="run") as notifier:
        notifier.finished("all done", [])
    assert inbox.recipients == [["operator@example.org"]]
    assert "not sent to second@example.org" in caplog.text
    assert "no such user" in caplog.text


def test_what_could_not_be_sent_is_told_with_the_next_failures(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(answer="451 try again later")
    with Notifier(ALL, account(serve(inbox), digest_interval_minutes=0.001), about="run") as notifier:
        notifier.processing_error("a.jpg", "read", "odd")
        assert eventually(lambda: "try again later" in caplog.text)
        inbox.answer = "250 OK"
        notifier.processing_error("b.jpg", "read", "odd")
    text = "".join(inbox.texts())
    assert "a.jpg (read)" in text
    assert "b.jpg (read)" in text


def test_a_server_that_is_not_there_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        own = account(taken.getsockname()[1])
        with Notifier(ALL, own, about="run") as notifier:
            for n in range(100):
                notifier.processing_error(f"{n}.jpg", "read", "odd")
            notifier.finished("all done", [])
    assert "was not sent by 127.0.0.1" in caplog.text


def test_a_slow_server_neither_delays_the_run_nor_its_end(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox(delay=5)
    notifier = Notifier(ALL, account(serve(inbox), timeout_seconds=0.3), about="run")
    for n in range(1000):
        notifier.processing_error(f"{n}.jpg", "read", "odd")
    for _ in range(20):
        notifier.finished("all done", [])
    notifier.close()
    assert inbox.mails == []  # nothing waited for it: it answers after 5 s
    assert "too many others wait" in caplog.text
    assert "takes too long" in caplog.text or "timed out" in caplog.text
    # What is late is given up: no thread goes on sending behind the program's (or another test's) back.
    assert eventually(lambda: all(thread.name != "e-mail" for thread in threading.enumerate()))


def write(folder: Path, text: str) -> Path:
    file = folder / "email_config.yml"
    file.write_text(text, "utf-8")
    return file


def changed(**values: str | None) -> str:
    """The example with keys changed, or without those that are None."""
    lines = []
    for line in EXAMPLE.read_text("utf-8").splitlines():
        key = line.partition(":")[0]
        value = values.pop(key, ...)
        if value is not None:
            lines.append(line if value is ... else f"{key}: {value}")
    return "\n".join(lines + [f"{key}: {value}" for key, value in values.items()])


def test_the_example_can_be_used_as_it_is() -> None:
    own = read_email_account(EXAMPLE, {})
    assert (own.sender, own.to) == ("anonymise@example.org", ("operator@example.org",))
    assert (own.security, own.port, own.user, own.password) == ("starttls", 587, None, None)
    assert (own.digest_interval_minutes, own.timeout_seconds, own.max_log_megabytes) == (60, 30, 5)


def test_the_password_comes_from_the_environment_or_is_encrypted(tmp_path: Path) -> None:
    key = Fernet.generate_key()
    encrypted = Fernet(key).encrypt(b"sesame").decode("ascii")
    file = write(tmp_path, changed(user="me", password_encrypted=encrypted))
    own = read_email_account(file, {KEY_VARIABLE: key.decode("ascii")})
    assert own.password is not None
    assert own.password.get_secret_value() == "sesame"
    own = read_email_account(file, {PASSWORD_VARIABLE: "other"})
    assert own.password is not None
    assert own.password.get_secret_value() == "other"


_KEY = Fernet.generate_key().decode("ascii")
_ENCRYPTED = Fernet(Fernet.generate_key()).encrypt(b"x").decode("ascii")


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        (changed(host=None), {}, "lacks the key host"),
        (changed(password_encrypted=None), {}, "lacks the key password_encrypted"),
        (changed(server="x"), {}, "unknown key server"),
        (changed(port="99999"), {}, "port is 99999"),
        (changed(security="ssl"), {}, "security is 'ssl'.*'none', 'starttls' or 'tls'"),
        (changed(to="[nobody]"), {}, "'nobody' is no e-mail address"),
        (changed(to='["a@b.c\\r\\nBcc: d@e.f"]'), {}, "is no e-mail address"),
        (changed(ca_file="nowhere.pem"), {}, "ca_file nowhere.pem does not exist"),
        (changed(user="me"), {}, "user needs a password"),
        (changed(user="me", security="none"), {PASSWORD_VARIABLE: "x"}, "anyone could read the password"),
        (changed(user="me"), {PASSWORD_VARIABLE: "ø"}, "ASCII"),
        (changed(user="me", password="x"), {}, "passwords do not stand in files"),
        (changed(user="me", password_encrypted=_ENCRYPTED), {}, f"needs its key in .*{KEY_VARIABLE}"),
        (changed(user="me", password_encrypted=_ENCRYPTED), {KEY_VARIABLE: _KEY}, "not encrypted with the key"),
        (changed(user="me", password_encrypted=_ENCRYPTED), {KEY_VARIABLE: "x"}, "does not hold a key"),
        ("- a list", {}, "must be lines of the form"),
        ("a: [", {}, "not valid YAML"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(
    tmp_path: Path, text: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_email_account(write(tmp_path, text), environment)


def test_a_missing_file_is_said_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"copy .*email_config\.example\.yml"):
        read_email_account(tmp_path / "email_config.yml", {})
