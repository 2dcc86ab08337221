"""E-mail about a run: images that fail, its end, and an error that ends it. The caller decides when to send what.

Mails are sent in a thread of their own. Whatever goes wrong there is logged, and neither stops nor delays the run.
"""

import gzip
import logging
import os
import smtplib
import socket
import ssl
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from anonymise.config import EmailOptions
from anonymise.core import yamlfile
from anonymise.core.errors import AnonymiseError, ConfigError
from anonymise.core.plaintext import printable
from anonymise.core.resources import CONFIG_FOLDER, settings_folders

__all__ = ["KEY_VARIABLE", "PASSWORD_VARIABLE", "EmailAccount", "Notifier", "read_email_account"]

log = logging.getLogger(__name__)

PASSWORD_VARIABLE = "ANONYMISE_EMAIL_PASSWORD"  # noqa: S105 - the name of the variable
KEY_VARIABLE = "ANONYMISE_EMAIL_KEY"

_MAX_WAITING = 10
"""Mails that wait to be sent; more of them mean that none gets through."""

_MAX_LISTED = 100
"""Failed images that a mail names; the log names all."""

_MAX_LINE = 500
"""Characters of a line about a failed image."""

_Address = Annotated[str, Field(pattern=r"^[^@\s,;<>]+@[^@\s,;<>]+$")]


