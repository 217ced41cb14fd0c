"""The verb submit: from a request to a job that is committed and fsynced.

This is the hot path: a repeated sequence costs one hash, one cache look-up and one row. Sequences are inspected and
stored once per hash.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections import OrderedDict
from collections.abc import Collection
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import msgspec

from qpud.context import Context, new_uuid
from qpud.core.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from qpud.core.identity import Identity
from qpud.core.ids import LARGEST_JOB_ID, job_uid
from qpud.core.job import Job, Reason
from qpud.core.plan import preempt_mode
from qpud.core.rehearsal import LARGEST_SEED
from qpud.core.sequence import Facts, check_shots, check_variables, inspect, register_hash
from qpud.core.session import Session
from qpud.core.terms import DriverKind
from qpud.core.turns import CUTTING
from qpud.core.verbs import JobRequest
from qpud.drivers.base import Program
from qpud.service import admission, rehearsals
from qpud.service.base import usable
from qpud.service.held import HeldVerbs, promised
from qpud.service.payloads import payload_program
from qpud.service.seeds import Seeds, seed_by_number
from qpud.store import jobs as sql
from qpud.store import queries, releases
from qpud.store.jobs import NewJob, canonical
from qpud.store.submission import Submission
from qpud.store.writer import Operation, Transaction

_REMEMBERED = 1024  # sequences whose facts are kept
REMEMBERED_BYTES = 16 << 20  # of their texts: a text full of variables leaves facts of eight times its size
_FORESEEN = 64  # sequences of requests whose munge credential is asked for
_HASHED_AT_ONCE = 2047  # bytes
_LARGEST_BATCH = 1000  # jobs in one request
_LONGEST_NAME = 200


class _Known(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a sequence: its facts, the program without variables, whether its text is committed."""

    facts: Facts
    program: Program
    is_stored: bool

    @property
    def is_fixed(self) -> bool:
        """Whether it takes no variables."""
        return not self.facts.variables and not self.facts.mappable


class Accepted(msgspec.Struct):
    """A request that passed every check that needs no database."""

    ask: JobRequest
    program: Program
    resource: str
    reason: Reason
    validated_spec: str | None
    seconds: float = 0.0  # that the checks of its submission took


