"""Shares of a running daemon: live, with names, and no ids of others' sessions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from qpud.core.errors import NotFound
from qpud.core.policy import Policy
from qpud.core.terms import FairShareBy
from tests.daemon.builders import ALICE, BOB, ROOT, Site, a_policy, a_site


def shared_by(kind: FairShareBy, *resources: str) -> Policy:
    return a_policy(*resources, fair_share_by=kind)


async def contend(site: Site) -> None:
    """Alice's 3 units and Bob's 1 have work, and nothing can start."""
    site.qpu.seconds = 0.01
    mine = await site.session(ALICE, share=3, account="chem")
    others = await site.session(BOB, share=1, account="bio")
    await site.submit(mine, 40)
    await site.submit(others, 40, who=BOB)
    await site.in_flight()


async def test_sessions_are_entitled_by_their_units(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await contend(site)
        found = {one.user: one for one in await site.service.shares(ROOT, "TWIN")}
    assert {user: one.entitled for user, one in found.items()} == {"user1001": 0.75, "user1002": 0.25}
    assert all(one.is_active and one.session for one in found.values())


async def test_another_users_session_id_is_not_told(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await contend(site)
        found = {one.user: one.session for one in await site.service.shares(ALICE, None)}
    assert found["user1001"] is not None
    assert found["user1002"] is None


async def test_what_was_served_is_what_the_ledger_says(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await contend(site)
        await site.ended(*list(site.book.jobs.values()))
        served = {one.user: one.served_seconds for one in await site.service.shares(ROOT, "TWIN")}
        charged = await site.context.store.rows("SELECT user_id, sum(qpu_seconds) FROM ledger GROUP BY 1")
    assert served == pytest.approx({f"user{uid}": seconds for uid, seconds in charged})


async def test_accounts_stand_above_their_users_and_sessions(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=shared_by(FairShareBy.ACCOUNT)) as site:
        await contend(site)
        found = await site.service.shares(ROOT, "TWIN")
    assert [(one.kind, one.account, one.entitled) for one in found if one.account == "chem"] == [
        ("account", "chem", 0.5),
        ("user", "chem", 0.5),
        ("session", "chem", 0.5),
    ]


async def test_each_resource_has_its_own_shares(tmp_path: Path) -> None:
    async with a_site(tmp_path, policy=a_policy("TWIN", "OTHER")) as site:
        await contend(site)
        assert {one.resource for one in await site.service.shares(ROOT, None)} == {"TWIN"}
        assert await site.service.shares(ROOT, "OTHER") == []


async def test_a_scheduler_that_shares_nothing_shows_none(tmp_path: Path) -> None:
    policy = a_policy()
    policy = msgspec.structs.replace(policy, daemon=msgspec.structs.replace(policy.daemon, scheduler_type="fifo"))
    async with a_site(tmp_path, policy=policy) as site:
        await contend(site)
        assert await site.service.shares(ROOT, None) == []


async def test_a_resource_that_does_not_exist_is_told_with_the_nearest(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(NotFound, match="did you mean TWIN"):
            await site.service.shares(ALICE, "TWN")
