"""What users and administrators are told while a resource cannot work."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from qpud import daemon
from qpud.core.errors import StorageFull, Unavailable
from qpud.core.job import Reason
from qpud.core.slices import Outcome
from qpud.core.slurm import SlurmAway, SlurmHold
from qpud.drivers.base import DeviceSpec, Health, HealthState, Program, SliceRequest, Undecided
from qpud.drivers.workers import Verdict, WorkerFault
from qpud.scheduler import checker, monitor, runner
from qpud.service import reaper
from qpud.site.peer import bind_unix
from qpud.telemetry.logs import to_stderr
from tests.daemon.builders import ALICE, CANCELED, DONE, Clock, FakeWorkers, Site, a_life, a_site, sums, until
from tests.daemon.qpu import SPEC, Qpu, QpuDriver


def without_spec() -> Qpu:
    qpu = Qpu(seconds=0.0)
    qpu.spec = None
    return qpu


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "WORRIED_SECONDS", 0.001)


async def test_a_resource_that_never_told_its_device_spec_is_down(tmp_path: Path, impatient: None) -> None:
    async with a_site(tmp_path, without_spec()) as site:
        flight = site.book.flights["TWIN"]
        await until(lambda: flight.state == "down")
        assert flight.message == "no spec yet"


async def test_a_job_behind_a_resource_that_is_down_waits_for_it_and_not_for_a_verdict(
    tmp_path: Path, impatient: None
) -> None:
    async with a_site(tmp_path, without_spec()) as site:
        await until(lambda: site.book.flights["TWIN"].state == "down")
        job = await site.submit(await site.session())
        assert (await site.job(job)).reason is Reason.DOWN
        assert (await site.story(job)).endswith("waits: TWIN is down (no spec yet)")


async def test_a_resource_is_up_with_its_first_device_spec(tmp_path: Path, impatient: None) -> None:
    async with a_site(tmp_path, without_spec()) as site:
        await until(lambda: site.book.flights["TWIN"].state == "down")
        job = await site.submit(await site.session())
        site.qpu.spec = SPEC
        assert (await site.end(job)).shots_done == 10


async def test_a_resource_that_hangs_is_unreachable_before_it_was_asked_in_vain_for_its_device(tmp_path: Path) -> None:
    class Hanging(QpuDriver):
        async def spec(self) -> DeviceSpec:
            await asyncio.Event().wait()
            raise AssertionError

    qpu = without_spec()
    qpu.health = Health(state=HealthState.UNREACHABLE, message="no answer within 5 s")
    async with a_site(tmp_path, qpu, drivers={"TWIN": Hanging("TWIN", qpu)}) as site:
        flight = site.book.flights["TWIN"]
        await until(lambda: flight.state == "unreachable", 30.0)
        assert flight.message == "no answer within 5 s"


async def test_sessions_that_cannot_be_ended_are_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(reaper, "_RETRY_SECONDS", 0.001)
    tried = 0

    async def write(operation: Any, then: Any = None) -> Any:
        nonlocal tried
        tried += 1
        raise StorageFull("nothing can be stored in StateSaveLocation now (full): nothing was accepted")

    clock = Clock()
    async with a_site(tmp_path, clock=clock) as site:
        for _ in range(3):
            await site.session()
        store: Any = site.context.store
        real, store.write = store.write, write
        clock.forward(1e8)
        site.context.touch()
        await until(lambda: tried > 10)
        store.write = real
        await until(lambda: not site.book.sessions)
    assert [record.message for record in caplog.records].count("a session could not be ended, trying again") == 1


class Buggy(QpuDriver):
    """Fails at one verb, so often."""

    def __init__(self, qpu: Qpu, verb: str, times: int = 2) -> None:
        super().__init__("TWIN", qpu)
        self._verb = verb
        self.left = times

    def _fail(self, verb: str) -> None:
        if verb == self._verb and self.left:
            self.left -= 1
            raise IndexError("list index out of range")

    async def spec(self) -> DeviceSpec:
        self._fail("spec")
        return await super().spec()

    async def find(self, request: SliceRequest) -> str | None:
        self._fail("find")
        return await super().find(request)


@pytest.mark.parametrize("verb", ["spec", "find"])
async def test_a_bug_of_a_driver_is_a_doubt_and_not_the_end_of_the_daemon(
    tmp_path: Path, impatient: None, verb: str
) -> None:
    qpu = Qpu(seconds=0.0)
    qpu.lose_replies = 1
    driver = Buggy(qpu, verb)
    async with a_site(tmp_path, qpu, drivers={"TWIN": driver}) as site:
        job = await site.submit(await site.session())
        root, ending = site.root, asyncio.create_task(site.end(job))
        assert root is not None
        await asyncio.wait({root, ending}, timeout=30.0, return_when=asyncio.FIRST_COMPLETED)
        assert not root.done()
        assert ending.result().shots_done == 10
        assert not driver.left


async def test_the_same_trouble_is_logged_once(tmp_path: Path, impatient: None, caplog: Any) -> None:
    asked = 0

    class Counting(Qpu):
        def __getattribute__(self, name: str) -> Any:
            nonlocal asked
            asked += name == "health"
            return super().__getattribute__(name)

    qpu = Counting(seconds=0.0)
    qpu.spec = None
    with caplog.at_level("INFO"):
        async with a_site(tmp_path, qpu):
            await until(lambda: asked > 5)
    assert [record.message for record in caplog.records].count("no device spec") == 1
    assert [record.message for record in caplog.records].count("resource state") == 1


async def test_a_full_disk_is_logged_once_a_minute_and_once_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", (0.001,))
    tried = 0

    async def write(operation: Any, then: Any = None) -> Any:
        nonlocal tried
        tried += 1
        raise StorageFull("nothing can be stored in StateSaveLocation now (full): nothing was accepted")

    async with a_site(tmp_path, Qpu()) as site:
        job = await site.submit(await site.session())
        await site.in_flight(job)
        store: Any = site.context.store
        real, store.write = store.write, write
        with caplog.at_level("INFO"):
            site.qpu.finish()
            await until(lambda: tried == 10)
            store.write = real
            await site.end(job)
    said = [record.message for record in caplog.records if "slice bound" in record.message]
    assert said == ["a slice boundary cannot be stored, trying again", "slice boundaries are stored again"]


async def test_sockets_that_somebody_removed_are_told_once_each(tmp_path: Path, caplog: Any) -> None:
    first, second = tmp_path / "1.sock", tmp_path / "2.sock"
    with closing(bind_unix(first)), closing(bind_unix(second)):
        watch = asyncio.create_task(daemon._miss_sockets([first, second], 0.001))
        await asyncio.sleep(0)
        first.unlink()
        await until(lambda: bool(caplog.records), 30.0)
        second.unlink()
        await asyncio.wait_for(watch, 30.0)
    said = "a socket was removed, nobody reaches qpud by it until a restart"
    assert [(one.message, one.path) for one in caplog.records] == [(said, str(first)), (said, str(second))]


async def test_a_job_whose_slice_a_driver_cannot_look_for_ends_when_a_person_cancels_it(tmp_path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    qpu.lose_replies = 1
    async with a_site(tmp_path, qpu, drivers={"TWIN": Buggy(qpu, "find", times=10**6)}) as site:
        job = await site.submit(await site.session())
        await until(lambda: site.book.flights["TWIN"].state == "unreachable")
        await site.service.cancel_job(ALICE, str(job.id))
        async with asyncio.timeout(30):
            assert (await site.end(job)).state is CANCELED


class Puzzling(QpuDriver):
    """Tells nothing of its first slice that anybody could understand."""

    async def wait(self, device_id: str, request: SliceRequest) -> Outcome:
        if request.tag == self.qpu.requests[0].tag:
            self.qpu.running = None
            raise Undecided("TWIN reports the unknown status STRANGE of job 1")
        return await super().wait(device_id, request)


async def test_a_slice_of_which_nobody_can_tell_how_it_is_ends_when_a_person_cancels_its_job(tmp_path: Path) -> None:
    qpu = Qpu(seconds=0.0)
    async with a_site(tmp_path, qpu, drivers={"TWIN": Puzzling("TWIN", qpu)}) as site:
        session = await site.session()
        first, second = await site.submit(session), await site.submit(session)
        await until(lambda: site.book.flights["TWIN"].state == "unreachable")
        assert (await site.job(first)).reason is Reason.UNKNOWN
        await site.service.cancel_job(ALICE, str(first.id))
        async with asyncio.timeout(30):
            ended = await site.ended(first, second)
        assert [job.state for job in ended] == [CANCELED, DONE]
        assert "given up: TWIN reports the unknown status STRANGE" in await site.story(first)
    assert sums(tmp_path) == (10, 10, 10)


class SlowSlurm:
    """Releases what it is told to, and answers too late."""

    def __init__(self) -> None:
        self.hold = SlurmHold(id=7, user_id=ALICE.user_id, state="PENDING", reason="JobHeldUser")
        self.told = 0

    async def hold_of(self, number: int) -> SlurmHold:
        return self.hold

    async def release(self, number: int, by: str) -> None:
        self.told += 1
        self.hold = SlurmHold(id=7, user_id=ALICE.user_id, state="RUNNING", reason="None")
        raise SlurmAway("Slurm does not answer (no answer within 8 s)")


async def test_a_slurm_job_whose_release_was_answered_too_late_is_told_to_be_released(tmp_path: Path) -> None:
    slurm: Any = SlowSlurm()
    site = await a_life(tmp_path, Qpu(seconds=0.0), slurm=slurm)
    site.context.slurm_control = slurm
    site.start()
    try:
        job = await site.end(await site.submit(await site.session(), then_release=7))
        async with asyncio.timeout(30):
            while "it is tried again" not in (story := await site.story(job)) or "released:" not in story:
                await site.settle()
    finally:
        await site.stop()
    assert "Slurm job 7 was released: all jobs that it waited for have ended (1 DONE)" in story
    assert slurm.told == 1


@pytest.fixture
def logging_as_before() -> Any:
    root, others = logging.getLogger(), [logging.getLogger(name) for name in ("httpx", "httpcore", "uvicorn")]
    handlers, level, levels = root.handlers[:], root.level, [one.level for one in others]
    yield
    root.handlers[:] = handlers
    for one, before in zip([root, *others], [level, *levels], strict=True):
        one.setLevel(before)


def test_bad_requests_leave_no_line_in_the_log_but_crashes_do(logging_as_before: None) -> None:
    to_stderr("info")
    server = logging.getLogger("uvicorn.error")
    assert not server.isEnabledFor(logging.WARNING)
    assert server.isEnabledFor(logging.ERROR)


async def test_a_word_about_the_store_in_between_makes_no_news_of_an_old_state(
    tmp_path: Path, impatient: None, caplog: Any
) -> None:
    qpu = Qpu(seconds=0.0)
    with caplog.at_level("INFO"):
        async with a_site(tmp_path, qpu) as site:
            flight = site.book.flights["TWIN"]
            qpu.health = Health(state=HealthState.DOWN, message="warming up")
            for _ in range(5):
                await until(lambda: flight.message == "warming up")
                flight.message = "nothing can be stored"  # as a boundary that is tried again says it
    assert [record.message for record in caplog.records].count("resource state") == 1


class BrokenWorkers(FakeWorkers):
    """No verdicts until `is_broken` is False."""

    is_broken = True

    async def validate(self, program: Program, shots: int, spec: DeviceSpec) -> Verdict:
        if self.is_broken:
            raise WorkerFault("the worker /bin/false ended before it was ready")
        return await super().validate(program, shots, spec)


async def test_while_nothing_can_be_checked_users_and_administrators_are_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "_PATIENCE_SECONDS", (0.001,))
    workers = BrokenWorkers()
    async with a_site(tmp_path, workers=workers) as site:
        job = await site.submit(await site.session())
        await until(lambda: site.book.flights["TWIN"].unchecked != "")
        assert (await site.story(job)).endswith(
            "waits: its sequence cannot be checked now (the worker /bin/false ended before it was ready),"
            " it is tried again"
        )
        (twin,) = await site.service.resources()
        assert twin.message == "submissions cannot be checked: the worker /bin/false ended before it was ready"
        workers.is_broken = False
        await site.end(job)
        (twin,) = await site.service.resources()
        assert twin.message == ""


class Damage:
    """While `is_there`, no program can be read from the store of a site."""

    def __init__(self, site: Site) -> None:
        self.is_there, self.met = True, 0
        self._store: Any = site.context.store
        self._rows, self._store.rows = self._store.rows, self._read

    async def _read(self, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        if self.is_there and "sequences" in statement:
            self.met += 1
            raise Unavailable("the database is damaged (malformed), this cannot be read")
        return await self._rows(statement, parameters)


async def test_a_job_whose_program_cannot_be_read_waits_and_says_so(tmp_path: Path, caplog: Any) -> None:
    async with a_site(tmp_path) as site:
        damage = Damage(site)
        job = await site.submit(await site.session())
        await until(lambda: damage.met > 0 and "cannot start" in site.book.flights["TWIN"].message)
        assert site.book.flights["TWIN"].job_id is None
        damage.is_there = False
        site.context.wake("TWIN")
        await site.end(job)
        assert site.book.flights["TWIN"].message == ""
    assert [record.message for record in caplog.records].count("a job cannot start, trying again") == 1


async def test_a_slice_in_flight_whose_program_cannot_be_read_is_adopted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", (0.001,))
    qpu = Qpu()
    site = await a_life(tmp_path, qpu)
    site.start()
    job = await site.submit(await site.session())
    await site.in_flight(job)
    await site.crash(lose_queued=False)
    site = await a_life(tmp_path, qpu)
    damage = Damage(site)
    site.start()
    await until(lambda: damage.met > 3)
    qpu.finish()
    damage.is_there = False
    assert (await site.end(job)).shots_done == 10
    assert len(qpu.requests) == 1
    await site.stop()


async def test_a_job_that_cannot_be_read_to_be_checked_is_checked_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "_PATIENCE_SECONDS", (0.001,))
    workers = BrokenWorkers()
    async with a_site(tmp_path, workers=workers) as site:
        job = await site.submit(await site.session())
        damage = Damage(site)
        await until(lambda: damage.met > 3)
        assert "damaged" in await site.story(job)
        workers.is_broken = damage.is_there = False
        await site.end(job)
