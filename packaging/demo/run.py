"""`make run`: two queues share a simulated QPU, from the zipapp, as any user would do it.

Starts `qpud serve --dev` in a temporary folder, runs sdk_shims/pulser/afm.py in queue `development`, submits a
`production` job while it runs, and shows what happened. Whatever the end (success, failure, Ctrl-C, SIGTERM),
everything started is stopped and the folder removed. Standard library only.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import story
from unix import get

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "sdk_shims" / "pulser" / "afm.py"
URGENT = Path(__file__).resolve().parent / "production.json"
WORKER = ROOT / ".venv" / "worker" / "bin" / "python"
RUN = ["run", "--qpu=FRESNEL", "--queue=development", "--"]
SPEED_UP = 100  # QPU seconds per second of the demo
READY_SECONDS = 30.0
DEMO_SECONDS = 120.0
STOP_SECONDS = 10.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Command = list[str | Path]
Process = subprocess.Popen[bytes]


class Failed(Exception):
    """The demo cannot go on, with a sentence."""


class Stopped(BaseException):
    """A signal asked the demo to end."""


def main() -> int:
    """Run the demo; 0 if all went as it should, 128 + N after signal N."""
    for number in SIGNALS:
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="qpud-demo-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        try:
            play(folder)
        except Stopped as asked:
            print("\nstopped; nothing is left running.", flush=True)
            return 128 + int(asked.args[0])
        except (Failed, OSError, subprocess.SubprocessError) as reason:
            print(f"\nmake run failed: {reason}\n{tail(folder / 'daemon.log')}", file=sys.stderr)
            return 1
    return 0


def stop(number: int, frame: object) -> NoReturn:
    """End the demo; what it started is ended on the way out, undisturbed by further signals."""
    del frame
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def play(folder: Path) -> None:
    """The demo itself."""
    qpud, env = zipapp(), environment(folder)
    with serving(qpud, env, folder) as url:
        story.tell(story.SERVING, speed_up=SPEED_UP, url=url)
        story.tell(story.RUNNING)
        with started([qpud, *RUN, WORKER, SCRIPT], env, folder / "script.log") as script:
            development = first_job(socket_in(folder), script)
            production = submit_urgent(qpud, env, folder)
            story.tell(story.SUBMITTED, development=development, production=production)
            await_success(script, folder / "script.log")
        story.tell(story.COUNTS)
        print((folder / "script.log").read_text())
        jobs = [history(socket_in(folder), job) for job in (development, production)]
    story.tell_end(jobs, qpud, WORKER)
    if not story.overtaken(*jobs):
        raise Failed("the production job did not overtake the development job")


def await_success(script: Process, log: Path) -> None:
    """Wait for the user's script. Raises: Failed with its last words."""
    try:
        code = script.wait(DEMO_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failed(f"{SCRIPT.name} did not end within {DEMO_SECONDS:.0f} s") from None
    if code:
        raise Failed(f"{SCRIPT.name} ended with code {code}\n{tail(log)}")


def history(socket: Path, job: str) -> story.Run:
    """What became of a job, once it has ended."""
    result = get(socket, f"/v1/jobs/{job}/result?wait=60")
    return story.Run(result, get(socket, f"/v1/jobs/{job}/logs")["lines"])


def socket_in(folder: Path) -> Path:
    """Where `serve --dev --state FOLDER/state` listens."""
    return folder / "state" / "qpud.sock"


def zipapp() -> Path:
    """The built file."""
    built = sorted((ROOT / "dist").glob("qpud-*.pyz"))
    if not built:
        raise Failed("there is no zipapp in dist/: make pyz")
    return built[-1]


def environment(folder: Path) -> dict[str, str]:
    """The user's, without settings for another daemon; cache, socket and temporary files lie in the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("QPUD_", "QRMI_", "SLURM_"))}
    own = {"SHIV_ROOT": folder / "cache", "QPUD_SOCKET": socket_in(folder), "TMPDIR": folder}
    return {**kept, **{name: str(path) for name, path in own.items()}}


@contextmanager
def started(command: Command, env: dict[str, str], log: Path, stdout: int | None = None) -> Iterator[Process]:
    """A process in a session of its own, so that Ctrl-C reaches only the demo; ended with its children on the way out.

    Args:
        command: What to run.
        env: Its environment.
        log: Where its errors go, and its output too unless `stdout` is given.
        stdout: As for Popen.
    """
    process: Process | None = None
    try:
        with log.open("wb") as errors, signals_wait():
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout or errors,
                stderr=errors,
                start_new_session=True,
            )
        yield process
    finally:
        if process is not None:
            end(process)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Signals that come meanwhile count afterwards: inside Popen they would lose a process that runs already."""
    came: list[int] = []
    for each in SIGNALS:
        signal.signal(each, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        for each in SIGNALS:
            signal.signal(each, stop)
    if came:
        stop(came[0], None)


def end(process: Process) -> None:
    """Ask a process to stop, then make sure of it and of its children."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


@contextmanager
def serving(qpud: Path, env: dict[str, str], folder: Path) -> Iterator[str]:
    """A daemon that is ready; gives its address."""
    place: Command = ["--state", folder / "state", "--port=0"]
    serve: Command = [qpud, "serve", "--dev", *place, "--worker-python", WORKER, f"--speed-up={SPEED_UP}"]
    with started(serve, env, folder / "daemon.log", subprocess.PIPE) as daemon:
        assert daemon.stdout  # noqa: S101 - for the type checker: it is a pipe
        said, _, _ = select.select([daemon.stdout], [], [], READY_SECONDS)
        words = daemon.stdout.readline().decode().split() if said else []
        if words[:1] != ["ready"]:
            raise Failed(f"the daemon was not ready within {READY_SECONDS:.0f} s")
        yield words[1]


def first_job(socket: Path, script: Process) -> str:
    """The id of the script's job, as soon as some of its shots are done."""
    deadline = time.monotonic() + DEMO_SECONDS
    while time.monotonic() < deadline and script.poll() is None:
        for job in get(socket, "/v1/queue")["queue"]:
            if job["shots_done"]:
                return str(job["id"])
        time.sleep(0.05)
    raise Failed(f"{SCRIPT.name} got no shots\n{tail(socket.parent.parent / 'script.log')}")


def submit_urgent(qpud: Path, env: dict[str, str], folder: Path) -> str:
    """Submit the production job; its id."""
    where = ["--qpu=FRESNEL", "--queue=production", "--shots=200", "--json"]
    log = folder / "submit.log"
    with started([qpud, "submit", URGENT, *where], env, log, subprocess.PIPE) as submit:
        said, _ = submit.communicate(timeout=DEMO_SECONDS)
    if submit.returncode:
        raise Failed(f"qpud submit: {log.read_text().strip()}")
    accepted = json.loads(said)
    return str((accepted[0] if isinstance(accepted, list) else accepted)["id"])


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log."""
    kept = log.read_text(errors="replace").splitlines()[-lines:] if log.exists() else []
    return "\n".join([f"--- the end of {log.name}:", *kept]) if kept else ""


if __name__ == "__main__":
    sys.exit(main())
