"""What the on-prem QPU API's words mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.drivers.onprem_job import BadAnswer, Phase, read_counts, read_job


@pytest.mark.parametrize(
    "result",
    ['{"01": 3, "10": 7}', '{"counter": {"01": 3, "10": 7}}', "{'01': 3, '10': 7}", "{'counter': {'01': 3, '10': 7}}"],
)
def test_counts_are_read_from_json_and_from_the_older_mocks_repr(result):
    assert read_counts(result, 10) == {"01": 3, "10": 7}


def test_counts_of_zero_are_left_out():
    assert read_counts({"0": 0, "1": 2}, 2) == {"1": 2}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ("__import__('os').system('true')", "not JSON"),
        ("{" * 10_000, "not JSON"),
        ("{'a': [1]}", "not JSON"),
        ("{'01': 3", "not JSON"),
        ("12", "int '12'"),
        ("null", "missing"),
        ('{"0x": 1}', "no bitstring"),
        ('{"": 1}', "no bitstring"),
        ('{"01": 1.5}', "no number of shots"),
        ('{"01": true}', "no number of shots"),
        ('{"01": -1}', "no number of shots"),
        ('{"01": "3"}', "no number of shots"),
        ('{"01": NaN}', "no number of shots"),
        (f'{{"01": {"9" * 4300}, "10": {"9" * 4300}}}', "999 of 01, which is no number of shots"),
        (f"{{'01': -0x{'f' * 9000}}}", "not JSON"),
        ('{"01": 1, "011": 1}', "different lengths"),
        ('{"01": 11}', "11 shots where 10"),
    ],
)
def test_what_cannot_be_counts_is_said_in_a_few_words(result, words):
    with pytest.raises(BadAnswer, match=words):
        read_counts(result, 10)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(ANYTHING)
def test_any_other_result_is_counts_or_a_bad_answer(result):
    for form in (result, json.dumps(result), repr(result)):
        try:
            counts = read_counts(form, 10)
        except BadAnswer:
            continue
        assert all(type(number) is int and number > 0 for number in counts.values())


@pytest.mark.parametrize("uid", [None, True, 1.5, "", [], {}])
def test_a_job_without_a_usable_uid_is_a_bad_answer(uid):
    with pytest.raises(BadAnswer, match="uid"):
        read_job({"uid": uid, "status": "DONE"})


@pytest.mark.parametrize("data", [None, [], "job", 3])
def test_a_job_must_be_an_object(data):
    with pytest.raises(BadAnswer, match="not an object"):
        read_job(data)


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("2026-01-01T10:00:00", "2026-01-01T10:00:02.5", 2.5),
        ("2026-01-01T10:00:00", "2026-01-01T10:00:02.5Z", None),  # a naive and an aware one
        ("2026-01-01T10:00:00", "2026-01-01T09:00:00", None),
        ("2026-01-01T10:00:00", None, None),
        ("yesterday", "today", None),
        (0, 1, None),
    ],
)
def test_run_time_is_the_difference_of_two_stamps_of_one_clock(start, end, seconds):
    job = read_job({"uid": 0, "status": "DONE", "start_datetime": start, "end_datetime": end})
    assert job.seconds == seconds


def test_a_status_nobody_knows_is_unknown_and_not_an_end():
    assert read_job({"uid": 0, "status": "LEVITATING"}).phase is Phase.UNKNOWN