class EmailAccount(BaseModel):
    """Keys of ``email_config.yml``, which say how mails are sent, and the password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sender: _Address = Field(alias="from")
    to: tuple[_Address, ...] = Field(min_length=1)
    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65535)
    security: Literal["none", "starttls", "tls"]
    ca_file: Path | None
    user: str | None
    password: SecretStr | None
    digest_interval_minutes: float = Field(gt=0)
    timeout_seconds: float = Field(gt=0)
    max_log_megabytes: float = Field(gt=0)


def read_email_account(file: Path | None, environment: Mapping[str, str]) -> EmailAccount:
    """How mails are sent, from a file as ``config/email_config.example.yml`` shows it.

    Args:
        file: ``email_config.yml``; None where it was not found in the folders of settings.
        environment: the environment variables; ``ANONYMISE_EMAIL_PASSWORD`` holds the password, or
            ``ANONYMISE_EMAIL_KEY`` the key of the encrypted one in the file.

    Raises:
        ConfigError: with all problems at once.
    """
    example = CONFIG_FOLDER / "email_config.example.yml"
    if file is None:
        raise ConfigError(
            [
                f"there is no email_config.yml in {', '.join(map(str, settings_folders()))}; copy {example} to one of "
                "these folders under that name, or switch the e-mail keys off"
            ]
        )
    try:
        values = yamlfile.load(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            [f"{file}: cannot be read: {reason}; copy {example} to it, or switch the e-mail keys off"]
        ) from error
    if not isinstance(values, dict):
        raise ConfigError([f"{file}: must be lines of the form key: value, as in email_config.example.yml"])
    if "password" in values:
        raise ConfigError(
            [f"{file}: password: passwords do not stand in files; use password_encrypted or {PASSWORD_VARIABLE}"]
        )
    problems: list[str] = []
    if "password_encrypted" not in values:
        problems.append(f"{file}: lacks the key password_encrypted; null if there is none")
    encrypted = values.pop("password_encrypted", None)
    account = _validated(values, file, problems)
    password = environment.get(PASSWORD_VARIABLE) or _decrypted(encrypted, environment, file, problems)
    if account is not None and account.user is not None:
        if password is None and not problems:
            problems.append(f"{file}: user needs a password: in {PASSWORD_VARIABLE}, or in password_encrypted")
        if account.security == "none":
            problems.append(f"{file}: user needs security: starttls or tls, else anyone could read the password")
        if not (account.user + (password or "")).isascii():
            problems.append(f"{file}: user and password can only have ASCII characters")  # smtplib's limit
    if account is not None and account.ca_file is not None and not account.ca_file.is_file():
        problems.append(f"{file}: ca_file {account.ca_file} does not exist")
    if problems:
        raise ConfigError(problems)
    assert account is not None  # otherwise there are problems
    return account.model_copy(update={"password": None if password is None else SecretStr(password)})


def _validated(values: Mapping[Any, Any], file: Path, problems: list[str]) -> EmailAccount | None:
    try:
        return EmailAccount.model_validate({str(key): value for key, value in values.items()} | {"password": None})
    except ValidationError as error:
        for detail in error.errors():
            key = detail["loc"][0]
            if detail["type"] == "missing":
                problems.append(f"{file}: lacks the key {key}; email_config.example.yml has it")
            elif detail["type"] == "extra_forbidden":
                problems.append(f"{file}: unknown key {key}")
            elif detail["type"] == "string_pattern_mismatch":
                problems.append(f"{file}: {key}: {detail['input']!r} is no e-mail address")
            else:
                message = detail["msg"].replace("Input should be", "should be")
                problems.append(f"{file}: {key} is {detail['input']!r}: {message}")
        return None


def _decrypted(encrypted: object, environment: Mapping[str, str], file: Path, problems: list[str]) -> str | None:
    if encrypted is None:
        return None
    key = environment.get(KEY_VARIABLE)
    if not key:
        problems.append(f"{file}: password_encrypted needs its key in the environment variable {KEY_VARIABLE}")
        return None
    from cryptography.fernet import Fernet, InvalidToken

    try:
        return Fernet(key).decrypt(str(encrypted)).decode("utf-8")
    except InvalidToken:
        problems.append(f"{file}: password_encrypted was not encrypted with the key in {KEY_VARIABLE}")
    except ValueError:
        problems.append(f"The environment variable {KEY_VARIABLE} does not hold a key; see email_config.example.yml")
    return None


@dataclass(frozen=True, slots=True)
class _Mail:
    """A mail that waits to be sent.

    Attributes:
        subject: what it is about.
        lines: lines of its text.
        errors: the failed images that it names,
        n_errors: and how many they are altogether.
    """

    subject: str
    lines: tuple[str, ...]
    errors: tuple[str, ...] = ()
    n_errors: int = 0


class Notifier:
    """Sends the mails of one run that the configuration asks for."""

    def __init__(
        self, options: EmailOptions, account: EmailAccount | None, *, about: str, log_file: Path | None = None
    ) -> None:
        """Gets ready to send.

        Args:
            options: which mails are sent.
            account: how they are sent; None sends none.
            about: says which run it is, as by its folders.
            log_file: log file of the run; its end is attached if the options say so.
        """
        self._options = options
        self._account = account
        self._about = about
        self._log_file = log_file if options.email_attach_log_file else None
        self._changed = threading.Condition()
        self._mails: deque[_Mail] = deque()
        self._errors: list[str] = []
        self._n_errors = 0
        self._next_digest = time.monotonic()
        self._closing = False
        self._thread: threading.Thread | None = None
        if account is not None:
            # A daemon: a server that keeps it waiting does not keep the program from ending.
            self._thread = threading.Thread(target=self._send_all, args=(account,), name="e-mail", daemon=True)
            self._thread.start()

    def __enter__(self) -> "Notifier":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def processing_error(self, source: str, stage: str, reason: str) -> None:
        """An image failed: the first one goes out at once, those that follow are gathered.

        Args:
            source: the image.
            stage: what was being done.
            reason: why it failed.
        """
        if not self._options.processing_error_email or self._thread is None:
            return
        with self._changed:
            self._n_errors += 1
            if len(self._errors) < _MAX_LISTED:
                self._errors.append(printable(f"{source} ({stage}): {reason}")[:_MAX_LINE])
            self._changed.notify()

    def finished(self, result: str, lines: Sequence[str]) -> None:
        """The run came to its end.

        Args:
            result: in a few words, for the subject.
            lines: the summary.
        """
        if self._options.finished_email:
            self._put(_Mail(f"finished: {result}", tuple(lines)))

    def uncaught(self, error: BaseException) -> None:
        """The run ends because of an error; with its traceback, unless the error was raised on purpose."""
        if self._options.uncaught_exception_email:
            expected = isinstance(error, AnonymiseError)
            text = str(error) if expected else "".join(traceback.format_exception(error))
            self._put(_Mail(f"stopped by {type(error).__name__}", tuple(text.splitlines())))

    def close(self) -> None:
        """Sends what is waiting, within the time that the account gives for it; what is late is not sent."""
        if self._thread is None or self._account is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(self._account.timeout_seconds)
        if self._thread.is_alive():
            with self._changed:
                self._mails.clear()
                self._errors.clear()
                self._n_errors = 0
            log.warning("The mail server %s takes too long; not all e-mails were sent", self._account.host)

    def _put(self, mail: _Mail) -> None:
        if self._thread is None:
            return
        with self._changed:
            if len(self._mails) >= _MAX_WAITING:
                log.warning("The e-mail '%s' was not sent: too many others wait", mail.subject)
                return
            self._mails.append(mail)
            self._changed.notify()

    def _send_all(self, account: EmailAccount) -> None:
        while (mail := self._next(account)) is not None:
            try:
                refused = _send(_message(mail, self._about, self._log_file, account), account)
            # ValueError: addresses or passwords that cannot be encoded for the server.
            except (OSError, ValueError) as error:
                log.warning("The e-mail '%s' was not sent by %s: %s", mail.subject, account.host, error)
                self._put_back(mail)
            else:
                for address, reason in refused.items():
                    log.warning("The e-mail '%s' was not sent to %s: %s", mail.subject, address, reason)

    def _next(self, account: EmailAccount) -> _Mail | None:
        """Waits for the next mail that is due; None when there will be no more."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._n_errors and (self._closing or now >= self._next_digest):
                    self._next_digest = now + 60 * account.digest_interval_minutes
                    return self._digest()
                if self._mails:
                    return self._mails.popleft()
                if self._closing:
                    return None
                self._changed.wait(self._next_digest - now if self._n_errors else None)

    def _digest(self) -> _Mail:
        n, errors = self._n_errors, tuple(self._errors)
        self._n_errors = 0
        self._errors.clear()
        lines = list(errors)
        if n > len(errors):
            lines.append(f"... and {n - len(errors)} more, which the log names.")
        return _Mail("1 image failed" if n == 1 else f"{n} images failed", tuple(lines), errors, n)

    def _put_back(self, mail: _Mail) -> None:
        """Names failed images again in the next mail, if there will be one."""
        with self._changed:
            if not self._closing:
                self._n_errors += mail.n_errors
                self._errors[:] = [*mail.errors, *self._errors][:_MAX_LISTED]


