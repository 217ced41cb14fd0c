"""Pulser on qpud: `QpudBackend(sequence)`, here an emulator, in `qpud run` or a Slurm job the resource of a daemon.

One file to copy beside a script; needs Pulser and the standard library, and qpud_local.py beside it where it shall
emulate. `qpud run --qpu=NAME -- python script.py`, or Slurm in a job with `--qpu=NAME`, tells it where the daemon is
(QPUD_URL), as whom to speak (QPUD_TOKEN, or a file in QPUD_TOKEN_FILE) and which resource to use (QPUD_QPU); what they
leave open is read from ~/.config/qpud.ini. What qpud refuses is raised with qpud's own sentence.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from pulser import Sequence
from pulser.backend import QPUBackend
from pulser.backend.config import BackendConfig
from pulser.backend.remote import (
    BatchStatus,
    JobParams,
    JobStatus,
    RemoteConnection,
    RemoteResults,
    RemoteResultsError,
)
from pulser.backend.results import Results
from pulser.devices import Device
from pulser.json.abstract_repr.deserializer import deserialize_device

WAIT_SECONDS = 60  # how long one request is held for an answer to arrive, and a daemon that restarts waited for
PACE_SECONDS = 1  # before asking again what is not ready
ENDED = {"DONE", "CANCELED", "ERROR"}


class QpudError(Exception):
    """What qpud refused, in its own sentence."""


class QpudNotReady(QpudError):
    """What qpud cannot answer yet: a daemon that has just started does not know its devices."""


class QpudUnreachable(QpudError):
    """No daemon is named, or the one that is does not answer."""


# -- what is meant: the rule of `qpud --qpu`, see sdk_shims/README.md


class Place(NamedTuple):
    """A resource ("": the daemon's default) and its daemon ("": none), with what named them."""

    qpu: str
    qpu_by: str
    url: str
    url_by: str
    token_file: str

    @property
    def is_promised(self) -> bool:
        """Whether somebody asked for just this resource or daemon, so that an emulator in its place would deceive."""
        asked_for_qpu = self.qpu and not _in_user_file(self.qpu_by) and not self.qpu.upper().startswith("EMU_")
        return bool(asked_for_qpu or (self.url and not _in_user_file(self.url_by)))


def choose(qpu: str | None = None, url: str | None = None) -> Place:
    """Argument, QPUD_QPU, QRMI's or Slurm's variables, the user's file; the URL: argument, QPUD_URL, the file."""
    settings, env = _user_settings(), os.environ
    between = env.get("QRMI_LIST_DELIMITER") or ","
    named = [(qpu, "argument qpu", ","), (env.get("QPUD_QPU"), "QPUD_QPU", ",")]
    named += [(env.get(f"{who}_JOB_QPU_RESOURCES"), f"{who}_JOB_QPU_RESOURCES", between) for who in ("QRMI", "SLURM")]
    named += [(*settings.get(("default", "qpu"), ("", "")), ","), ("", "the daemon's default", ",")]
    found = ((_first(text or "", separator), by) for text, by, separator in named)
    name, name_by = next(((one, by) for one, by in found if one or by == "the daemon's default"))
    section = name if (name, "url") in settings else "default"
    places = [(url, "argument url"), (env.get("QPUD_URL"), "QPUD_URL"), settings.get((section, "url"), ("", ""))]
    at, at_by = next(((one, by) for one, by in places if one), ("", ""))
    token_file = settings.get((section, "token_file"), ("", ""))[0] if _in_user_file(at_by) else ""
    return Place(name, name_by, at.rstrip("/"), at_by, token_file)


def _first(text: str, separator: str) -> str:
    return next((name.strip() for name in text.split(separator) if name.strip()), "")


def _user_file() -> Path:
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path(os.environ.get("HOME", "/")) / ".config") / "qpud.ini"


def _in_user_file(source: str) -> bool:
    return source.startswith(f"{_user_file()}, line ")


