"""One walk from here to the QPU, a hop a method, for `qpud doctor`; each says what it found, or raises Stop."""

from __future__ import annotations

import argparse
import json
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from qpud.cli import userfile
from qpud.cli.choice import Choice, chosen
from qpud.cli.client import Client, segment
from qpud.cli.connect import session_token, token_of_user
from qpud.cli.exits import Exit, Stop
from qpud.cli.locate import Place, places
from qpud.cli.reasons import explain
from qpud.cli.run import resource_named, url_of
from qpud.cli.submit import close_session, open_session
from qpud.cli.wait import TERMINAL

SHOTS = 2
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HOLD_SECONDS = 5.0
DURATION = "0.00000100"  # s; a µs of weak light on one atom runs everywhere


class Visit:
    """What is known so far, and what must be given back.

    Args:
        args: The options --qpu, --socket, --url and --timeout.
        environ: The environment.
    """

    def __init__(self, args: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._args = args
        self._environ = environ
        self._client: Client | None = None
        self._session = ""  # of our own
        self._job: dict[str, Any] | None = None
        self._spec: dict[str, Any] = {}
        self.token = ""  # of the session that is used
        self.silent: set[str] = set()  # URLs at which nobody answered
        self.choice = Choice((), "the daemon's default")
        self.info: dict[str, Any] = {}
        self.resource = ""

    @property
    def client(self) -> Client:
        """The way to the daemon. Raises: Stop, before `reach_daemon`."""
        if self._client is None:
            raise Stop("no daemon was looked for", Exit.NO_DAEMON)
        return self._client

    def read_settings(self) -> str:
        """The user's file, and which resource is meant."""
        settings = userfile.read(self._environ)
        self.choice = chosen(self._args.qpu, self._environ, settings)
        which = (
            f"{self.choice.name} is asked for by {self.choice.named_by}"
            if self.choice.name
            else "no resource is named"
        )
        path = userfile.path_of(self._environ)
        held = f"has {len(settings)} setting{'s' if len(settings) > 1 else ''}"
        return f"{which}; {path} {held if settings else 'is not there or empty'}"

    def reach_daemon(self) -> str:
        """A socket or a TCP address answers as qpud does."""
        args, environ = self._args, self._environ
        where = places(args.socket, args.url, environ, args.qpu)
        by_file = not (args.socket or args.url or environ.get("QPUD_SOCKET") or environ.get("QPUD_URL"))
        token = session_token(environ) or (token_of_user(environ, args.qpu) if by_file else None)
        self._client = Client(where, token)
        with self._noting_silence(where):
            self.client.get("/healthz")
        return f"answers at {self.client.place}"

    def be_known(self) -> str:
        """The daemon accepts who we are."""
        self.info = self.client.get("/v1/info")
        by_tcp = "the token given" if self.client.token else "a munge credential"
        proof = "your user id on its Unix socket" if self.client.place.socket else by_tcp
        return f"qpud {self.info['version']} knows you by {proof}"

    def find_resource(self) -> str:
        """The resource exists; how it is."""
        self.resource = resource_named(self.info, self.choice.name, self.choice.named_by)
        (line,) = (one for one in self.info["resources"] if one["name"] == self.resource)
        why = line.get("drained_reason") or line.get("message")
        return f"{self.resource} ({self.choice.named_by}) is {line['state']}{f': {why}' if why else ''}"

    def open_session(self) -> str:
        """A session: the given token's, else one of our own."""
        if self.client.token:
            self.token = self.client.token
            return "the session of the given token is used"
        with undisturbed():
            grant = open_session(self.client, slurm_job_id=self._mark())
            self._session, self.token = grant["id"], grant["token"]
        return f"opened for user {grant['user']} in queue {grant['queue']}, closed again at the end"

    def _mark(self) -> str:
        mark = f"doctor-{uuid.uuid4().hex[:8]}"
        slurm_job = self._environ.get("SLURM_JOB_ID")
        return f"{slurm_job}.{mark}" if slurm_job else mark

    def knock_on_url(self) -> str:
        """SDKs speak TCP: the address answers, and takes the token."""
        url = self._environ.get("QPUD_URL") or url_of(self.client, self.info)
        where = [Place(None, url, "what SDKs are given")]
        knocking = Client(where, self.token)
        try:
            with self._noting_silence(where):
                knocking.get("/v1/info")
        finally:
            knocking.close()
        return f"{url} answers, and accepts the session's token"

    @contextmanager
    def _noting_silence(self, where: list[Place]) -> Iterator[None]:
        try:
            yield
        except Stop as stop:
            if stop.code is Exit.NO_DAEMON:
                self.silent.update(one.url.rstrip("/") for one in where if one.url)
            raise

    def read_specs(self) -> str:
        """The device as it is now."""
        answer = self.client.get(f"/v1/resources/{segment(self.resource)}/spec")
        self._spec = answer["spec"]
        atoms, runs = self._spec.get("max_atom_num"), answer.get("max_runs")
        limits = [f"at most {number} {what}" for number, what in ((atoms, "atoms"), (runs, "shots")) if number]
        return ", ".join([f"device {answer['name']}", *limits])

    def run_job(self) -> str:
        """Two shots on one atom, where Pulser's programs run."""
        if "target" in self._spec:  # QRMI's word for it; no Pulser device has this field
            return f"not tried: {self.resource} takes programs of its own kind, not Pulser's"
        began = time.monotonic()
        body = {
            "sequence": json.dumps(_one_atom(self._spec)),
            "shots": SHOTS,
            "resource": self.resource,
            "name": "doctor",
        }
        headers = {"X-Warden-Session": self.token, "Idempotency-Key": str(uuid.uuid4())}
        with undisturbed():
            self._job = self.client.post("/v1/jobs", body, headers)
        self._wait(began + self._args.timeout)
        spent = time.monotonic() - began
        result = self.client.get(f"/v1/jobs/{self._job['id']}/result")
        if result["job"]["state"] not in TERMINAL:
            why = explain(result["job"]["reason"]) or "it has begun"
            raise Stop(f"{SHOTS} shots did not end within {self._args.timeout:g} s: {why}")
        self._job = None
        if result["job"]["state"] != "DONE":
            raise Stop(f"the job is {result['job']['state']}: {result['message'] or explain(result['job']['reason'])}")
        return f"{SHOTS} shots in {spent:.1f} s: {result['counts']}"

    def _wait(self, deadline: float) -> None:
        job = self._job or {}
        while job["state"] not in TERMINAL and (left := deadline - time.monotonic()) > 0:
            hold = min(HOLD_SECONDS, left)
            job = self.client.get(f"/v1/jobs/{job['id']}", wait=hold)

    def leave(self) -> None:
        """Cancel and close what is ours; nothing of it can fail the walk."""
        if self._client is None:
            return
        with undisturbed():
            self._client.close()  # it may be in the middle of an answer
            if self._job:
                with suppress(Stop):
                    self._client.post(f"/v1/jobs/{self._job['id']}/cancel")
            if self._session:
                close_session(self._client, self._session)
            self._client.close()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait: between asking for something and knowing its name, nobody could give it back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _one_atom(spec: Mapping[str, Any]) -> dict[str, Any]:
    """An AHS program for any device: one atom, on a trap of a calibrated layout where there is one."""
    layouts = spec.get("pre_calibrated_layouts") or [{"coordinates": [[0.0, 0.0]]}]
    site = [f"{um * 1e-6:.8f}" for um in layouts[0]["coordinates"][0]]
    weak, off = ["0.00000000", "1000000.00000000"], ["0.00000000"] * 2  # rad/s
    drive = {name: _series(off) for name in ("detuning", "phase")} | {"amplitude": _series(weak)}
    return {
        "setup": {"ahs_register": {"sites": [site], "filling": [1]}},
        "hamiltonian": {"drivingFields": [drive], "localDetuning": []},
    }


def _series(values: list[str]) -> dict[str, Any]:
    return {"pattern": "uniform", "time_series": {"times": ["0.00000000", DURATION], "values": values}}
