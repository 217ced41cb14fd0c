"""Start the worker's parent process on a node of the cluster: its standard streams, carried by srun, are the wire.

The node needs an interpreter with Pulser and nothing of ours: the bootstrap reads the source of `qpud/worker` from
its standard input and imports it from memory. What a site's TaskProlog prints arrives on the same stream before
the worker's first word, and is skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import zlib
from asyncio.subprocess import Process
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from qpud.drivers.base import SlurmProtocol
from qpud.drivers.launch import FOLDER, Launched, Settings
from qpud.drivers.workers import WorkerFault

BOOTSTRAP = """\
import importlib.abc, importlib.util, json, os, sys, zlib
left, parts = int(sys.argv[1]), []
while left:
    part = os.read(0, left)
    if not part:
        sys.exit("the daemon hung up")
    left -= len(part)
    parts.append(part)
sources = json.loads(zlib.decompress(b"".join(parts)))
class Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in sources:
            return importlib.util.spec_from_loader(name, self, is_package=name in ("qpud", "qpud.worker"))
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(sources[module.__name__], "<" + module.__name__ + ">", "exec"), module.__dict__)
sys.meta_path.insert(0, Sources())
from qpud.worker.start import main_on_node
main_on_node(sys.argv[2])
"""
MOST_NOISE = 1000  # lines before the worker's first word
STOP_SECONDS = 10.0


async def launch_by_slurm(
    slurm: SlurmProtocol, name: str, options: list[str], python: Path, settings: Settings
) -> Launched:
    """Start the parent as a Slurm job and wait until it runs, for as long as Slurm has no node for it.

    Raises:
        WorkerFault: Slurm refuses, or the interpreter cannot be run; the message is what srun said.
        OSError: There is no srun.
    """
    archive = _archive()
    words = ["-I", "-B", "-c", BOOTSTRAP, str(len(archive)), msgspec.json.encode(settings).decode()]
    process = await slurm.start(name, options, [str(python), *words])
    assert process.stdin is not None and process.stdout is not None  # noqa: S101 (started with pipes)
    try:
        process.stdin.write(archive)
        place = await _first_word(process)
    except BaseException:
        await asyncio.shield(_stop(process))
        raise
    return Launched(process=process, reader=process.stdout, writer=process.stdin, place=place)


@cache
def _archive() -> bytes:
    """The source of the worker, by module."""
    files = sorted((FOLDER / "worker").glob("*.py"))
    names = {f"qpud.worker.{file.stem}".removesuffix(".__init__"): file.read_text() for file in files}
    return zlib.compress(json.dumps({"qpud": "", **names}).encode())


async def _first_word(process: Process) -> dict[str, str]:
    assert process.stdout is not None  # noqa: S101 (started with pipes)
    for _ in range(MOST_NOISE):
        if not (line := await process.stdout.readline()):
            break
        if (place := _place(line)) is not None:
            return place
    raise WorkerFault(await _refusal(process))


def _place(line: bytes) -> dict[str, str] | None:
    try:
        word: Any = json.loads(line)
    except ValueError:
        return None
    place = word.get("started") if isinstance(word, dict) else None
    return {key: str(value) for key, value in place.items()} if isinstance(place, dict) else None


async def _refusal(process: Process) -> str:
    """What srun complained of before it ended, on one line."""
    assert process.stderr is not None  # noqa: S101 (started with pipes)
    text = (await process.stderr.read()).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    complaints = dict.fromkeys(re.sub(r"^\S+: error: ", "", line) for line in lines if ": error: " in line)
    return "; ".join(complaints or lines[-1:])[:300] or f"srun ended with exit code {await process.wait()}"


async def _stop(process: Process) -> None:
    """End srun, which cancels its Slurm job."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
