"""A slice boundary in memory: what the slice that ended means, who goes next, and when a slice is cut.

The scheduler of the daemon and `qpud simulate` call the same four functions, in this order:

    land          the slice has ended: the job after it, and what is charged
    decide        who gets the next slice, and how many shots
    begin         the decision is committed: the job runs
    interruption  while the slice is in flight: whether and when a higher tier cuts it
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from qpud.core.bars import admits, shots_before
from qpud.core.book import Book, Flight
from qpud.core.hints import doubt
from qpud.core.job import Job, JobState, Reason, move
from qpud.core.limits import number, time_limit
from qpud.core.order import Ask, Order
from qpud.core.pace import Pace
from qpud.core.plan import may_run, preempt_mode, preempts
from qpud.core.policy import Policy
from qpud.core.progress import Verdict, after_slice
from qpud.core.session import Hint
from qpud.core.slices import Charge, Outcome, OutcomeState, Slice
from qpud.core.slicing import SliceLengths
from qpud.core.terms import PreemptMode

CUTTING = frozenset({PreemptMode.REQUEUE, PreemptMode.CANCEL})
"""The modes of queues whose slices a higher tier may cut in the middle."""
_KEPT = frozenset({Reason.CANCELING, Reason.HELD, Reason.HELD_ADMIN})


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets the next slice, and how many shots.

    `yielding` is the job that could have gone on and gives way to a higher tier; None if there is none.
    """

    job: Job
    shots: int
    yielding: Job | None = None


class Interruption(msgspec.Struct, frozen=True, kw_only=True):
    """The slice in flight is to be cut, for a higher tier or since the resource is taken down.

    `at` is seconds since the epoch, maybe past.
    """

    at: float
    mode: PreemptMode  # REQUEUE or CANCEL; SLICE if nothing of it has run


class Landing(msgspec.Struct, frozen=True, kw_only=True):
    """The job after a slice, the charge, and a sentence for its owner if his hint does not fit."""

    verdict: Verdict
    charge: Charge
    doubt: str = ""


def decide(
    book: Book, resource: str, current: Job | None, now: float, shots_for: Callable[[float], int]
) -> Choice | None:
    """Decide at a slice boundary, or when an idle resource may have got work.

    Args:
        book: Everything unfinished.
        resource: Which one.
        current: The job that had the last slice, as it is after it; None if the resource was idle or the job ended.
        now: Seconds since the epoch.
        shots_for: How many shots take so many QPU seconds.

    Returns:
        The next slice, or None if nothing may start.
    """
    flight, order = book.flights[resource], book.pending[resource]
    ask = _ask(book, resource, current, now)
    if current is None or not may_run(current) or not (ask.admits is None or ask.admits(current)):
        current = None
        _let_go(flight, order)
        ask = msgspec.structs.replace(ask, current=None)
    if current is not None and _keeps(book, order, current, flight, now):
        chosen: Job | None = current
    else:
        chosen = order.choose(ask)
    if chosen is None:
        return None
    is_overtaken = current is not None and chosen.id != current.id and order.tier_of(chosen) > order.tier_of(current)
    shots = _before_reservations(book, chosen, _shots(book, resource, chosen, shots_for), now)
    return Choice(job=chosen, shots=shots, yielding=current if is_overtaken else None)


def _let_go(flight: Flight, order: Order) -> None:
    """The job that had the resource does not go on: its session competes only with what else it has."""
    if flight.job_id is not None:
        order.quit(flight.job_id)


def _ask(book: Book, resource: str, current: Job | None, now: float) -> Ask:
    flight = book.flights[resource]
    return Ask(
        now=now,
        current=current,
        register=flight.register if flight.pace.setup_seconds > 0 else None,
        quanta=_lengths(book, flight).quanta,
        admits=admits(book, resource, now),
    )


def _keeps(book: Book, order: Order, current: Job, flight: Flight, now: float) -> bool:
    """Whether the job goes on whoever waits."""
    if flight.is_unmanned:
        return False
    if order.runs_whole or preempt_mode(current, book.policy.queues) is PreemptMode.OFF:
        return True
    queue = book.policy.queues.get(current.queue)
    if queue is None:
        return False
    in_grace = flight.contested_at is not None and now < flight.contested_at + queue.grace_time
    if in_grace and queue.preempt_mode is PreemptMode.CANCEL:
        return True  # it may end by itself
    return now < flight.since + queue.preempt_exempt_time


