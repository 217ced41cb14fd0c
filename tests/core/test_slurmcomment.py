"""What a Slurm job's admin comment says of its QPU work."""

import msgspec
import pytest

from qpud.core.slurmcomment import Stage, Work, is_worth_telling, stage_of, text_of

NOW = 1_000_000.0
LATER = Work(resources=("FRESNEL",), share=3, hint="", stage=Stage.LATER, ends_at=NOW + 3600.0)


def ending(at: float) -> Work:
    return msgspec.structs.replace(LATER, ends_at=at)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "qpud qpu=FRESNEL share=3; QPU work ends about 14:05"),
        ({"hint": "cc-heavy"}, "qpud qpu=FRESNEL share=3 hint=cc-heavy; QPU work ends about 14:05"),
        ({"resources": ("EMU", "FRESNEL")}, "qpud qpu=EMU,FRESNEL share=3; QPU work ends about 14:05"),
        ({"stage": Stage.SOON}, "qpud qpu=FRESNEL share=3; QPU work ends within 2 minutes"),
        ({"stage": Stage.WAITS}, "qpud qpu=FRESNEL share=3; QPU work waits"),
        ({"stage": Stage.DONE}, "qpud qpu=FRESNEL share=3; QPU work is done"),
    ],
)
def test_the_comment_begins_as_job_submit_wrote_it(changes: dict[str, object], text: str) -> None:
    assert text_of(msgspec.structs.replace(LATER, **changes), lambda _at: "14:05") == text


def test_a_comment_is_short_whatever_resources_there_are() -> None:
    many = msgspec.structs.replace(LATER, resources=tuple(f"RESOURCE_{number:04}" for number in range(1000)))
    text = text_of(msgspec.structs.replace(many, hint="qc-balanced"), lambda _at: "2026-11-26T14:05")
    assert len(text) < 250 and text.isascii()


def test_the_stage_follows_from_the_forecast() -> None:
    assert stage_of(False, None, NOW) is Stage.DONE
    assert stage_of(True, None, NOW) is Stage.WAITS
    assert stage_of(True, NOW + 119.0, NOW) is Stage.SOON
    assert stage_of(True, NOW + 121.0, NOW) is Stage.LATER


def test_an_end_is_told_anew_only_if_it_moved_by_a_minute_and_a_tenth() -> None:
    assert is_worth_telling(None, LATER, NOW)
    assert not is_worth_telling(LATER, LATER, NOW)
    assert not is_worth_telling(LATER, ending(NOW + 3600.0 + 350.0), NOW)
    assert is_worth_telling(LATER, ending(NOW + 3600.0 + 450.0), NOW)
    near = ending(NOW + 200.0)
    assert not is_worth_telling(near, ending(NOW + 259.0), NOW)
    assert is_worth_telling(near, ending(NOW + 261.0), NOW)


def test_another_stage_or_resource_is_told() -> None:
    assert is_worth_telling(LATER, msgspec.structs.replace(LATER, stage=Stage.DONE, ends_at=None), NOW)
    assert is_worth_telling(LATER, msgspec.structs.replace(LATER, resources=("EMU", "FRESNEL")), NOW)