def _message(mail: _Mail, about: str, log_file: Path | None, account: EmailAccount) -> EmailMessage:
    lines = [*map(printable, (f"{about}, on {socket.gethostname()}", "", *mail.lines))]
    message = EmailMessage()
    message["From"] = account.sender
    message["To"] = ", ".join(account.to)
    message["Subject"] = printable(f"anonymise on {socket.gethostname()}: {mail.subject}")
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=account.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's out-of-office answers it
    attachment = None
    if log_file is not None:
        try:
            attachment = gzip.compress(_tail(log_file, int(account.max_log_megabytes * 1e6)))
        except OSError as error:
            lines += ["", printable(f"The log {log_file} cannot be attached: {error.strerror or error}")]
    message.set_content("\n".join(lines) + "\n")
    if attachment is not None and log_file is not None:
        message.add_attachment(attachment, "application", "gzip", filename=printable(log_file.name + ".gz"))
    return message


def _send(message: EmailMessage, account: EmailAccount) -> Mapping[str, object]:
    """Hands the mail to the server; returns recipient → reason for those that it refused, if it took any.

    Raises:
        OSError: the server cannot be reached or trusted, or refuses the mail; smtplib's errors are such.
    """
    context = ssl.create_default_context(cafile=account.ca_file)
    timeout = account.timeout_seconds
    if account.security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(account.host, account.port, timeout=timeout, context=context)
    else:
        server = smtplib.SMTP(account.host, account.port, timeout=timeout)
    with server:
        if account.security == "starttls":
            server.starttls(context=context)
        if account.user is not None and account.password is not None:
            server.login(account.user, account.password.get_secret_value())
        return server.send_message(message)


def _tail(file: Path, max_bytes: int) -> bytes:
    """The end of a file, from the beginning of a line."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - max_bytes))
        data = stream.read(max_bytes)
    return data if size <= max_bytes else data.partition(b"\n")[2]
