"""The composition root: one process, one root TaskGroup for HTTP server, scheduler, reaper and sweep.

If one of them dies, the process dies and systemd restarts it: a daemon that answers with a dead scheduler is the
failure to avoid. This file alone handles signals; nothing happens at import.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from qpud import __version__
from qpud.api.app import create_app
from qpud.api.auth import Authenticator
from qpud.api.links import Links
from qpud.api.server import Server
from qpud.config import warnings
from qpud.config.rule import load_rule
from qpud.context import Context
from qpud.core.book import Book
from qpud.core.errors import QpudError
from qpud.core.policy import DaemonPolicy, Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.tally import day_start
from qpud.core.terms import AuthType, UnixListen
from qpud.core.usage import last_reset, of_account, of_member, of_user
from qpud.drivers.base import Driver
from qpud.drivers.registry import DriverMissing, make_driver
from qpud.drivers.validator import Validator
from qpud.drivers.workers import Workers
from qpud.scheduler import Scheduler
from qpud.service import Service
from qpud.service.calendar import Calendar
from qpud.service.purge import Purge
from qpud.service.reaper import Reaper
from qpud.service.releases import Releases
from qpud.service.slurmcomments import SlurmComments
from qpud.service.slurmrecord import recorder
from qpud.service.slurmshow import SlurmShow
from qpud.service.sweep import Sweep
from qpud.site.lacking import lacking
from qpud.site.munge_process import MungeProcess
from qpud.site.notify import Notifier
from qpud.site.peer import Groups, bind_tcp, bind_unix, bound_at, unbind, user_id, user_name
from qpud.site.secret import kept_secret
from qpud.site.slurm import Slurm
from qpud.site.slurmcontrol import SlurmControl
from qpud.site.srun import Srun
from qpud.site.state import one_daemon
from qpud.store.ledger import charged_since, hourly_usage
from qpud.store.store import Snapshot, Store
from qpud.telemetry.logs import to_stderr
from qpud.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FORGOTTEN_HALF_LIVES = 10.0  # usage that counts less than a thousandth
SOCKET_LOOK_SECONDS = 10.0
WATCHDOG_FEEDS = 4  # in the time that systemd allows for one


class _Stop(Exception):
    """SIGTERM or SIGINT ended the root TaskGroup."""


def serve(policy: Policy, policy_path: Path | None) -> int:
    """Run the daemon in the foreground until SIGTERM or SIGINT.

    Args:
        policy: What to serve.
        policy_path: Where a reload reads it again; None for `serve --dev`.

    Returns:
        0 after a clean stop, 1 if it could not start; a crash raises.
    """
    to_stderr(policy.daemon.log_level)
    early = _noted(signal.SIGHUP)
    for doubt in (*warnings(policy), *lacking(policy)):
        log.warning(doubt)
    try:
        with one_daemon(policy.daemon.state_save_location):
            _run(policy, policy_path, early)
    except (QpudError, DriverMissing, OSError) as failure:
        print(f"qpud: {failure}", file=sys.stderr)
        return 1
    log.info("stopped")
    return 0


def _noted(number: signal.Signals) -> list[int]:
    """The signals of this kind that come until the loop obeys them: unhandled, the first would end the process."""
    seen: list[int] = []
    signal.signal(number, lambda one, _frame: seen.append(one))
    return seen


def _run(policy: Policy, policy_path: Path | None, early: list[int]) -> None:
    try:
        uvloop.run(_serve(policy, policy_path, early))
    except* _Stop:
        pass


async def _serve(policy: Policy, policy_path: Path | None, early: list[int]) -> None:
    async with AsyncExitStack() as stack:
        context, snapshot = await _assemble(stack, policy, policy_path)
        service = Service(context)
        scheduler = Scheduler(context)
        with contextlib.suppress(QpudError):  # a full disk: the reaper tries again
            await service.stop_orphans()
        server = _server(stack, context, service)
        notifier = Notifier(os.environ)
        _spare_the_collector()
        async with asyncio.TaskGroup() as root:
            root.create_task(scheduler.run(snapshot.in_flight), name="scheduler")
            for name, chore in _chores(context, service).items():
                root.create_task(chore, name=name)
            root.create_task(_serve_http(server), name="http")
            root.create_task(_announce(server, context, notifier), name="announce")
            root.create_task(_show_life(service, notifier), name="life")
            root.create_task(_miss_sockets(_unix_paths(policy), SOCKET_LOOK_SECONDS), name="sockets")
            root.create_task(_obey_signals(server, service, context, notifier, early), name="signals")


def _chores(context: Context, service: Service) -> dict[str, Coroutine[Any, Any, None]]:
    """What goes on beside the scheduler and the clients, by name."""
    return {
        "reaper": Reaper(context, service).run(),
        "calendar": Calendar(context, service).run(),
        "sweep": Sweep(context, service).run(),
        "releases": Releases(context, service).run(),
        "purge": Purge(context, service).run(),
        "slurm-show": SlurmShow(context).run(),
        "slurm-comments": SlurmComments(context).run(),
    }


def _spare_the_collector() -> None:
    """What is loaded now lives as long as the daemon: a full collection need not walk it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _assemble(stack: AsyncExitStack, policy: Policy, path: Path | None) -> tuple[Context, Snapshot]:
    metrics = Metrics(tuple(policy.resources), tuple(policy.queues))
    store = await Store.open(_database(policy.daemon.state_save_location), metrics.commit)
    stack.push_async_callback(store.close)
    snapshot = await store.load()
    workers = Workers(
        policy.daemon.worker_python or Path(sys.executable),
        validation_memory=policy.daemon.validation_memory,
        validation_timeout=policy.daemon.validation_timeout,
    )
    await workers.open()
    stack.push_async_callback(workers.close)
    validator = Validator(workers, time.monotonic, metrics.validation)
    stack.push_async_callback(validator.close)
    context = Context(
        policy=policy,
        policy_path=path,
        store=store,
        book=book_of(policy, snapshot),
        drivers=await stack.enter_async_context(_open_drivers(policy, workers)),
        validator=validator,
        metrics=metrics,
        clock=time.time,
        pulse=time.monotonic,
        names=user_name,
        groups=Groups(time.monotonic),
        slurm=_slurm(policy.daemon, metrics),
        slurm_control=_slurm_control(policy.daemon, metrics, store),
        next_job_id=snapshot.last_job_id + 1,
        next_slice_id=snapshot.last_slice_id + 1,
    )
    await _recall_usage(context)
    _show_start(context)
    return context, snapshot


