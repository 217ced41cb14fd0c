"""Start the worker's parent process under another interpreter, from wherever this qpud lies.

That interpreter sees our folder `qpud` as a bare package and nothing else of ours: the daemon may run from a
zipapp for another Python, whose site-packages would break Pulser's. `-I -B`: no PYTHON* variables, no user site, no
current folder, no .pyc written (the folder may be read-only or another user's).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

BOOTSTRAP = """\
import sys, types
package = types.ModuleType("qpud")
package.__path__ = [sys.argv[1]]
sys.modules["qpud"] = package
from importlib import import_module
import_module(sys.argv[4]).main(int(sys.argv[2]), sys.argv[3])
"""
WORKER = "qpud.worker.start"
KEPT_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
STOP_SECONDS = 10.0  # for srun to cancel its Slurm job; it waits 4 s for a step that does not end
LINE_LIMIT = 64 << 20  # counts of a million distinct bitstrings fit
FOLDER = Path(__file__).parent.parent


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the parent is told: number of validators, bytes and seconds that one validation may take."""

    validators: int
    validation_memory: int
    validation_timeout: float


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A running parent and our end of its stream; here also the folder that its libraries may write to.

    On a node `process` is srun, `place` tells the Slurm job and the node.
    """

    process: Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    folder: TemporaryDirectory[str] | None = None
    place: dict[str, str] = {}

    def stop(self) -> None:
        """End it at once: srun is asked, for it has a Slurm job to cancel."""
        with contextlib.suppress(ProcessLookupError):
            if self.folder is None:
                self.process.terminate()
            else:
                self.process.kill()

    def clean_up(self) -> None:
        """Remove what it left on this machine."""
        if self.folder is not None:
            self.folder.cleanup()


async def launch(
    python: Path, settings: msgspec.Struct, module: str = WORKER, variables: dict[str, str] | None = None
) -> Launched:
    """Start the parent.

    Args:
        python: Its interpreter.
        settings: What its `main` is told.
        module: Whose `main` it runs.
        variables: Added to its environment.

    Raises:
        OSError: The interpreter cannot be run.
    """
    ours, theirs = socket.socketpair()
    folder = TemporaryDirectory(prefix="qpud-worker-", ignore_cleanup_errors=True)
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT)
        try:
            environment = {**_environment(folder.name), **(variables or {})}
            process = await _start(python, theirs, settings, module, environment)
        except BaseException:
            writer.close()
            folder.cleanup()
            raise
    return Launched(folder=folder, process=process, reader=reader, writer=writer)


async def _start(
    python: Path, theirs: socket.socket, settings: msgspec.Struct, module: str, environment: dict[str, str]
) -> Process:
    descriptor = theirs.fileno()
    return await asyncio.create_subprocess_exec(
        str(python),
        *("-I", "-B", "-c", BOOTSTRAP, str(FOLDER), str(descriptor), msgspec.json.encode(settings).decode(), module),
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        pass_fds=(descriptor,),  # and nothing else: the daemon's listening sockets stay its own
        env=environment,
        start_new_session=True,  # Ctrl-C reaches the daemon only
    )


def _environment(folder: str) -> dict[str, str]:
    """The system's words; HOME, tokens (QPUD_TOKEN too) and PYTHON* of the daemon stay out."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_ENVIRONMENT}
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**kept, **threads, "MPLCONFIGDIR": folder}


async def listen(process: Process, last_words: deque[str]) -> None:
    """Keep the last lines that the worker and its children print."""
    assert process.stderr is not None  # noqa: S101 (launched with a pipe)
    while chunk := await process.stderr.read(1 << 16):
        last_words.extend(chunk.decode(errors="replace").splitlines())


async def end(launched: Launched, listening: asyncio.Task[None], *, patience: float) -> None:
    """Hang up, so that the parent kills its children and exits; stop it if it does not within `patience` seconds."""
    launched.writer.close()
    with contextlib.suppress(OSError):
        await launched.writer.wait_closed()
    try:
        async with asyncio.timeout(patience):
            await launched.process.wait()
    except TimeoutError:
        launched.stop()
        await _gone(launched.process)
    await listening
    launched.clean_up()


async def _gone(process: Process) -> None:
    """Wait for the end of a process that was stopped; kill it if that takes long."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
