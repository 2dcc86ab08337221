"""Anonymises pictures over HTTP: one process, the model loaded once.

POST /anonymize takes a picture and gives it back anonymised; / explains the rest. Originals stay in memory, except
those of jobs, which are deleted once they are done.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import add_config_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from anonymise.config import ServiceOptions

_EXAMPLES = """examples:
  {me} -k {config}lite_config.yml
  curl --data-binary @street.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:5000/anonymize > anonymised.jpg
for others, with tokens:
  {me} -k my.yml --host 0.0.0.0 --port 8080

environment: WORKERS (pictures in work at once, 1), WORKER_TIMEOUT (seconds, 120), PORT (5000), LOG_LEVEL (info); the
keys service_workers, service_timeout_seconds, service_port and service_log_level win over them.

exit codes: 0 stopped by a signal after the last picture, 2 usage or configuration, 3 the model or the disk"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("serve", __doc__ or "", _EXAMPLES)
    add_config_options(arguments)
    arguments.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    arguments.add_argument("--port", type=int, help="port, instead of the key service_port; 0 takes any that is free")
    arguments.add_argument(
        "--without-tokens", action="store_true", help="let everybody ask who can reach an address that is not loopback"
    )
    args = arguments.parse_args(argv)
    return guarded(lambda: _serve(args, os.environ))


def _serve(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    try:
        from anonymise.service import web
        from anonymise.service.app import Service
        from anonymise.service.engine import Engine
        from anonymise.service.intake import Intake
        from anonymise.service.jobs import Jobs
    except ImportError as error:
        raise UsageError(f'{error.name} is not installed: pip install "anonymise[service]"') from error
    from anonymise import config as configuration
    from anonymise.anonymiser import model_source
    from anonymise.corrections.source import corrected
    from anonymise.corrections.store import Store
    from anonymise.models import load_masker

    config = configuration.load(args.config, args.set, has_archive=True)
    options = _settled(config.service, args.port, environ)
    tokens = web.Tokens({}) if options.service_tokens is None else web.Tokens.read(Path(options.service_tokens))
    if not (web.is_loopback(args.host) or options.service_tokens or args.without_tokens):
        raise UsageError(
            f"{args.host} can be reached by others: name who may ask with service_tokens, or give --without-tokens"
        )
    if config.reports.reports_open and (config.run.corrections is None or config.reports.reports_originals is None):
        raise UsageError(
            "reports_open needs corrections (folder of the store) and reports_originals (of the originals)"
        )
    _log(options)
    listening = web.listen(args.host, options.service_port or 0)  # a port that is taken is said before the model loads
    with listening:
        anonymous = model_source(load_masker(config.model, progress=sys.stderr.isatty()), config)
        source = corrected(anonymous, config.run.corrections, config.outlines)
        workers = options.service_workers or 1
        engine = Engine(config, source, anonymous, n_workers=workers, n_waiting=options.service_waiting)
        engine.check()
        jobs = None
        if options.service_jobs_directory is not None:
            jobs = Jobs(Path(options.service_jobs_directory), engine, options, config.storage)
        intake = None
        if config.reports.reports_open:
            intake = Intake(Store(Path(str(config.run.corrections))), config)
        service = Service(engine, tokens, jobs, intake, options)
        server = web.Server(service.app, lambda: engine.n_requests == 0, service.stop, options.request_seconds)
        print(web.address_of(listening, args.host), flush=True)
        server.run(sockets=[listening])
        engine.close()
    return ExitCode.OK


def _settled(options: "ServiceOptions", port: int | None, environ: Mapping[str, str]) -> "ServiceOptions":
    """The options with what the environment and the command line say.

    Raises:
        UsageError: a variable makes no sense.
    """
    from pydantic import ValidationError

    given: dict[str, object] = {} if port is None else {"service_port": port}
    said = {"service_port": f"--port {port}"}
    variables: Mapping[str, tuple[str, Callable[[str], object], object]] = {
        "service_port": ("PORT", int, 5000),
        "service_workers": ("WORKERS", int, 1),
        "service_timeout_seconds": ("WORKER_TIMEOUT", float, options.request_seconds),
        "service_log_level": ("LOG_LEVEL", str.lower, "info"),
    }
    for key, (name, as_value, default) in variables.items():
        if key in given or getattr(options, key) is not None:
            continue
        text = environ.get(name, "")
        said[key] = f"the environment variable {name}={text}"
        try:
            given[key] = as_value(text) if text else default
        except ValueError as error:
            raise UsageError(f"{said[key]} is not possible") from error
    try:
        return type(options).model_validate(options.model_dump() | given)
    except ValidationError as error:
        raise UsageError(f"{said[str(error.errors()[0]['loc'][0])]} is not possible") from error


def _log(options: "ServiceOptions") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = (options.service_log_level or "info").upper()
    ours = logging.getLogger("anonymise")
    ours.addHandler(handler)
    ours.setLevel(level)
    # The server's own log names addresses and, on debug, headers.
    logging.getLogger("uvicorn").setLevel("WARNING")
