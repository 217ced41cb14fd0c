"""From core values to the native dialect's wire types."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from qpud.api import forecasts, job_wire, rehearsals, sums, wire
from qpud.api.wire_terms import moment
from qpud.core import verbs
from qpud.core.job import Job
from qpud.core.policy import QueuePolicy
from qpud.core.report import Charges, Group, Report, ReportFilter, ReportRow
from qpud.core.session import Session, idle_deadline
from qpud.core.terms import UNLIMITED_SECONDS

Names = Callable[[int], str]


def session_fields(session: Session, idle_timeout: float) -> dict[str, object]:
    """The fields of SessionView."""
    return {
        "id": session.id,
        "user": session.user,
        "user_id": session.user_id,
        "account": session.account,
        "slurm_job_id": session.slurm_job_id,
        "queue": session.queue,
        "share": session.share,
        "hint": session.hint,
        "expected_qpu_seconds": session.expected_qpu_seconds,
        "expected_classical_seconds": session.expected_classical_seconds,
        "nodes": session.nodes,
        "active": session.is_open,
        "opened_at": moment(session.opened_at),
        "last_used_at": moment(session.last_used_at),
        "idle_expires_at": moment(idle_deadline(session, idle_timeout)),
        "expires_at": moment(session.expires_at),
        "closed_at": moment(session.closed_at),
        "close_reason": session.close_reason,
        "rehearsal": session.rehearsal and rehearsals.view(session.rehearsal),
        "qos": session.qos,
    }


def session_view(session: Session, idle_timeout: float) -> wire.SessionView:
    """A session as its user sees it; `idle_timeout` is SessionIdleTimeout in seconds."""
    return wire.SessionView(**session_fields(session, idle_timeout))  # type: ignore[arg-type]


def grant_view(grant: verbs.Grant, idle_timeout: float) -> wire.SessionGrant:
    """A new session with its token."""
    fields = session_fields(grant.session, idle_timeout)
    return wire.SessionGrant(**fields, token=grant.token, created=grant.created)  # type: ignore[arg-type]


def job_view(job: Job, names: Names, forecast: verbs.Forecast | None = None) -> job_wire.JobView:
    """A job as its user sees it."""
    return job_wire.JobView(
        id=job.id,
        uid=job.uid,
        state=job.state,
        reason=job.reason,
        name=job.name,
        resource=job.resource,
        queue=job.queue,
        user=names(job.user_id),
        user_id=job.user_id,
        session_id=job.session_id,
        batch_id=job.batch_id,
        shots=job.shots,
        shots_done=job.shots_done,
        sequence_hash=job.sequence_hash,
        submitted_at=moment(job.submitted_at),
        started_at=moment(job.started_at),
        ended_at=moment(job.ended_at),
        forecast=forecasts.view(forecast),
    )


def cancel_view(done: verbs.Cancellation, names: Names) -> job_wire.CancelView:
    """The truth about a cancel."""
    fields = msgspec.structs.asdict(job_view(done.job, names))
    return job_wire.CancelView(**fields, before=done.before, asked_before=done.asked_before, message=done.message)


def slice_line(one: verbs.SliceView) -> job_wire.SliceLine:
    """One slice with wire times."""
    fields = msgspec.structs.asdict(one)
    return job_wire.SliceLine(**fields | {"started_at": moment(one.started_at), "ended_at": moment(one.ended_at)})


def result_view(result: verbs.Result, names: Names, forecast: verbs.Forecast | None) -> job_wire.ResultView:
    """Counts and provenance."""
    return job_wire.ResultView(
        job=job_view(result.job, names, forecast),
        counts=result.counts,
        result=result.result,
        message=result.message,
        sequence_hash=result.job.sequence_hash,
        spec_hash=result.spec_hash,
        seed=result.seed,
        provenance=result.provenance,
        slices=[slice_line(one) for one in result.slices],
        tags=list(result.tags),
        variables=result.variables,
        qpu_seconds=result.qpu_seconds,
    )


def queue_line(entry: verbs.QueueEntry) -> job_wire.QueueLine:
    """One line of the queue: nothing of another's session."""
    job = entry.job
    return job_wire.QueueLine(
        position=entry.position,
        id=job.id,
        name=job.name,
        user=entry.user,
        resource=job.resource,
        queue=job.queue,
        tier=entry.tier,
        state=job.state,
        reason=entry.reason,
        explanation=entry.explanation,
        shots=job.shots,
        shots_done=job.shots_done,
        submitted_at=moment(job.submitted_at),
        waited_seconds=entry.waited_seconds,
        forecast=forecasts.view(entry.forecast),
    )


