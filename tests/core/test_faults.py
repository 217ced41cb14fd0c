"""Faults on demand: read from one line, drawn from the job's seed."""

from __future__ import annotations

import pytest

from qpud.core.errors import Invalid
from qpud.core.faults import FaultPlan, parse
from qpud.core.job import Job, JobState, move
from qpud.core.rehearsal import Emulator, Rehearsal, Veils, rehearsal


def test_a_line_is_read_whole():
    plan = parse("preempt:3, lose-shots:5%,delay:500ms,error:.1")
    assert plan == FaultPlan(preempt=3, lose_shots=0.05, delay=0.5, error=0.1)
    assert parse(plan.text) == plan


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("preemt:3", "fault 'preemt' does not exist: did you mean preempt?"),
        ("", "fault '' does not exist: there are preempt, lose-shots, delay, error"),
        ("preempt", "fault preempt: is no number of preemptions: 1 … 100, as in preempt:3"),
        ("preempt:0", "fault preempt:0 is no number of preemptions: 1 … 100, as in preempt:3"),
        (
            f"preempt:{'1'.zfill(9)}{'9' * 5000}",
            "fault preempt:00000000199999999999 is no number of preemptions: 1 … 100, as in preempt:3",
        ),
        ("preempt:1e3", "fault preempt:1e3 is no number of preemptions: 1 … 100, as in preempt:3"),
        ("lose-shots:95%", "fault lose-shots:95% is no part of a slice: 0 … 90%, as in lose-shots:5%"),
        ("lose-shots:nan", "fault lose-shots:nan is no part of a slice: 0 … 90%, as in lose-shots:5%"),
        ("delay:2d", "fault delay:2d is no time up to an hour: write it as delay:2s, delay:500ms or delay:1m"),
        ("delay:2h", "fault delay:2h is no time up to an hour: write it as delay:2s, delay:500ms or delay:1m"),
        ("error:2", "fault error:2 is no probability: 0 … 1, as in error:0.1"),
        ("error:0.1,error:0.2", "fault error is given twice"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, sentence: str):
    with pytest.raises(Invalid) as wrong:
        parse(text)
    assert wrong.value.message == sentence


def test_slices_are_short_enough_for_all_preemptions():
    plan, left, sizes = FaultPlan(preempt=3), 100, []
    while left:
        sizes.append(plan.shots_of(len(sizes), min(1000, left), left))
        left -= sizes[-1]
    assert sizes == [25, 25, 25, 25]
    assert [plan.preempts(number) for number in range(4)] == [True, True, True, False]


def test_lost_shots_are_the_asked_part_on_average_and_the_same_again():
    plan = FaultPlan(lose_shots=0.05)
    lost = [plan.lost_of(7, number, 50) for number in range(2000)]
    assert lost == [plan.lost_of(7, number, 50) for number in range(2000)]
    assert set(lost) == {2, 3}
    assert abs(sum(lost) / 2000 - 2.5) < 0.1


def test_a_slice_of_one_shot_never_loses_it():
    assert {FaultPlan(lose_shots=0.9).lost_of(seed, 0, 1) for seed in range(100)} == {0}


def test_errors_strike_so_often_after_the_preemptions():
    plan = FaultPlan(preempt=1, error=0.1)
    struck = [plan.strikes(seed, 1, is_last=False) for seed in range(5000)]
    assert abs(sum(struck) / 5000 - 0.1) < 0.02
    assert not any(plan.strikes(seed, 0, is_last=False) for seed in range(200))


def test_a_rehearsal_of_nothing_is_none():
    nothing = {"faults": FaultPlan(), "seed": None, "like": "", "speed_up": None, "emulator": None, "bond_dim": None}
    assert rehearsal(**nothing) is None
    assert rehearsal(**{**nothing, "bond_dim": 8}).emulator is Emulator.MPS


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Rehearsal(speed_up=2.0), "a speed-up is relative to a QPU: name it with like"),
        (Rehearsal(bond_dim=8, emulator=Emulator.SV), "a bond dimension is for the emulator mps, not for sv"),
        (Rehearsal(seed=-1), "seed -1 is outside 0 … 2147483647"),
    ],
)
def test_what_contradicts_itself_is_refused(asked: Rehearsal, sentence: str):
    with pytest.raises(Invalid) as wrong:
        asked.check()
    assert wrong.value.message == sentence


def a_done_job(number: int, ended_at: float, register: str = "a", shots: int = 100) -> Job:
    job = Job(
        id=number,
        uid="u",
        session_id="s",
        user_id=1,
        queue="q",
        resource="EMU",
        sequence_hash="h",
        register_hash=register,
        shots=shots,
        shots_done=shots,
        submitted_at=ended_at - 1,
        started_at=ended_at - 1,
        state=JobState.RUNNING,
    )
    return move(job, JobState.DONE, job.reason, ended_at)


def test_a_pretended_qpu_takes_one_job_after_the_other():
    veils, asked = Veils(), Rehearsal(like="FRESNEL", speed_up=10.0)
    for number, register in enumerate(("a", "a", "b")):
        veils.cover(a_done_job(number, 1001.0, register), asked, 1001.0, setup_seconds=20.0, shot_rate=1.0)
    assert [veils.of(number, 1001.0) for number in range(3)] == [1012.0, 1022.0, 1034.0]
    assert veils.of(0, 1012.0) is None


def test_a_result_that_is_late_already_is_not_covered():
    veils = Veils()
    veils.cover(
        a_done_job(1, 5000.0), Rehearsal(like="FRESNEL", speed_up=1e6), 5000.0, setup_seconds=0.0, shot_rate=1.0
    )
    assert veils.of(1, 5000.0) is None
