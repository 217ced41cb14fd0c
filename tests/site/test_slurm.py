"""Looking jobs up in a real Slurm, what its users can forge, and what happens while it is away."""

import asyncio
import time
from collections.abc import Callable

import pytest

from qpud.core.slurm import SlurmAway
from qpud.site import slurm as site_slurm
from qpud.site.slurm import Slurm
from qpud.site.slurmcommand import PATIENCE_SECONDS, RETRY_SECONDS
from tests.site.cluster import Cluster
from tests.site.pulse import Pulse

pytestmark = pytest.mark.slurm


@pytest.fixture
def pulse() -> Pulse:
    return Pulse()


@pytest.fixture
def slurm(cluster: Cluster, pulse: Pulse) -> Slurm:
    return Slurm(cluster.conf, pulse)


async def seconds_of(question: Callable[[], object]) -> float:
    started = time.monotonic()
    with pytest.raises(SlurmAway):
        await question()  # type: ignore[misc]
    return time.monotonic() - started


async def test_a_running_job_tells_whose_it_is_and_what_it_holds(cluster: Cluster, slurm: Slurm) -> None:
    before = int(time.time())
    number = cluster.start("sleep 300", "-p", "production", "-L", "qpu:3", "-N2", "-t", "10", "-A", "chem")
    job = await slurm.look_up(number)
    assert job is not None and job.started_at is not None and job.ends_at is not None
    assert (job.id, job.user_id, job.partition, job.state) == (number, 65534, "production", "RUNNING")
    assert (job.units, job.nodes, job.account) == (3, 2, "chem")
    assert (job.qos, job.priority) == (None, 10_000)  # no accounting here; production's PriorityJobFactor
    assert before <= job.started_at <= time.time()
    assert job.ends_at == job.started_at + 600


async def test_gres_count_where_there_are_no_licences(cluster: Cluster, slurm: Slurm) -> None:
    job = await slurm.look_up(cluster.start("sleep 300", "--gres=qpu:4"))
    assert job is not None
    assert (job.units, job.account) == (4, None)


async def test_an_unknown_job_is_none(slurm: Slurm) -> None:
    assert await slurm.look_up(4_000_000) is None
    assert await slurm.look_up(9_999_999_999) is None


async def test_a_task_of_an_array_is_found_by_its_own_number(cluster: Cluster, slurm: Slurm) -> None:
    array = cluster.submit("sleep 300", "--array=1-3")
    tasks = [array + 1, array + 2]
    for task in tasks:
        cluster.wait(task, "RUNNING")
    assert [(await slurm.look_up(task)).id for task in tasks] == tasks  # type: ignore[union-attr]


ROW = "\t0\tproduction\tRUNNING\t9\t1\tN/A\tqpu:10\tN/A\thigh\t99"


async def test_names_comments_and_accounts_forge_no_row(cluster: Cluster, slurm: Slurm) -> None:
    victim = cluster.submit("sleep 300", "--hold")
    own = victim + 1
    lines = f"x\n{victim}{ROW}\n{own}{ROW}\n{victim}\tops\n{own}\tops"
    assert cluster.start("sleep 300", "-J", lines, f"--comment={lines}", "-A", lines) == own
    held, job, listed = await slurm.look_up(victim), await slurm.look_up(own), await slurm.jobs()
    assert held is not None and job is not None
    assert (held.state, held.user_id, held.partition) == ("PENDING", 65534, "development")
    assert (job.user_id, job.partition, job.units, job.account) == (65534, "development", 1, "x")
    assert (listed[victim].state, listed[own].partition) == ("PENDING", "development")


async def test_an_array_forges_no_account_of_its_first_task(cluster: Cluster, slurm: Slurm) -> None:
    array = cluster.submit("sleep 300", "--array=1-2", "-A", "x\n1\tops")
    cluster.wait(array + 1, "RUNNING")
    job = await slurm.look_up(array + 1)
    assert job is not None
    assert job.account == "x"


async def test_a_running_job_is_asked_for_once_until_its_session_closes(
    cluster: Cluster, slurm: Slurm, pulse: Pulse
) -> None:
    number = cluster.start()
    assert (await slurm.look_up(number)).state == "RUNNING"  # type: ignore[union-attr]
    cluster.cancel(number, "CANCELLED")
    assert (await slurm.look_up(number)).state == "RUNNING"  # type: ignore[union-attr]
    slurm.forget(number)
    assert (await slurm.look_up(number)).state == "CANCELLED"  # type: ignore[union-attr]


async def test_what_is_remembered_fades(cluster: Cluster, slurm: Slurm, pulse: Pulse) -> None:
    number = cluster.start()
    await slurm.look_up(number)
    cluster.cancel(number, "CANCELLED")
    pulse.ahead += site_slurm.REMEMBERED_SECONDS
    assert (await slurm.look_up(number)).state == "CANCELLED"  # type: ignore[union-attr]


async def test_a_hung_slurm_is_given_up_in_time_and_then_at_once(cluster: Cluster, slurm: Slurm, pulse: Pulse) -> None:
    number = cluster.start()
    with cluster.hung():
        assert await seconds_of(lambda: slurm.look_up(number)) < PATIENCE_SECONDS + 1
        assert await seconds_of(lambda: slurm.look_up(number)) < 0.1
        pulse.ahead += RETRY_SECONDS
        assert await seconds_of(slurm.jobs) < PATIENCE_SECONDS + 1  # the ping
        assert await seconds_of(slurm.jobs) < 0.1
    assert await seconds_of(slurm.jobs) < 0.1
    pulse.ahead += RETRY_SECONDS
    assert (await slurm.look_up(number)).state == "RUNNING"  # type: ignore[union-attr]


async def test_a_slurm_that_is_down_is_found_out_by_ping(cluster: Cluster, slurm: Slurm, pulse: Pulse) -> None:
    with cluster.down():
        assert await seconds_of(slurm.jobs) < PATIENCE_SECONDS + 1
        pulse.ahead += RETRY_SECONDS
        assert await seconds_of(slurm.jobs) < 1.0
    pulse.ahead += RETRY_SECONDS
    assert await slurm.jobs() == await slurm.jobs()


async def test_many_questions_to_a_hung_slurm_end_together(cluster: Cluster, slurm: Slurm) -> None:
    with cluster.hung():
        started = time.monotonic()
        answers = await asyncio.gather(*(slurm.look_up(n) for n in range(1, 100)), return_exceptions=True)
        assert time.monotonic() - started < 2 * PATIENCE_SECONDS + 1
    assert {type(answer) for answer in answers} == {SlurmAway}


async def test_the_loop_turns_while_slurm_hangs(cluster: Cluster, slurm: Slurm) -> None:
    with cluster.hung():
        question = asyncio.create_task(slurm.look_up(1))
        longest, last = 0.0, time.monotonic()
        while not question.done():
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert isinstance(question.exception(), SlurmAway)
    assert longest < 0.3


async def test_without_squeue_slurm_is_away(monkeypatch: pytest.MonkeyPatch, pulse: Pulse) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SlurmAway, match="squeue"):
        await Slurm(None, pulse).jobs()
