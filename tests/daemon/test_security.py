"""What hostile users of one daemon try on each other: tokens, sessions and identities that are not theirs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from qpud.core import verbs
from qpud.core.errors import BadRequest, LimitExceeded, NotFound, Unauthenticated
from qpud.core.identity import Identity, Proof
from qpud.service import sessions, submit
from qpud.telemetry.logs import Lines
from tests.daemon.builders import ALICE, BOB, DONE, ROOT, SEQUENCE, a_site

MUNGE_ROOT = Identity(user_id=0, user="root", proof=Proof.MUNGE)
FOR_ALICE = verbs.OpenSession(user_id=ALICE.user_id, slurm_job_id="7")


async def test_a_session_id_is_no_token(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        with pytest.raises(Unauthenticated):
            site.service.identify_token(session.id)


async def test_a_stolen_root_credential_gets_no_token_of_another_user(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        opened = await site.service.open_session(MUNGE_ROOT, FOR_ALICE)
        found = await site.service.open_session(MUNGE_ROOT, FOR_ALICE)
        assert (opened.token, found.token, site.book.tokens) == ("", "", {})


async def test_the_owner_gets_the_token_of_a_session_that_root_opened(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        opened = await site.service.open_session(MUNGE_ROOT, FOR_ALICE)
        grant = await site.service.open_session(ALICE, verbs.OpenSession(slurm_job_id="7"))
        assert site.service.identify_token(grant.token).session_id == opened.session.id


async def test_root_on_the_unix_socket_gets_a_token_for_another(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        grant = await site.service.open_session(ROOT, FOR_ALICE)
        assert site.service.identify_token(grant.token).user_id == ALICE.user_id


async def test_a_submission_to_anothers_session_finds_none(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        session = await site.session()
        with pytest.raises(NotFound, match=f"session {session.id} does not exist"):
            await site.submit(session, who=BOB)


async def test_one_user_cannot_open_sessions_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_OPEN", 3)
    async with a_site(tmp_path) as site:
        for _ in range(3):
            await site.session()
        with pytest.raises(LimitExceeded, match="3 open sessions"):
            await site.session()
        assert await site.session(BOB)


async def test_one_session_does_not_give_tokens_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST_TOKENS", 3)
    async with a_site(tmp_path) as site:
        for _ in range(3):
            await site.session(slurm_job_id="7")
        with pytest.raises(LimitExceeded, match="3 tokens"):
            await site.session(slurm_job_id="7")
        await site.session(slurm_job_id="7", with_token=False)
        assert len(site.book.tokens) == 3


async def test_what_is_remembered_of_sequences_is_bounded_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "REMEMBERED_BYTES", 3 * len(SEQUENCE))
    async with a_site(tmp_path) as site:
        session = await site.session()
        for number in range(10):
            await site.submit(session, 10, sequence=SEQUENCE.replace('"test"', f'"tes{number}"'))
        remembered = site.service._sequences
        assert 0 < sum(len(text) for text in remembered) <= 3 * len(SEQUENCE)


async def test_sequences_of_who_proved_nothing_push_out_none_that_was_accepted(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        await site.submit(await site.session(), 10)
        for number in range(2000):
            site.service.foresee(SEQUENCE.replace('"test"', f'"tes{number}"'))
        assert list(site.service._sequences) == [SEQUENCE]
        assert len(site.service._foreseen) <= 64


async def test_a_foreseen_sequence_is_accepted_as_any_other(tmp_path: Path) -> None:
    async with a_site(tmp_path) as site:
        site.service.foresee(SEQUENCE)
        job = await site.submit(await site.session(), 10)
        assert (await site.end(job)).state is DONE
        assert not site.service._foreseen


async def test_a_sequence_that_is_forgotten_at_once_is_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "REMEMBERED_BYTES", 0)
    async with a_site(tmp_path) as site:
        job = await site.submit(await site.session(), 10)
        assert (await site.end(job)).state is DONE


@pytest.mark.parametrize("ask", [{"slurm_job_id": "7\n2026 INFO forged"}, {"account": "\x1b[2Jphysics"}])
async def test_a_session_carries_no_control_characters_to_logs_and_terminals(
    tmp_path: Path, ask: dict[str, Any]
) -> None:
    async with a_site(tmp_path) as site:
        with pytest.raises(BadRequest, match="unprintable"):
            await site.session(**ask)


@pytest.mark.parametrize("text", ["a b", "a\rb", "a\x1b[2Jb", "a=b", "a\u2028b"])
def test_a_value_in_the_log_forges_no_line_and_no_field(text: str) -> None:
    record = logging.makeLogRecord({"msg": "constant", "levelname": "INFO", "user": text})
    assert Lines().format(record).endswith(f"INFO constant user={text!r}")


async def test_what_is_opened_and_closed_for_others_is_on_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qpud.service.sessions")
    async with a_site(tmp_path) as site:
        grant = await site.service.open_session(MUNGE_ROOT, FOR_ALICE)
        await site.service.close_session(MUNGE_ROOT, grant.session.id)
        own = await site.session()
        await site.service.close_session(ALICE, own.id)
    seen = [(one.msg, one.__dict__["by"], one.__dict__["proof"], one.__dict__["session"]) for one in caplog.records]
    assert seen == [
        (f"session {what} for another user", "root", Proof.MUNGE, grant.session.id) for what in ("opened", "closed")
    ]
