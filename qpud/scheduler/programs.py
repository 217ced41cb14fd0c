"""The programs of the jobs that run now or next, read from the store once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from qpud.context import Context
from qpud.core.errors import Invalid
from qpud.core.job import Job
from qpud.core.sequence import inspect
from qpud.drivers.base import Emulation, Program
from qpud.store import queries

_KEPT = 16


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A job's program, the seed of its shots, and the number of its next slice."""

    program: Program
    seed: int
    next_number: int


def atoms_of(program: Program) -> int | None:
    """How many bits each shot of a program has; None if that cannot be told without Pulser."""
    try:
        facts = inspect(program.sequence)
    except Invalid:
        return None
    if not facts.mappable:
        return facts.atoms
    mapping = program.variables.get("qubits")
    return len(mapping) if isinstance(mapping, Mapping) else None


class Programs:
    """A small cache over the store.

    Args:
        context: The parts of the daemon.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._loaded: OrderedDict[int, Loaded] = OrderedDict()

    async def get(self, job: Job) -> Loaded:
        """The program of a job."""
        if (found := self._loaded.get(job.id)) is None:
            found = await self._load(job)
            self._loaded[job.id] = found
            if len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        return found

    def count_slice(self, job_id: int) -> None:
        """One more slice of the job is stored."""
        if (found := self._loaded.get(job_id)) is not None:
            self._loaded[job_id] = msgspec.structs.replace(found, next_number=found.next_number + 1)

    def forget(self, job_id: int) -> None:
        """The job has ended."""
        self._loaded.pop(job_id, None)

    async def _load(self, job: Job) -> Loaded:
        store = self._context.store
        text, variables, seed = await queries.program(store, job.id)
        program = Program(
            sequence=text, sequence_hash=job.sequence_hash, register_hash=job.register_hash, variables=variables
        )
        number = 0 if job.started_at is None else await queries.last_slice_number(store, job.id) + 1
        return Loaded(program=program, seed=seed, next_number=number)


def emulation_of(context: Context, job: Job) -> Emulation | None:
    """What the job's session asks of an emulator, if anything."""
    asked = context.rehearsal_of(job.session_id)
    if asked is None:
        return None
    spec = context.specs.get(asked.like) if asked.like else None
    return Emulation(spec=spec, emulator=asked.emulator, bond_dim=asked.bond_dim, like=asked.like)