def resource_line(view: verbs.ResourceView) -> wire.ResourceLine:
    """A resource as everybody may see it."""
    workers = [wire.WorkerLine(**msgspec.structs.asdict(one)) for one in view.workers]
    return wire.ResourceLine(**{**msgspec.structs.asdict(view), "workers": workers})


def queue_policy_line(queue: QueuePolicy) -> wire.QueuePolicyLine:
    """A queue's tier and limits."""
    return wire.QueuePolicyLine(
        name=queue.name,
        priority_tier=queue.priority_tier,
        preempt_mode=queue.preempt_mode,
        slice_seconds=queue.slice_seconds,
        max_shots=queue.max_shots,
        max_submit_jobs=queue.max_submit_jobs,
        max_jobs_per_user=queue.max_jobs_per_user,
        max_qpu_seconds_per_day=_limited(queue.max_qpu_seconds_per_day),
        time_limit=_limited(queue.time_limit),
        allow_accounts=list(queue.allow_accounts),
        deny_accounts=list(queue.deny_accounts),
        allow_groups=list(queue.allow_groups),
        deny_groups=list(queue.deny_groups),
        partitions=list(queue.partitions) or [queue.name],
        qos=list(queue.qos),
    )


def _limited(seconds: float) -> float | None:
    return seconds if seconds < UNLIMITED_SECONDS else None


def cancel_sums(done: verbs.Cancellations, names: Names) -> job_wire.CancelSums:
    """The truth about a cancel of many."""
    return job_wire.CancelSums(
        dry_run=done.is_dry,
        matched=done.matched,
        canceled=done.canceled,
        stopping=done.stopping,
        ended=done.ended,
        jobs=[_canceled_line(one, names) for one in done.jobs],
    )


def _canceled_line(one: verbs.Cancellation, names: Names) -> job_wire.CanceledLine:
    return job_wire.CanceledLine(
        id=one.job.id,
        user=names(one.job.user_id),
        before=one.before,
        state=one.job.state,
        shots=one.job.shots,
        shots_done=one.job.shots_done,
        message=one.message,
    )


def reservation_view(reserved: verbs.Reserved) -> wire.ReservationView:
    """A reservation as everybody may see it."""
    one = reserved.reservation
    return wire.ReservationView(
        name=one.name,
        resource=one.resource,
        starts_at=moment(one.starts_at),
        ends_at=moment(one.ends_at),
        active=reserved.is_active,
        accounts=list(one.accounts),
        users=list(one.users),
        duty=one.duty,
        created_by=one.created_by,
        created_at=moment(one.created_at),
    )


def urls(bound: tuple[str, ...]) -> list[str]:
    """The bound TCP addresses as clients on this machine name them: all addresses are reached by loopback."""
    return [url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:") for url in bound]


def user_line(one: verbs.UserSum, names: Names) -> sums.UserLine:
    """One user's sums."""
    return sums.UserLine(
        user=names(one.user_id),
        user_id=one.user_id,
        sessions=one.sessions,
        session_seconds=one.session_seconds,
        states=[sums.StateLine(**msgspec.structs.asdict(state)) for state in one.states],
    )


def report_page(which: ReportFilter, found: Report, names: Names, drivers: Mapping[str, str]) -> sums.ReportPage:
    """A report; `drivers` tells the type of each resource that is configured now."""
    return sums.ReportPage(
        by=list(which.by),
        start=moment(which.start),
        end=moment(which.end),
        rows=[_report_line(row, names, drivers) for row in found.rows],
        total=sums.ReportLine(**_charges(found.total)),  # type: ignore[arg-type]
        next=found.next,
    )


def _report_line(row: ReportRow, names: Names, drivers: Mapping[str, str]) -> sums.ReportLine:
    fields: dict[str, object] = {str(group): value for group, value in row.key.items()}
    if Group.USER in row.key:
        user_id = row.key[Group.USER]
        fields |= {"user": names(user_id), "user_id": user_id}  # type: ignore[arg-type]
    if Group.RESOURCE in row.key:
        fields["resource_type"] = drivers.get(str(row.key[Group.RESOURCE]))
    return sums.ReportLine(**fields, **_charges(row.charges))  # type: ignore[arg-type]


def _charges(charges: Charges) -> dict[str, object]:
    times = {name: moment(getattr(charges, name)) for name in ("submitted_at", "started_at", "ended_at")}
    return msgspec.structs.asdict(charges) | times