async def _recall_usage(context: Context) -> None:
    """What users and accounts used before, as far as it still counts, and what they were charged today."""
    daemon, now = context.policy.daemon, context.clock()
    since = last_reset(daemon.priority_usage_reset_period, now) or 0.0
    if daemon.priority_decay_half_life > 0:
        since = max(since, now - FORGOTTEN_HALF_LIVES * daemon.priority_decay_half_life)
    for row in await hourly_usage(context.store, since):
        user = context.names(row.user_id)
        for name in (of_user(user), of_account(row.account), of_member(user, row.account)):
            context.book.usage.add(name, row.qpu_seconds, row.at)
    context.book.tally.restore(await charged_since(context.store, day_start(now)), now)


def _slurm(daemon: DaemonPolicy, metrics: Metrics) -> Slurm | None:
    if not daemon.slurm_lookup:
        return None
    return Slurm(daemon.slurm_conf, time.monotonic, daemon.slurm_rest_socket, metrics.slurm_question)


def _slurm_control(daemon: DaemonPolicy, metrics: Metrics, store: Store) -> SlurmControl | None:
    if not daemon.slurm_control:
        return None
    return SlurmControl(daemon.slurm_conf, time.monotonic, recorder(store, metrics, time.time))


def _database(state: Path) -> Path:
    path = state / "state.sqlite"
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    return path


def book_of(policy: Policy, snapshot: Snapshot) -> Book:
    """The mirror of what an earlier daemon left.

    Raises:
        Invalid: The policy names a scheduler that cannot be loaded.
    """
    book = Book(policy, load_rule(policy.daemon.scheduler_type))
    for session in snapshot.sessions:
        book.add_session(session)
    book.tokens.update(snapshot.tokens)
    book.batches = {batch.id: batch for batch in snapshot.batches}
    for job in snapshot.jobs:
        book.add_job(job)
    for left in snapshot.in_flight:
        book.add_slice(left)
    for resource, drain in snapshot.drains.items():
        if resource in book.flights:
            book.flights[resource].drained, book.flights[resource].is_down = drain.reason, drain.is_down
    for resource, degradation in snapshot.degradations.items():
        if resource in book.flights:
            flight = book.flights[resource]
            flight.degraded, flight.units_out = degradation.reason, degradation.units
    book.reservations = {one.name: one for one in snapshot.reservations}
    return book


@asynccontextmanager
async def _open_drivers(policy: Policy, workers: Workers) -> AsyncIterator[dict[str, Driver]]:
    srun = Srun(policy.daemon.slurm_conf, policy.daemon.state_save_location)
    resources = {name: _with_python(resource, policy.daemon) for name, resource in policy.resources.items()}
    drivers = {name: make_driver(one, workers, time.time, srun) for name, one in resources.items()}
    async with AsyncExitStack() as stack:
        for driver in drivers.values():
            await driver.open()
            stack.push_async_callback(driver.close)
        yield drivers