def _user_settings() -> dict[tuple[str, str], tuple[str, str]]:
    """(section, key) → (value, where it stands); the grammar of qpud/cli/userfile.py."""
    path, section, found = _user_file(), "default", {}
    try:
        path.stat()
    except OSError:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as why:
        raise QpudError(f"{path} cannot be read: {getattr(why, 'strerror', why)}") from None
    for number, raw in enumerate(lines, start=1):
        line = re.sub(r"(^|\s)[#;].*", "", raw).strip()
        if header := re.fullmatch(r"\[\s*([^]\s]+)\s*\]", line):
            section = header[1]
        elif line:
            known = ("qpu", "url", "token_file") if section == "default" else ("url", "token_file")
            written = re.fullmatch(r"(\w+)\s*=\s*(.*)", line)
            if not written or not written[2] or written[1].lower() not in known:
                wanted = f"[{section}] takes {', '.join(known)} = VALUE"
                raise QpudError(f"{path}, line {number}: {wanted}, not {line[:60]!r}")
            found[section, written[1].lower()] = (written[2], f"{path}, line {number}")
    return found


def _session_token(place: Place) -> str:
    """The token that `qpud run` sets, that Slurm laid in a file, or that the user's file names; "" without any."""
    if token := os.environ.get("QPUD_TOKEN"):
        return token
    in_job = os.environ.get("QPUD_TOKEN_FILE")
    if not (named := in_job or place.token_file):
        return ""
    try:
        return Path(named).expanduser().read_text(encoding="utf-8").strip()
    except OSError as why:
        by = "QPUD_TOKEN_FILE" if in_job else "token_file"
        raise QpudError(f"{by} {named} cannot be read: {why.strerror}") from None


def connect(qpu: str | None = None, *, local: str | None = None) -> RemoteConnection:
    """The resource that is meant where its daemon answers, else an emulator in this process; says which and why.

    Args:
        qpu: Name of the resource; default: see `choose`.
        local: "auto" (the default), "never", "always", or an emulator: "emu-mps", "emu-sv", "qutip". Default:
            QPUD_LOCAL. With "auto" nothing is emulated in place of a daemon or QPU that was asked for by argument or
            environment; of names, those with EMU_ stand for any emulator.

    Raises:
        QpudUnreachable: What was asked for cannot be reached.
        QpudError: The daemon refused the token, the user's file has a mistake, or no emulator is installed.
    """
    mode = local or os.environ.get("QPUD_LOCAL") or "auto"
    if mode not in ("auto", "never"):
        return _emulator(None if mode == "always" else mode, f"QPUD_LOCAL or local is {mode}")
    place = choose(qpu)
    try:
        connection = QpudConnection(qpu)
        connection.resources()  # it answers, and knows the token
    except QpudUnreachable as why:
        if mode == "never" or place.is_promised:
            raise
        return _emulator(None, str(why))
    _say(f"{connection.qpu} ({place.qpu_by}) at {place.url} ({place.url_by})")
    return connection


def _emulator(name: str | None, why: str) -> RemoteConnection:
    from qpud_local import LocalConnection  # here, because most who copy this file want the daemon only

    connection = LocalConnection(name)
    _say(f"emulates in this process with {connection.emulator}: {why}")
    return connection


@functools.cache
def _say(line: str) -> None:
    """Once for each line: a loop may connect each time."""
    print(f"qpud: {line}", file=sys.stderr)


class QpudBackend(QPUBackend):
    """Pulser's QPUBackend on what `connect` finds; everything else is Pulser's.

    Args:
        sequence: For the device of the connection, which `connect().fetch_available_devices()` tells.
        connection: Default: `connect(qpu, local=local)`.
        qpu: Name of the resource.
        local: Whether to emulate in this process, see `connect`.
        config: For `default_num_shots`.
    """

    def __init__(
        self,
        sequence: Sequence,
        connection: RemoteConnection | None = None,
        *,
        qpu: str | None = None,
        local: str | None = None,
        config: BackendConfig | None = None,
    ) -> None:
        super().__init__(sequence, connection or connect(qpu, local=local), config=config)


class _NoRedirect(HTTPRedirectHandler):
    """urllib would send the token wherever a redirect points."""

    def redirect_request(self, *_: Any) -> None:
        """The answer is an error."""


