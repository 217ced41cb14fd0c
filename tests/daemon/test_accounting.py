"""Reports of a daemon that ran something: whose rows one sees, and which names it knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qpud.core.errors import BadRequest, Forbidden, NotFound
from qpud.core.identity import Identity, Proof
from qpud.core.policy import AccountPolicy
from qpud.core.report import Group, ReportFilter
from qpud.core.terms import PreemptMode
from tests.daemon.builders import ALICE, BOB, ROOT, Site, a_policy, a_site, with_queue
from tests.daemon.qpu import Qpu

CAROL = Identity(user_id=1003, user="carol", proof=Proof.PEER)


@asynccontextmanager
async def a_day(path: Path, **parts: Any) -> AsyncIterator[Site]:
    """Alice ran 10 shots for chem in Slurm job 42, Bob 20 and 5 for chem and for nobody."""
    async with a_site(path, **parts) as site:
        first = await site.session(ALICE, account="chem", slurm_job_id="42")
        second = await site.session(BOB, "test", account="chem")
        third = await site.session(BOB)
        await site.ended(
            await site.submit(first, 10),
            await site.submit(second, 20, who=BOB),
            await site.submit(third, 5, who=BOB),
        )
        yield site


async def shots(site: Site, who: Identity, by: Group, **which: Any) -> dict[object, int]:
    report = await site.service.account_report(who, ReportFilter(by=(by,), **which))
    return {row.key[by]: row.charges.shots for row in report.rows}


async def test_an_administrator_sees_what_everybody_used(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        assert await shots(site, ROOT, Group.USER) == {1001: 10, 1002: 25}


async def test_accounts_and_slurm_jobs_are_billed(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        assert await shots(site, ROOT, Group.ACCOUNT) == {None: 5, "chem": 30}
        assert await shots(site, ROOT, Group.SLURM_JOB) == {None: 25, "42": 10}


async def test_a_charge_after_the_end_of_its_session_is_billed_too(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session(ALICE, account="chem")
        site.qpu.seconds = 0.05
        job = await site.submit(session, 10)
        await site.in_flight(job)
        await site.service.close_session(ALICE, session.id)
        done = (await site.end(job)).shots_done
        assert await shots(site, ROOT, Group.ACCOUNT) == {"chem": done}


async def test_a_user_sees_only_his_part_of_an_account(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        assert await shots(site, ALICE, Group.ACCOUNT, accounts=("chem",)) == {"chem": 10}


async def test_a_user_sees_no_other_user(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        assert await shots(site, ALICE, Group.USER) == {1001: 10}
        assert await shots(site, CAROL, Group.USER) == {}


async def test_a_user_may_not_ask_for_another(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        with pytest.raises(Forbidden, match="user alice sees only his own usage"):
            await shots(site, ALICE, Group.USER, user_ids=(1001, 1002))


async def test_a_wrong_name_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        with pytest.raises(NotFound, match=r"queue 'developmnt' is not known here: did you mean development\?"):
            await shots(site, ALICE, Group.QUEUE, queues=("test", "developmnt"))
        with pytest.raises(NotFound, match=r"resource 'TWN' is not known here: did you mean TWIN\?"):
            await shots(site, ALICE, Group.QUEUE, resources=("TWN",))
        with pytest.raises(NotFound, match=r"account 'chemistry' is not known here: did you mean chem\?"):
            await shots(site, ROOT, Group.QUEUE, accounts=("chemistry",))


async def test_names_of_others_accounts_are_not_told(tmp_path: Path) -> None:
    policy = msgspec.structs.replace(a_policy(), accounts={"secret": AccountPolicy(name="secret")})
    async with a_day(tmp_path, policy=policy) as site:
        with pytest.raises(NotFound, match="account 'secret' is not known here: there are none that you may see"):
            await shots(site, CAROL, Group.QUEUE, accounts=("secret",))
        assert await shots(site, ROOT, Group.QUEUE, accounts=("secret",)) == {}


async def test_the_account_of_an_open_session_is_known_before_it_used_anything(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await site.session(ALICE, account="bio")
        assert await shots(site, ALICE, Group.ACCOUNT, accounts=("bio",)) == {}


async def test_a_queue_that_was_renamed_is_still_reported(tmp_path: Path) -> None:
    async with a_day(tmp_path) as site:
        policy = site.context.policy
        queues = {name: queue for name, queue in policy.queues.items() if name != "test"}
        site.context.policy = msgspec.structs.replace(policy, queues=queues)
        assert await shots(site, BOB, Group.QUEUE, queues=("test",)) == {"test": 20}


@pytest.mark.parametrize(
    ("which", "sentence"),
    [
        ({"limit": 0}, "limit 0 is outside 1 … 10000"),
        ({"limit": 10_001}, "limit 10001 is outside"),
        ({"offset": -1}, "offset -1 below 0"),
        ({"sessions": ("s",) * 101}, "a filter of 101 names exceeds 100"),
        ({"start": 5.0, "end": 5.0}, "end 1970-01-01T00:00:05.00:00 is not after its start"),
    ],
)
async def test_a_report_without_sense_is_refused(tmp_path: Path, which: dict[str, Any], sentence: str) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(BadRequest, match=sentence):
            await shots(site, ALICE, Group.USER, **which)


async def test_the_report_agrees_with_slices_and_jobs_after_a_preemption(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.qpu.seconds = 0.01
        low = await site.submit(await site.session(), 40)
        await site.in_flight(low)
        high = await site.submit(await site.session(queue="production"), 15)
        ended = await site.ended(low, high)
        assert "preempted" in await site.story(low)
        assert await shots(site, ALICE, Group.JOB) == {job.id: job.shots_done for job in ended}
        report = await site.service.account_report(ALICE, ReportFilter(by=(Group.QUEUE,)))
        results = [await site.result(job) for job in ended]
    assert report.total.slices == sum(len(result.slices) for result in results)
    assert report.total.qpu_seconds == pytest.approx(sum(result.qpu_seconds for result in results))


async def test_what_a_cut_slice_threw_away_is_reported_and_charged_to_nobody(tmp_path: Path) -> None:
    policy = with_queue(a_policy(), "development", preempt_mode=PreemptMode.REQUEUE)
    async with a_site(tmp_path, Qpu(), policy=policy) as site:
        low = await site.submit(await site.session(), 10)
        await site.in_flight(low)
        site.qpu.canceled += ["earlier", "earlier"]  # the third is cut with nothing
        site.qpu.seconds, site.qpu.cuts = 0.0, True
        high = await site.submit(await site.session(queue="production"), 10)
        await site.ended(low, high)
        report = await site.service.account_report(ALICE, ReportFilter(by=(Group.QUEUE,)))
    wasted = {row.key[Group.QUEUE]: (row.charges.wasted_shots, row.charges.wasted_seconds) for row in report.rows}
    assert wasted == {"development": (3, 3.0), "production": (0, 0.0)}
    assert (report.total.shots, report.total.qpu_seconds) == (20, pytest.approx(2.0))