def _shots(book: Book, resource: str, job: Job, shots_for: Callable[[float], int]) -> int:
    order = book.pending[resource]
    if order.runs_whole or _is_opaque(book, resource):
        return job.shots_left
    session = book.sessions.get(job.session_id)
    # long slices spare set-up, but the nodes of sessions with classical phases would idle through them
    is_heavy = session is not None and session.hint is Hint.QC_HEAVY and not book.interleaving
    lengths = _lengths(book, book.flights[resource])
    seconds = lengths.seconds(job.queue, is_heavy=is_heavy, is_contended=order.has_others(job))
    return min(job.shots_left, max(1, shots_for(seconds)))


def _is_opaque(book: Book, resource: str) -> bool:
    """Whether its programs cannot be cut into slices."""
    policy = book.policy.resources.get(resource)
    return policy is not None and policy.is_opaque


def _before_reservations(book: Book, job: Job, shots: int, now: float) -> int:
    """So many shots, or fewer, as end before the next reservation of others begins."""
    outlook = book.outlook(job.resource, now)
    if outlook is None or _is_opaque(book, job.resource):
        return shots
    most = shots_before(book, job, outlook.window(book.sessions.get(job.session_id)))
    return shots if most is None else max(1, min(shots, most))


def _lengths(book: Book, flight: Flight) -> SliceLengths:
    """The lengths of slices now; kept until the policy or the measured set-up time changes."""
    known, setup = flight.lengths, flight.pace.setup_seconds
    if known is None or known.queues is not book.policy.queues or known.setup_seconds != setup:
        known = flight.lengths = SliceLengths(book.policy.queues, setup)
    return known


def begin(book: Book, resource: str, job_id: int, now: float) -> Job:
    """Take in that a slice of the job was committed: it is RUNNING, its register is the loaded one.

    Returns:
        The job as it is now.
    """
    flight, job = book.flights[resource], book.jobs[job_id]
    if flight.began != job_id:
        flight.began, flight.since, flight.contested_at = job_id, now, None
    flight.is_unmanned, flight.manned_at = False, None
    flight.sets_up = flight.register != job.register_hash
    flight.register = job.register_hash
    if job.state is JobState.PENDING:
        job = move(job, JobState.RUNNING, job.reason if job.reason in _KEPT else Reason.NONE, now)
        book.update_job(job)
    return job


def interruption(book: Book, resource: str, now: float) -> Interruption | None:
    """Whether the slice in flight is to be cut; asked when something has changed.

    One that waits for a worker gives way to a higher tier at once, whatever its PreemptMode: nothing is lost.

    Args:
        book: Everything unfinished.
        resource: Which one.
        now: Seconds since the epoch.
    """
    flight, order = book.flights[resource], book.pending[resource]
    current = book.current(resource)
    if flight.is_down and current is not None:
        return Interruption(at=now, mode=PreemptMode.REQUEUE)
    if current is None or order.runs_whole:
        return None
    if not flight.is_unmanned and preempt_mode(current, book.policy.queues) not in CUTTING:
        return None
    best = order.best_tier(_ask(book, resource, None, now))
    if flight.is_unmanned:
        is_overtaken = best is not None and best > order.tier_of(current)
        return Interruption(at=now, mode=PreemptMode.SLICE) if is_overtaken else None
    if best is None or not preempts(best, current, order.tier_of(current), book.policy.queues):
        flight.contested_at = None
        return None
    if flight.contested_at is None:
        flight.contested_at = now
    queue = book.policy.queues[current.queue]
    at = max(flight.contested_at + queue.grace_time, flight.since + queue.preempt_exempt_time)
    return Interruption(at=at, mode=queue.preempt_mode)