class QpudConnection(RemoteConnection):
    """A connection to one resource of a qpud daemon.

    Args:
        qpu: Name of the resource, as in `--qpu=NAME`. Default: as `choose` finds it.
        url: Address of the daemon. Default: as `choose` finds it.
        token: Token of a session. Default: QPUD_TOKEN, else what the file QPUD_TOKEN_FILE, or the user's file, names.
    """

    def __init__(self, qpu: str | None = None, url: str | None = None, token: str | None = None) -> None:
        place = choose(qpu, url)
        self._url = place.url
        if not self._url:
            raise QpudUnreachable("QPUD_URL is not set: start the script with `qpud run --qpu=NAME -- python …`")
        if not re.match(r"https?://.", self._url):
            raise QpudError(f"{place.url_by} {self._url!r} is not a URL like http://127.0.0.1:8006")
        self._token = token or _session_token(place)
        if not self._token and _in_user_file(place.url_by):
            raise QpudUnreachable(
                f"{place.url_by} names a daemon, but there is no token: `qpud run -- python …` has one"
            )
        self._has_answered = False
        self.qpu = place.qpu or str(self._get("/v1/resources")["default"])
        self._built: dict[str, Sequence] = {}  # what each job of this connection runs, by job id
        self._programs: dict[str, str] = {}  # of each batch that this connection opened

    # -- what Pulser's QPUBackend calls

    def fetch_available_devices(self) -> dict[str, Device]:
        """The resource's device as it is now, by the resource's name."""
        spec = self._get(f"/v1/resources/{quote(self.qpu, safe='')}/spec")["spec"]
        return {self.qpu: deserialize_device(json.dumps(spec))}

    def submit(
        self,
        sequence: Sequence,
        wait: bool = False,
        open: bool = False,
        batch_id: str | None = None,
        *,
        job_params: list[JobParams] | None = None,
        **_: Any,
    ) -> RemoteResults:
        """Submit one job for each entry of `job_params`; qpud has stored them when this returns.

        Args:
            sequence: What to run; a missing measurement is added.
            wait: Return only when every job has ended.
            open: Leave the batch open for more jobs. It holds nothing of the resource, and closes when long unused.
            batch_id: An open batch to add the jobs to.
            job_params: `{"runs": shots, "variables": {…}}` for each job; may be missing when a batch is opened.

        Raises:
            QpudError: qpud refused the batch, or it is closed.
            RemoteResultsError: With `wait`: a job did not end well.
            ValueError: No `job_params`.
        """
        if not (job_params or open):
            raise ValueError("job_params must hold at least one entry, such as {'runs': 500}")
        measured = self._add_measurement_to_sequence(self.update_sequence_device(sequence))
        built = [_build(measured, params) for params in job_params or []]
        asked = [_job(params) for params in job_params or []]
        program = measured.to_abstract_repr()
        batch = self._add(batch_id, program, asked) if batch_id else self._open(program, asked, open)
        ids = [str(job["id"]) for job in batch["jobs"]][len(batch["jobs"]) - len(asked) :]
        self._built.update(zip(ids, built, strict=True))
        results = RemoteResults(batch["id"], self, ids if batch_id else None)
        if wait:
            self._fetch_result(results.batch_id, ids)
        return results

    def supports_open_batch(self) -> bool:
        """Yes."""
        return True

    def _open(self, program: str, jobs: list[dict[str, Any]], open: bool) -> dict[str, Any]:
        body = {"resource": self.qpu, "open": open, "sequence": program, "jobs": jobs}
        batch = self._post("/v1/batches", body)
        self._programs[batch["id"]] = program
        return batch

    def _add(self, batch_id: str, program: str, jobs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._programs.get(batch_id) != program:
            jobs = [{**job, "sequence": program} for job in jobs]
        return self._post(f"/v1/batches/{batch_id}/jobs", jobs)

    def _close_batch(self, batch_id: str) -> None:
        self._request("POST", f"/v1/batches/{batch_id}/complete")

    # -- what Pulser has no word for

    def resources(self) -> list[str]:
        """Names of all resources of this daemon."""
        return [str(one["name"]) for one in self._get("/v1/resources")["resources"]]

    def cancel(self, results: RemoteResults) -> None:
        """Stop what has not ended of these results; shots that were taken are kept."""
        for job in results.job_ids:
            self._request("POST", f"/v1/jobs/{job}/cancel")

    def progress(self, results: RemoteResults) -> dict[str, tuple[int, int]]:
        """Shots done and shots asked for, by job id."""
        jobs = {str(job["id"]): job for job in self._get(f"/v1/batches/{results.batch_id}")["jobs"]}
        return {one: (jobs[one]["shots_done"], jobs[one]["shots"]) for one in results.job_ids}

    # -- what Pulser's RemoteResults calls

    def _get_job_ids(self, batch_id: str) -> list[str]:
        return [str(job["id"]) for job in self._get(f"/v1/batches/{batch_id}")["jobs"]]

    def _get_batch_status(self, batch_id: str) -> BatchStatus:
        return BatchStatus[self._get(f"/v1/batches/{batch_id}")["state"]]

    def _fetch_result(self, batch_id: str, job_ids: list[str] | None) -> list[Results]:
        return [self._results(self._wait_for_end(job)) for job in job_ids or self._get_job_ids(batch_id)]

    def _query_job_progress(self, batch_id: str) -> Mapping[str, tuple[JobStatus, Results | None]]:
        return dict(self._progress(batch_id))

    def _progress(self, batch_id: str) -> Iterator[tuple[str, tuple[JobStatus, Results | None]]]:
        for job in self._get_job_ids(batch_id):
            answer = self._get(f"/v1/jobs/{job}/result")
            state = answer["job"]["state"]
            yield job, (JobStatus[state], self._results(answer) if state == "DONE" else None)

    def _wait_for_end(self, job: str) -> dict[str, Any]:
        while True:
            answer = self._get(f"/v1/jobs/{job}/result?wait={WAIT_SECONDS}")
            if answer["job"]["state"] in ENDED:
                return answer

    def _results(self, answer: dict[str, Any]) -> Results:
        job, counts = answer["job"], answer["counts"]
        if job["state"] != "DONE":
            raise RemoteResultsError(f"job {job['id']} is {job['state']}: {answer['message'] or job['reason']}")
        built = self._built.get(str(job["id"]))
        if built is None:  # submitted by another process: the order is the register's, its names are not known here
            return Results.from_final_bitstrings([f"q{i}" for i in range(len(next(iter(counts))))], 0, counts)
        return Results.from_final_bitstrings(built.register.qubit_ids, built.get_duration(), counts)

    # -- HTTP

    def _get(self, path: str) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return self._request("GET", path)
            except QpudNotReady:
                if time.monotonic() > deadline:
                    raise
                time.sleep(PACE_SECONDS)

    def _post(self, path: str, body: object) -> dict[str, Any]:
        """With a key, so that a repeated one arrives once."""
        answer: dict[str, Any] = self._request("POST", path, body, {"Idempotency-Key": str(uuid.uuid4())})
        return answer

    def _request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Any:
        """Ask, and once the daemon has answered at all, wait for it to come back: an upgrade must not end a script."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                answer = self._once(method, path, body, headers)
            except QpudUnreachable as why:
                if not self._has_answered or time.monotonic() > deadline:
                    raise
                _say(f"{why}; asking again for {WAIT_SECONDS} s")
                time.sleep(PACE_SECONDS)
            else:
                self._has_answered = True
                return answer

    def _once(self, method: str, path: str, body: object, headers: Mapping[str, str] | None) -> Any:
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}", **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data, sent, method=method)
        try:
            # No proxy and no redirect: the token is for the daemon alone.
            with build_opener(ProxyHandler({}), _NoRedirect).open(request, timeout=WAIT_SECONDS + 30) as answer:
                return json.load(answer)
        except HTTPError as refused:
            raise (QpudNotReady if refused.code == 503 else QpudError)(_sentence(refused)) from None
        except (OSError, HTTPException) as gone:  # what comes after the request was sent, urllib does not wrap
            reason = gone.reason if isinstance(gone, URLError) else gone
            if data and isinstance(reason, (BrokenPipeError, ConnectionResetError)):
                self._check_size(len(data))
            raise QpudUnreachable(f"qpud does not answer at {self._url}: {reason or type(reason).__name__}") from None

    def _check_size(self, size: int) -> None:
        """Say what qpud's lost answer said: it hangs up on a body that is too large, while the rest is on its way."""
        limit = self._get("/v1/info")["max_body_size"]
        if size > limit:
            raise QpudError(
                f"the body of {size} bytes exceeds MaxBodySize {limit} bytes: give fewer job_params to one run()"
            )


def _job(params: JobParams) -> dict[str, Any]:
    variables = json.loads(json.dumps(params.get("variables", {}), default=_plain))
    return {"shots": params["runs"], "variables": variables}


def _build(sequence: Sequence, params: JobParams) -> Sequence:
    return (
        sequence.build(**params.get("variables", {}))
        if sequence.is_parametrized() or sequence.is_register_mappable()
        else sequence
    )


def _sentence(refused: HTTPError) -> str:
    text = refused.read().decode(errors="replace")
    try:
        return str(json.loads(text)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"qpud answered {refused.code}: {text[:200]}"


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    return value.tolist()
