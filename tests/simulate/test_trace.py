"""Traces: the form of the issue is read, anything else gets one sentence with line, key, value and limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core.errors import BadRequest
from qpud.core.session import Hint
from qpud.simulate.generate import DEFAULT_MIX, Kind, Recipe, generate
from qpud.simulate.trace import Batch, Classical, SessionTrace, Shots, read, write

LINE = (
    '{"id":"s1","at":0.0,"user":"alice","account":"chem","queue":"development","resource":"FRESNEL","share":1,'
    '"hint":"cc-heavy","nodes":8,"repeat":100,"steps":[{"classical":2.0},{"shots":5}]}'
)


def one(text: str) -> SessionTrace:
    return read([text], "t.jsonl")[0]


def refusal(text: str) -> str:
    with pytest.raises(BadRequest) as caught:
        read([LINE.replace("s1", "s0"), text], "t.jsonl")
    return caught.value.message


def changed(old: str, new: str) -> str:
    assert old in LINE
    return LINE.replace(old, new)


def test_a_line_of_the_documented_form_is_read_whole() -> None:
    assert one(LINE) == SessionTrace(
        id="s1",
        at=0.0,
        user="alice",
        account="chem",
        queue="development",
        resource="FRESNEL",
        share=1,
        hint=Hint.CC_HEAVY,
        nodes=8,
        repeat=100,
        steps=(Classical(seconds=2.0), Batch(jobs=(Shots(shots=5),))),
    )


def test_all_but_id_at_queue_and_steps_is_optional() -> None:
    session = one('{"id":"s1","at":3,"queue":"test","steps":[{"shots":5}]}')
    assert (session.share, session.nodes, session.repeat, session.hint) == (1, 1, 1, Hint.NONE)


@pytest.mark.parametrize("key", ["id", "at", "queue", "steps"])
def test_a_line_without_a_required_key_is_refused(key: str) -> None:
    fields = {"id": '"s1"', "at": "3", "queue": '"test"', "steps": '[{"shots":5}]'}
    text = ",".join(f'"{name}":{value}' for name, value in fields.items() if name != key)
    assert refusal("{" + text + "}") == f"t.jsonl, line 2: {key} is missing, which every session must have"


def test_a_batch_submits_several_jobs_with_registers_resources_and_delays() -> None:
    text = changed('{"shots":5}', '{"batch":[{"shots":20,"register":"r"},{"shots":30,"resource":"EMU","after":1.5}]}')
    assert one(text).steps[1] == Batch(
        jobs=(Shots(shots=20, register="r"), Shots(shots=30, resource="EMU", after=1.5))
    )


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"share":1', '"share":11', "line 2: share is 11, it must be a whole number of units, 1 to 10"),
        ('"nodes":8', '"nodes":0', "line 2: nodes is 0, it must be a whole number, 1 to 1e+12"),
        ('"at":0.0', '"at":-1', "line 2: at is -1, it must be a number of seconds, 0 to 1e+12"),
        ('"hint":"cc-heavy"', '"hint":"fast"', 'hint is "fast", it must be one of qc-heavy, cc-heavy, qc-balanced'),
        ('"shots":5', '"shots":2.5', "line 2: step 2: shots is 2.5, it must be a whole number, 1 to 1e+12"),
        ('"shots":5', '"shots":true', "line 2: step 2: shots is true"),
        ('"shots":5', '"shot":5', 'line 2: step 2: there is no key "shot", the keys are shots, register, resource'),
        ('"classical":2.0', '"classical":2.0,"shots":1', 'step 1: there is no key "shots", the keys are classical'),
        ('"nodes":8', '"node":8', 'line 2: there is no key "node", the keys are id, at'),
        ('[{"classical":2.0},{"shots":5}]', "[]", "line 2: steps is [], it must be a list of one or more objects"),
        ('{"shots":5}', '{"batch":[{"shots":0}]}', "line 2: step 2: job 1: shots is 0"),
    ],
)
def test_a_value_out_of_its_limits_is_told_with_line_key_value_and_limit(old: str, new: str, sentence: str) -> None:
    assert sentence in refusal(changed(old, new))


@pytest.mark.parametrize("text", ["{", "[1]", '"s1"', '{"id":NaN}'])
def test_what_is_no_object_is_told_with_its_line(text: str) -> None:
    assert refusal(text).startswith("t.jsonl, line 2: ")


def test_an_id_that_stands_twice_is_told_with_both_lines() -> None:
    assert refusal(LINE.replace("s1", "s0")) == 't.jsonl, line 2: id "s0" stands in line 1 already'


def test_a_trace_without_sessions_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"t\.jsonl holds no session"):
        read(["", "\n"], "t.jsonl")


@given(st.sampled_from(Kind), st.integers(0, 1000))
def test_what_is_written_is_read_back_as_it_was(kind: Kind, seed: int) -> None:
    made = generate(Recipe(kind=kind, number=5, rate=0.01, mix=DEFAULT_MIX, seed=seed))
    assert read([write(session) for session in made], "t.jsonl") == made


def test_what_is_written_leaves_out_what_is_filled_in() -> None:
    assert write(one('{"id":"s1","at":3.0,"queue":"test","steps":[{"shots":5}],"nodes":1}')) == (
        '{"id":"s1","at":3.0,"queue":"test","steps":[{"shots":5}]}'
    )