class SubmitVerbs(HeldVerbs):
    """Submission."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sequences: OrderedDict[str, _Known] = OrderedDict()
        self._remembered_size = 0
        self._foreseen: OrderedDict[str, _Known] = OrderedDict()
        # whose job it is, is checked: uuids need to be unlike, not secret, and the system's source costs 9 µs a call
        self._uid_bits = random.Random(secrets.randbits(256))  # noqa: S311
        self._seeds = Seeds()

    async def submit(
        self, who: Identity, session_ref: str | None, asks: list[JobRequest], key: str | None = None
    ) -> list[Job]:
        """Accept jobs (several are one batch) durably. On return they are committed and fsynced.

        Args:
            who: The caller.
            session_ref: Session id or token; None means the session of the caller's token, else his only open one.
            asks: 1 … 1000 jobs.
            key: A repeated key of the same user returns the jobs of the first call.

        Raises:
            Forbidden: The session has ended or is another user's.
            NotFound: No such session or resource.
            Invalid: The resource cannot run it; one sentence of the structural check or of Pulser.
            LimitExceeded: MaxShots, MaxSubmitJobs, TimeLimit or MaxQPUSecondsPerDay of queue, user or account.
            Conflict: The key came with another body before; the Slurm job to release is not held by its user.
            StorageFull: Nothing was accepted.
        """
        if not 0 < len(asks) <= _LARGEST_BATCH:
            raise BadRequest(f"{len(asks)} jobs in one request: 1 … {_LARGEST_BATCH} are possible")
        session = await self._session_for(who, session_ref)
        digest = digest_of(asks) if key is not None else b""
        if key is not None and (earlier := await self._repeated(who, key, digest)):
            return earlier
        if held := {ask.then_release for ask in asks if isinstance(ask.then_release, int)}:
            async with AsyncExitStack() as turns:
                outliving = await self.to_release(turns, who, session, held)
                return await self._submit_to(outliving, asks, key, digest)
        return await self._submit_to(session, asks, key, digest)

    async def _submit_to(self, session: Session, asks: list[JobRequest], key: str | None, digest: bytes) -> list[Job]:
        with self._room_for(session, asks) as room:
            accepted = await self._accept_all(session, asks)
            news = self._new_jobs(session, accepted)
            return await self._commit(session, accepted, news, key, digest, room)

    def foresee(self, sequence: str) -> None:
        """Inspect the sequence of a submission before it is known whose it is.

        It is not remembered among the accepted ones: who proves nothing pushes out none of them.

        Raises:
            BadRequest, Invalid: As `submit`.
        """
        if sequence not in self._sequences:
            self._foreseen[sequence] = _inspected(sequence)
            if len(self._foreseen) > _FORESEEN:
                self._foreseen.popitem(last=False)

    async def jobs_of_key(self, who: Identity, key: str) -> list[Job]:
        """The jobs of an earlier submission with this key by the same user, as they are now; maybe none."""
        stored = await queries.jobs_of_key(self._context.store, who.user_id, key)
        return [self._as_seen(self._context.book.jobs.get(job.id, job)) for job in stored]

    def doubt_texts(self, hashes: Collection[str]) -> None:
        """Send the texts of these sequences along again: they are about to be purged from the store.

        A submission that did not send one stands in the writer's queue before whatever the caller queues now.
        """
        for text, known in list(self._sequences.items()):
            if known.program.sequence_hash in hashes:
                self._sequences[text] = _Known(known.facts, known.program, False)

    # -- who and whether
    async def _session_for(self, who: Identity, ref: str | None) -> Session:
        if (ref := ref or who.session_id) is not None:
            return usable(self._open_session_of(ref) or await self._session(who, ref), who)
        sessions = [one for one in self._context.book.sessions_of_user(who.user_id) if not one.only_finishes]
        if len(sessions) == 1:
            return sessions[0]
        found = "have no open session" if not sessions else f"have {len(sessions)} open sessions"
        raise Forbidden(
            f"you {found}: name one by X-Warden-Session or a Bearer token, or open one with POST /v1/sessions"
        )

    async def _repeated(self, who: Identity, key: str, digest: bytes) -> list[Job]:
        earlier = await self.jobs_of_key(who, key)
        if earlier:
            await self._context.store.write(lambda transaction: check_digest(transaction, who.user_id, key, digest))
        return earlier

    def _room_for(self, session: Session, asks: list[JobRequest]) -> ExitStack:
        """Room for jobs on their way to the store, until the book has them. Raises: LimitExceeded."""
        room = ExitStack()
        asked = [(self.resource_name(ask.resource), check_shots(ask.shots)) for ask in asks]
        room.callback(admission.admit(self._context, session, session.queue, asked))
        return room

    # -- one job
    async def _accept_all(self, session: Session, asks: list[JobRequest]) -> list[Accepted]:
        began = self._context.pulse()
        accepted = [await self._accept_one(session, ask, number, len(asks)) for number, ask in enumerate(asks, 1)]
        took = self._context.pulse() - began
        for one in accepted:
            one.seconds = took
        return accepted

    async def _accept_one(self, session: Session, ask: JobRequest, number: int, of: int) -> Accepted:
        try:
            return await self._accept(session, ask)
        except (BadRequest, Invalid, NotFound) as refused:
            if of == 1:
                raise
            raise type(refused)(f"job {number} of {of}: {refused.message}") from refused

    async def _accept(self, session: Session, ask: JobRequest) -> Accepted:
        shots = check_shots(ask.shots)
        resource = self.resource_name(ask.resource)
        check_texts(ask)
        program = self._program_for(session, resource, ask)
        limiting = _limiting(session, resource)
        spec = self._context.specs.get(limiting)
        if spec is None:  # the resource never told its device: checked when it does
            return Accepted(ask, program, resource, Reason.VALIDATING, None)
        if spec.max_runs is not None and shots > spec.max_runs:
            raise Invalid(f"{shots} shots exceed max_runs {spec.max_runs} of {limiting}'s device {spec.name}")
        if self.policy.resources[resource].is_opaque:
            return Accepted(ask, program, resource, Reason.NONE, spec.hash)
        verdict = await self._context.validator.within(self.policy.daemon.validation_wait, program, shots, spec)
        if verdict is None:
            return Accepted(ask, program, resource, Reason.VALIDATING, None)
        if not verdict.ok:
            raise Invalid(verdict.sentence)
        return Accepted(ask, program, resource, Reason.NONE, spec.hash)

    def _program_for(self, session: Session, resource: str, ask: JobRequest) -> Program:
        policy = self.policy.resources[resource]
        if session.rehearsal is not None:
            rehearsals.check_resource(self.policy, session.rehearsal, resource)
        if policy.is_opaque:
            return payload_program(policy, ask)
        program = self._program(ask)
        if session.rehearsal is None or session.rehearsal.emulator is None or not session.rehearsal.emulator.is_mock:
            self._check_atoms(resource, ask)
        return program

    def _check_atoms(self, resource: str, ask: JobRequest) -> None:
        """An emulator takes so many atoms before memory runs out; a simulated QPU falls back to cheaper counts."""
        policy, known = self.policy.resources[resource], self._sequences.get(ask.sequence)
        if policy.driver is not DriverKind.EMULATOR or known is None:
            return
        atoms = len(ask.variables["qubits"]) if known.facts.mappable else known.facts.atoms
        if atoms > policy.max_atoms:
            raise Invalid(f"{atoms} atoms exceed MaxAtoms {policy.max_atoms} of {resource}")

    def _program(self, ask: JobRequest) -> Program:
        known = self._known(ask.sequence)
        if known.is_fixed and not ask.variables:
            return known.program
        check_variables(known.facts, ask.variables)
        register = register_hash(known.facts, ask.variables)
        return msgspec.structs.replace(known.program, variables=ask.variables, register_hash=register)

    def _known(self, text: str) -> _Known:
        return self._sequences.get(text) or self._look_at(text)

    def _look_at(self, text: str) -> _Known:
        """Inspect a new sequence and remember it; the text is the key, since hashing it costs more than the rest."""
        known = self._foreseen.pop(text) if text in self._foreseen else _inspected(text)
        self._sequences[text] = known
        self._remembered_size += len(text)
        while len(self._sequences) > _REMEMBERED or self._remembered_size > REMEMBERED_BYTES:
            forgotten, _ = self._sequences.popitem(last=False)
            self._remembered_size -= len(forgotten)
        return known

    # -- all of them
    async def _commit(
        self,
        session: Session,
        accepted: list[Accepted],
        news: list[NewJob],
        key: str | None,
        digest: bytes,
        room: ExitStack,
    ) -> list[Job]:
        texts = self._unstored(accepted)
        jobs = [new.job for new in news]
        submission: Operation[None] = submission_of(session, texts, news)
        if promises := promised([one.ask for one in accepted], jobs):
            submission = partial(releases.submit, submission=submission, user_id=session.user_id, promises=promises)

        def once(transaction: Transaction) -> bool:
            if check_digest(transaction, session.user_id, key or "", digest):
                return False  # the same request arrived twice at once: the first one stands
            submission(transaction)
            sql.insert_key(transaction, session.user_id, key or "", jobs, digest)
            return True

        def then(is_first: bool | None) -> None:
            room.close()
            if is_first is not False:
                self._entered(jobs, texts)
                for number, waited_for in promises.items():
                    self._context.promise(number, session.user_id, waited_for)

        is_first = await self._context.store.write(submission if key is None else once, then)
        if is_first is False:
            return await queries.jobs_of_key(self._context.store, session.user_id, key or "")
        return jobs

    def _new_jobs(self, session: Session, accepted: list[Accepted]) -> list[NewJob]:
        context = self._context
        first = context.take_job_ids(len(accepted))
        if first + len(accepted) > LARGEST_JOB_ID:
            raise Conflict(f"job ids are used up: the wire allows {LARGEST_JOB_ID}")
        batch_id = new_uuid() if len(accepted) > 1 else None
        now = context.clock()
        jobs = (self._new_job(session, one, first + offset, batch_id, now) for offset, one in enumerate(accepted))
        return [self._with_seed(session, one, job) for one, job in zip(accepted, jobs, strict=True)]

    def _new_job(self, session: Session, one: Accepted, job_id: int, batch_id: str | None, now: float) -> Job:
        return Job(
            id=job_id,
            uid=job_uid(job_id, self._uid_bits.getrandbits(90)),
            session_id=session.id,
            user_id=session.user_id,
            queue=session.queue,
            resource=one.resource,
            sequence_hash=one.program.sequence_hash,
            register_hash=one.program.register_hash,
            shots=one.ask.shots,
            reason=one.reason,
            submitted_at=now,
            batch_id=batch_id,
            name=one.ask.name,
            validated_spec=one.validated_spec,
        )

    def _with_seed(self, session: Session, one: Accepted, job: Job) -> NewJob:
        variables, tags = canonical(one.ask.variables), canonical(one.ask.tags)
        seed = self._seeds.of(session, one.ask)
        return NewJob(job=job, variables=variables, tags=tags, seed=seed, check_seconds=one.seconds)

    def _unstored(self, accepted: list[Accepted]) -> dict[str, str]:
        """Texts by hash of the sequences that may not be committed yet."""
        programs = (one.program for one in accepted)
        return {
            program.sequence_hash: program.sequence
            for program in programs
            if not ((known := self._sequences.get(program.sequence)) and known.is_stored)
        }

    def _entered(self, jobs: list[Job], texts: dict[str, str]) -> None:
        context = self._context
        context.book.touch(jobs[0], jobs[0].submitted_at)
        self._take_in(jobs)
        for text in texts.values():
            if (known := self._sequences.get(text)) is not None:
                self._sequences[text] = _Known(known.facts, known.program, True)
        for resource in {job.resource for job in jobs}:
            # else a boundary comes anyway, and the checker goes on by itself
            if self._has_to_know(resource) or 0 < len(context.book.unvalidated[resource]) <= len(jobs):
                context.wake(resource)

    def _take_in(self, jobs: list[Job]) -> None:
        context = self._context
        for job in jobs:
            context.book.add_job(job)
            context.metrics.job_submitted(job.resource, job.queue)
        for job in jobs:
            context.forecaster.promise(job, job.submitted_at)

    def _has_to_know(self, resource: str) -> bool:
        """Whether new jobs matter before the slice in flight has ended: there is none, or they may cut it."""
        current, flight = self._context.book.current(resource), self._context.book.flights.get(resource)
        if current is None or (flight is not None and flight.is_unmanned):
            return True
        return preempt_mode(current, self.policy.queues) in CUTTING


def submission_of(session: Session, texts: dict[str, str], news: list[NewJob]) -> Submission:
    """The operation that stores accepted jobs of a session."""
    return Submission(session_id=session.id, texts=texts, news=news, seed_by_number=seed_by_number(session))


def _limiting(session: Session, resource: str) -> str:
    """The resource whose device spec decides: the QPU whose place an emulator takes, if one does."""
    asked = session.rehearsal
    return asked.like if asked is not None and asked.like else resource


def _inspected(text: str) -> _Known:
    facts = inspect(text)
    sequence_hash = _hash(text.encode("utf-8", "surrogatepass"))
    program = Program(sequence=text, sequence_hash=sequence_hash, register_hash=register_hash(facts, {}))
    return _Known(facts, program, False)


def _hash(text: bytes) -> str:
    """The sha256 hex of a text.

    In blocks below 2 KB: for longer ones hashlib lets other threads go first, and the writer's then keeps the loop
    waiting for much longer than that.
    """
    whole = hashlib.sha256()
    for start in range(0, len(text), _HASHED_AT_ONCE):
        whole.update(text[start : start + _HASHED_AT_ONCE])
    return whole.hexdigest()


def digest_of(asks: list[JobRequest]) -> bytes:
    """What a submission is known by under its key."""
    return hashlib.sha256(msgspec.json.encode(asks, order="deterministic")).digest()


def check_digest(transaction: Transaction, user_id: int, key: str, digest: bytes) -> bool:
    """Whether a key made jobs before. Raises: Conflict: other ones."""
    found = sql.find_key(transaction, user_id, key)
    if found is not None and found[2] != digest:
        raise Conflict(f"Idempotency-Key {key[:64]!r} came with another request before: use a new key")
    return found is not None


def check_texts(ask: JobRequest) -> None:
    """Refuse a long name and too many or too long tags. Raises: BadRequest."""
    if isinstance(ask.seed, int) and not 0 <= ask.seed <= LARGEST_SEED:
        raise BadRequest(f"seed {ask.seed} is outside 0 … {LARGEST_SEED}")
    if ask.name is not None and len(ask.name) > _LONGEST_NAME:
        raise BadRequest(f"a job name of {len(ask.name)} characters is longer than {_LONGEST_NAME}")
    if len(ask.tags) > 20 or any(len(tag) > _LONGEST_NAME for tag in ask.tags):
        raise BadRequest(f"a job has at most 20 tags of at most {_LONGEST_NAME} characters")