def _with_python(resource: ResourcePolicy, daemon: DaemonPolicy) -> ResourcePolicy:
    return msgspec.structs.replace(resource, worker_python=resource.worker_python or daemon.worker_python)


def _show_start(context: Context) -> None:
    context.metrics.sessions(len(context.book.sessions))
    for name, flight in context.book.flights.items():
        context.metrics.resource_state(name, flight.shown_state)
    for name in context.book.resources_gone:
        log.warning("unfinished jobs wait for a resource that is not configured any more", extra={"resource": name})
    context.metrics.watch_depths(lambda: context.book.depths)


def _munge(stack: AsyncExitStack, policy: Policy) -> MungeProcess | None:
    return stack.enter_context(MungeProcess()) if policy.daemon.auth_type is AuthType.MUNGE else None


def _server(stack: AsyncExitStack, context: Context, service: Service) -> Server:
    policy = context.policy
    authenticator = Authenticator(lambda: context.policy, _munge(stack, policy), service, user_name, user_id)
    links = Links(kept_secret(policy.daemon.state_save_location / "links.secret"))
    app = create_app(service, authenticator, context.metrics, lambda: context.policy.daemon.max_body_size, links)
    sockets = _sockets(stack, policy)
    context.urls = tuple(_url(one) for one in sockets if one.family != socket.AF_UNIX)
    return Server(app, sockets)


def _sockets(stack: AsyncExitStack, policy: Policy) -> list[socket.socket]:
    return [
        _bind_unix(stack, one.path, policy) if isinstance(one, UnixListen) else bind_tcp(one.host, one.port)
        for one in policy.daemon.listen
    ]


def _bind_unix(stack: AsyncExitStack, path: Path, policy: Policy) -> socket.socket:
    listener = bind_unix(path, policy.daemon.socket_mode, policy.daemon.socket_group)
    stack.callback(unbind, path, bound_at(path))
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if listener.family == socket.AF_INET6 else f"http://{host}:{port}"


async def _serve_http(server: Server) -> None:
    """Serve until a signal asked for a stop and the last answers are out; that ends everything else too."""
    await server.run()
    raise _Stop


async def _announce(server: Server, context: Context, notifier: Notifier) -> None:
    await server.listening()
    places = [f"unix:{path}" for path in _unix_paths(context.policy)]
    log.info("ready", extra={"version": __version__, "jobs": len(context.book.jobs)})
    notifier.ready()
    print("ready", *context.urls, *places, flush=True)


def _unix_paths(policy: Policy) -> list[Path]:
    return [one.path for one in policy.daemon.listen if isinstance(one, UnixListen)]


async def _miss_sockets(paths: Sequence[Path], every_seconds: float) -> None:
    """Say once of each Unix socket that somebody removed it: the daemon lives on, and nobody reaches it there."""
    ours = {path: bound_at(path) for path in paths}
    while ours:
        await asyncio.sleep(every_seconds)
        for path in [path for path, bound in ours.items() if bound_at(path) != bound]:
            log.error("a socket was removed, nobody reaches qpud by it until a restart", extra={"path": str(path)})
            del ours[path]


async def _show_life(service: Service, notifier: Notifier) -> None:
    """Feed systemd's watchdog while the scheduler turns, and not because this loop does."""
    while notifier.watchdog_seconds:
        if service.health().alive:
            notifier.alive()
        await asyncio.sleep(notifier.watchdog_seconds / WATCHDOG_FEEDS)


async def _obey_signals(
    server: Server, service: Service, context: Context, notifier: Notifier, early: list[int]
) -> None:
    """Stop at SIGTERM and SIGINT, reload at SIGHUP, once for those that came early."""
    received: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, received.put_nowait, number)
    if early:
        received.put_nowait(signal.SIGHUP)
    while await received.get() == signal.SIGHUP:
        await server.listening()  # systemd is told READY after a reload, which must not be the first it hears
        notifier.reloading()
        await _reload(service)
        notifier.ready()
    notifier.stopping()
    log.info("stopping")
    context.waiters.release_all()
    server.stop()


async def _reload(service: Service) -> None:
    try:
        for note in await service.reload("SIGHUP"):
            log.warning(note)
    except QpudError as refusal:
        log.error("the policy file was refused, the policy in force stays", extra={"why": str(refusal)})
    else:
        log.info("policy reloaded")
