"""What the children do: validators judge and build programs, a job's child emulates one and deals its shots."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from qpud.worker import emulation, programs
from qpud.worker.sentences import OutOfMemory, Refusal, is_out_of_memory, sentence, size
from qpud.worker.wire import Lines, Message

Handler = Callable[[Message], Message]
Serve = Callable[[socket.socket, int], None]

PROGRESS_SECONDS = 0.5  # between two reports


def serve_validations(sock: socket.socket, memory: int) -> None:
    """Answer validate, build and device_spec until the parent hangs up or memory runs out."""
    devices = programs.Devices()
    handlers: dict[str, Handler] = {
        "validate": lambda request: programs.validate(request, devices),
        "build": lambda request: programs.build(request, devices),
        "device_spec": lambda request: programs.device_spec(request["device"]),
    }
    _serve(Lines(sock), handlers, f"the sequence needs more than ValidationMemory {size(memory)} to build")


def serve_job(sock: socket.socket, memory: int) -> None:
    """Answer evolve, then deal, until the parent hangs up or memory runs out."""
    lines = Lines(sock)
    job = _Job(lines)
    handlers: dict[str, Handler] = {"evolve": job.evolve, "deal": job.deal}
    _serve(lines, handlers, f"the emulation needs more than MaxMemory {size(memory)}")


class _Job:
    """The shots of one job, once it is emulated."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._shots: emulation.Shots | None = None
        self._reported = 0.0

    def evolve(self, request: Message) -> Message:
        sequence = programs.load(request, programs.Devices())
        options: dict[str, Any] = request["options"]
        self._shots, provenance = emulation.evolve(
            sequence,
            shots=request["shots"],
            seed=request["seed"],
            options=options,
            progress=lambda fraction: self._report(request["id"], fraction),
        )
        return {"provenance": provenance}

    def deal(self, request: Message) -> Message:
        if self._shots is None:
            raise Refusal("the job has not been emulated")
        return {"counts": self._shots.deal(request["first"], request["shots"])}

    def _report(self, request_id: int, fraction: float) -> None:
        if time.monotonic() - self._reported > PROGRESS_SECONDS:
            self._reported = time.monotonic()
            self._lines.send({"id": request_id, "progress": fraction})


def _serve(lines: Lines, handlers: dict[str, Handler], out_of_memory: str) -> None:
    lines.wait_forever()
    while (requests := lines.receive()) is not None:
        for request in requests:
            try:
                lines.send({"id": request["id"], "ok": _answer(handlers[request["op"]], request, out_of_memory)})
            except Refusal as refusal:
                lines.send({"id": request["id"], "refused": str(refusal)})
            except OutOfMemory as full:
                lines.send({"id": request["id"], "refused": str(full), "last": True})
                return  # the heap may be in pieces: a fresh child is cheap


def _answer(handler: Handler, request: Message, out_of_memory: str) -> Message:
    """The handler's answer; whatever Pulser raises becomes a sentence (its exceptions are not uniform)."""
    try:
        return handler(request)
    except (Refusal, OutOfMemory):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemory(out_of_memory) from None
        raise Refusal(sentence(error)) from None
