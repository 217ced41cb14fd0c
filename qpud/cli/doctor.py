"""doctor: what a script started here would use and why, and whether each hop on the way works."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

from qpud.cli import userfile
from qpud.cli.choice import BATCH_VARIABLES, QPU_DEFAULTS, chosen
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit
from qpud.cli.serve import Verbs
from qpud.cli.tables import printable
from qpud.cli.visit import Visit

EPILOG = "Runs one job of two shots. Whatever it opens, it closes; exit code 0 if every hop works, else 1."
LOCAL = "the emulator of its own Python: emu-mps, emu-sv or pulser-simulation"


class Hop(NamedTuple):
    """One step on the way to the QPU."""

    name: str
    tried: Callable[[Visit], str]  # says what was found; raises Stop
    remedy: str


class Finding(NamedTuple):
    """What became of a hop; `ok` is None where an earlier one failed."""

    hop: str
    ok: bool | None
    said: str
    remedy: str
    seconds: float


HOPS = (
    Hop("settings", Visit.read_settings, "correct the file, or remove it"),
    Hop("daemon", Visit.reach_daemon, "start one with `qpud serve --dev`, or name one with --url or QPUD_URL"),
    Hop("identity", Visit.be_known, "use the Unix socket, munge, or the token of an open session"),
    Hop("resource", Visit.find_resource, "choose one of them with --qpu, or correct what named it"),
    Hop("session", Visit.open_session, "read the reason; `qpud sessions` lists yours, QPUD_TOKEN may be an old one"),
    Hop(
        "url",
        Visit.knock_on_url,
        "let the daemon Listen on a TCP address that this machine reaches, and take the token of an open session",
    ),
    Hop("specs", Visit.read_specs, "wait until the resource answers: `qpud info`"),
    Hop("job", Visit.run_job, "a script's jobs fare alike: `qpud info` and `qpud queue` tell more"),
)


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of doctor."""
    text = "what a script would use and why; tests each hop"
    parser = verbs.add_parser("doctor", parents=[reach], help=text, epilog=EPILOG)
    parser.add_argument("--qpu", metavar="NAME", help=f"the resource ({QPU_DEFAULTS})")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="for the job (default: %(default)s)")
    parser.set_defaults(verb=examine)


def examine(args: argparse.Namespace) -> int:
    """Try every hop until one fails; leave nothing behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    visit = Visit(args, os.environ)
    try:
        findings = list(_findings(visit))
    finally:
        visit.leave()
    ok = all(one.ok for one in findings)
    script = script_sentence(visit)
    answer = {"script": script, "ok": ok, "hops": [one._asdict() for one in findings]}
    emit(args, answer, lambda: "\n".join([script, "", *(_lines(one) for one in findings)]))
    return Exit.OK if ok else Exit.FAILED


def _interrupt(number: int, frame: object) -> NoReturn:
    del number, frame
    raise KeyboardInterrupt


def _findings(visit: Visit) -> Iterator[Finding]:
    sound = True
    for hop in HOPS:
        finding = _try(hop, visit) if sound else Finding(hop.name, None, "not tried", "", 0.0)
        sound = sound and bool(finding.ok)
        yield finding


def _try(hop: Hop, visit: Visit) -> Finding:
    began = time.monotonic()
    try:
        said, ok, remedy = hop.tried(visit), True, ""
    except Stop as stop:
        said, ok, remedy = stop.message, False, hop.remedy
    return Finding(hop.name, ok, said, remedy, round(time.monotonic() - began, 3))


def _lines(one: Finding) -> str:
    word = {True: "ok", False: "failed", None: "-"}[one.ok]
    first, *more = one.said.splitlines()
    shown = [f"{word:<7} {one.hop:<9} {printable(first)}", *(f"{'':17} {printable(line)}" for line in more)]
    return "\n".join([*shown, *([f"{'':17} next: {one.remedy}"] if one.remedy else [])])


class Given(NamedTuple):
    """What a script finds: a daemon's URL ("": none), what named it, and whether there is a token for it."""

    url: str
    named_by: str
    has_token: bool


def script_sentence(visit: Visit) -> str:
    """What `python script.py` would use here, with a shim; `qpud run` beside it where that is another."""
    mode = os.environ.get("QPUD_LOCAL") or "auto"
    if mode not in ("auto", "never"):
        emulator = LOCAL if mode == "always" else f"{mode} in its own process"
        return f"python script.py uses {emulator}, because QPUD_LOCAL is {mode}."
    try:
        settings = userfile.read(os.environ)
    except Stop as mistake:
        return f"python script.py stops: {mistake.message}."
    return _with_settings(visit, settings, mode)


def _with_settings(visit: Visit, settings: userfile.Settings, mode: str) -> str:
    given = _given_to_scripts(visit, settings)
    target = f"{visit.resource or visit.choice.name or 'the default resource'} ({visit.choice.named_by})"
    silent = given.url.rstrip("/") in visit.silent
    if given.named_by == "QPUD_URL" and silent:
        return f"python script.py stops, because the daemon at {given.url} (QPUD_URL) does not answer."
    if given.named_by == "QPUD_URL" and not given.has_token:
        return f"python script.py is refused by the daemon at {given.url}: QPUD_URL is set, but no token."
    if not (why := _why_local(given, silent)):
        return f"python script.py uses {target} of the daemon at {given.url} ({given.named_by})."
    run = f"\nqpud run -- python script.py uses {target}." if visit.info else ""
    if promise := _promise(settings, mode):
        return f"python script.py stops, because {promise} and {why}.{run}"
    return f"python script.py uses {LOCAL}, because {why}.{run}"


def _given_to_scripts(visit: Visit, settings: userfile.Settings) -> Given:
    """The variable, else the user's file; the sockets are the command line's."""
    has_token = bool(os.environ.get("QPUD_TOKEN") or os.environ.get("QPUD_TOKEN_FILE"))
    if url := os.environ.get("QPUD_URL"):
        return Given(url, "QPUD_URL", has_token)
    found, token_file = userfile.daemon_of(settings, visit.choice.name)
    if found:
        return Given(found.value, found.source, has_token or token_file is not None)
    return Given("", "", has_token)


def _promise(settings: userfile.Settings, mode: str) -> str:
    """Why a shim would raise instead of emulating; empty if it would not (`is_promised` in qpud_pulser.py)."""
    if mode == "never":
        return "QPUD_LOCAL is never"
    choice = chosen(None, os.environ, settings)
    by_environment = choice.named_by in ("QPUD_QPU", *BATCH_VARIABLES)
    stands_for_any = (choice.name or "").upper().startswith("EMU_")
    return f"{choice.named_by} asks for {choice.name}" if by_environment and not stands_for_any else ""


def _why_local(given: Given, silent: bool) -> str:
    """Why a shim would emulate; empty if it would not."""
    if not given.url:
        return "neither QPUD_URL nor url in the user's file names a daemon"
    if not given.has_token:
        return f"{given.named_by} names {given.url}, but no token"
    return f"the daemon at {given.url} ({given.named_by}) does not answer" if silent else ""