def land(
    book: Book,
    ended: Slice,
    outcome: Outcome,
    *,
    attempts: int,
    stopping: Reason | None,
    now: float,
    is_cut: bool = False,
) -> Landing:
    """Take the job of a slice past its end, and charge its session.

    Args:
        book: Everything unfinished; its shares and paces are brought up to date, its jobs are not yet.
        ended: The slice.
        outcome: Checked outcome, see `progress.checked`.
        attempts: Fruitless slices of the job in a row before this one.
        stopping: Why the job is asked to stop, if known.
        now: Seconds since the epoch by the daemon's clock; the outcome's times are the resource's.
        is_cut: Whether the slice was cut for a higher tier, or by an administrator.
    """
    job = book.jobs[ended.job_id]
    flight, order = book.flights[ended.resource], book.pending[ended.resource]
    # after a crash nobody remembers that the slice was cut: a cancel that its owner did not ask for was one
    was_cut = is_cut or (outcome.state is OutcomeState.CANCELED and job.reason is not Reason.CANCELING)
    charge = charge_of(outcome, ended.shots, flight.pace, is_cut=was_cut)
    order.charge(job, charge.qpu_seconds, now)
    flight.is_unmanned = flight.is_unmanned and is_cut and not outcome.qpu_seconds
    flight.pace.learn(outcome)
    verdict = after_slice(job, outcome, attempts, stopping, outcome.ended_at, charged=charge.qpu_seconds)
    if is_cut:
        verdict = msgspec.structs.replace(verdict, fruitless=False)
    if not verdict.job.is_terminal and verdict.job.qpu_seconds >= time_limit(job.queue, book.policy):
        verdict = _ended_by_time_limit(verdict.job, book.policy, outcome.ended_at)
    if not verdict.job.is_terminal and _is_taken_from(book, ended.resource, job, now):
        verdict = _ended_by_preemption(verdict.job, outcome.ended_at)
    return Landing(verdict=verdict, charge=charge, doubt=_doubt(book, verdict.job, charge, now))


def _doubt(book: Book, job: Job, charge: Charge, now: float) -> str:
    """Watch the session, and say so once if its hint does not fit."""
    watch, session = book.watches.get(job.session_id), book.sessions.get(job.session_id)
    if watch is None or session is None:
        return ""
    watch.charged(charge.qpu_seconds)
    if not job.is_terminal:
        return ""
    watch.ended(now, book.is_only_job(job))
    sentence = doubt(session, watch)
    watch.told = watch.told or bool(sentence)
    return sentence


def charge_of(outcome: Outcome, shots: int, pace: Pace, *, is_cut: bool) -> Charge:
    """What a slice costs.

    Of a slice that was cut, the shots that the resource had made but did not hand over are wasted, with their time;
    if it handed over none, its set-up too.
    """
    obtained = outcome.shots
    whole = Charge(shots=obtained, qpu_seconds=outcome.qpu_seconds, setup_seconds=outcome.setup_seconds)
    if not is_cut or obtained == shots:
        return whole
    ran = outcome.qpu_seconds - outcome.setup_seconds
    wasted = max(0, min(shots, round(ran * pace.shot_rate)) - obtained)
    if not obtained:
        return Charge(
            shots=0, qpu_seconds=0.0, setup_seconds=0.0, wasted_shots=wasted, wasted_seconds=outcome.qpu_seconds
        )
    seconds = ran * wasted / (wasted + obtained)
    return msgspec.structs.replace(
        whole, qpu_seconds=whole.qpu_seconds - seconds, wasted_shots=wasted, wasted_seconds=seconds
    )


def _is_taken_from(book: Book, resource: str, job: Job, now: float) -> bool:
    """Whether a higher tier takes the resource now from a job of a queue with PreemptMode=CANCEL."""
    order, flight = book.pending[resource], book.flights[resource]
    if order.runs_whole or preempt_mode(job, book.policy.queues) is not PreemptMode.CANCEL:
        return False
    if flight.is_unmanned or _keeps(book, order, job, flight, now):
        return False
    best = order.best_tier(_ask(book, resource, None, now))
    return best is not None and best > order.tier_of(job)


def _ended_by_time_limit(job: Job, policy: Policy, now: float) -> Verdict:
    reached = f"its {number(job.qpu_seconds)} QPU seconds have reached TimeLimit"
    limit = f"{number(time_limit(job.queue, policy))} of queue {job.queue}"
    message = f"canceled with {job.shots_done} of {job.shots} shots: {reached} {limit}"
    return Verdict(job=move(job, JobState.CANCELED, Reason.TIME_LIMIT, now), message=message)


def _ended_by_preemption(job: Job, now: float) -> Verdict:
    message = f"canceled for a higher tier after {job.shots_done} of {job.shots} shots (PreemptMode=CANCEL)"
    return Verdict(job=move(job, JobState.CANCELED, Reason.PREEMPTION, now), message=message)
