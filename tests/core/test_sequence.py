"""The structural check: facts of good programs, one sentence for bad ones, never a crash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.core.errors import BadRequest, Invalid, QpudError
from qpud.core.sequence import Kind, check_shots, check_variables, inspect, register_hash

PULSE = {
    "op": "pulse",
    "channel": "ising",
    "amplitude": {"kind": "constant", "duration": 500, "value": 3.0},
    "detuning": {"kind": "ramp", "duration": 500, "start": 0.0, "stop": 1.0},
}


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": "1",
        "name": "test",
        "register": [{"name": "q0", "x": 0.0, "y": 0.0}, {"name": "q1", "x": 6.0, "y": 0.0}],
        "channels": {"ising": "rydberg_global"},
        "variables": {},
        "operations": [PULSE],
        "measurement": None,
        "device": {"name": "AnalogDevice", "is_virtual": False, "max_runs": 2000},
        "layout": {"coordinates": [[0.0, 0.0], [6.0, 0.0], [12.0, 0.0]]},
        **changes,
    }


def text(**changes: Any) -> str:
    return json.dumps(document(**changes))


def parametrised(**variables: Any) -> str:
    return text(variables={name: {"type": kind, "value": [0] * size} for name, (kind, size) in variables.items()})


def mappable() -> str:
    return text(register=[{"qid": "q0"}, {"qid": "q1"}])


def ahs(**changes: Any) -> str:
    series = {"time_series": {"times": ["0.0", "0.000003"], "values": ["0.0", "0.0"]}, "pattern": "uniform"}
    drive = {"amplitude": series, "detuning": series, "phase": series}
    register = {"sites": [["0.0", "0.0"], ["0.000006", "0.0"]], "filling": [1, 0], **changes}
    return json.dumps({"setup": {"ahs_register": register}, "hamiltonian": {"drivingFields": [drive]}})


def test_facts_of_a_pulser_sequence() -> None:
    facts = inspect(text())
    assert (facts.kind, facts.device, facts.atoms, facts.traps) == (Kind.PULSER, "AnalogDevice", 2, 3)
    assert (facts.measured, facts.is_virtual, facts.mappable, facts.channels) == (False, False, False, 1)


def test_facts_of_an_ahs_program() -> None:
    facts = inspect(ahs())
    assert (facts.kind, facts.atoms, facts.traps) == (Kind.AHS, 1, 2)


def test_a_device_by_name_only_is_accepted() -> None:
    facts = inspect(text(device="MockDevice"))
    assert (facts.device, facts.is_virtual) == ("MockDevice", True)


@pytest.mark.parametrize(
    "body",
    ["", "{", "nope", "[]", '"text"', "3", '{"a": NaN}', '{"a": Infinity}', "\ud800", "[" * 100_000, '{"a":' * 3000],
)
def test_what_is_not_a_json_object_is_a_bad_request(body: str) -> None:
    with pytest.raises(BadRequest) as raised:
        inspect(body)
    assert len(raised.value.message) < 200


def test_nesting_beyond_64_levels_is_refused_wherever_it_hides() -> None:
    deep = "[" * 80 + "]" * 80
    with pytest.raises(BadRequest, match="deeper than 64"):
        inspect(text(metadata="X").replace('"X"', deep))


def test_brackets_inside_strings_are_not_nesting() -> None:
    assert inspect(text(name="[" * 200 + '"' + "]" * 200)).atoms == 2


def test_brackets_in_strings_cannot_hide_a_recursion() -> None:
    body = '{"a":' + '["]",' * 3000 + "1" + ',"["]' * 3000 + "}"
    with pytest.raises((BadRequest, Invalid)):  # how deep one may read is the interpreter's: 3.13 reads it all
        inspect(body)


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    with pytest.raises(QpudError):
        inspect(text().replace("3.0", number))


@pytest.mark.parametrize("field", ["version", "register", "channels", "operations", "device", "measurement"])
def test_a_missing_field_is_named(field: str) -> None:
    incomplete = document()
    del incomplete[field]
    with pytest.raises(Invalid, match=f"lacks the field `{field}`"):
        inspect(json.dumps(incomplete))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": "2"}, "version '2'"),
        ({"register": []}, "register of the sequence is empty"),
        ({"operations": []}, "no operations"),
        ({"register": [{"name": "q0"}]}, "atom 0"),
        ({"register": 3}, r"\$\.register"),
        ({"variables": {"a": {"type": "str"}}}, "type 'str'"),
    ],
)
def test_a_wrong_document_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        inspect(text(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"filling": [0, 0]}, "empty"),
        ({"filling": [1]}, "2 sites but 1 values"),
        ({"sites": [["x", "0"], ["0", "0"]]}, "'x' where a number"),
        ({"sites": [["nan", "0"], ["0", "0"]]}, "'nan' where a finite"),
        ({"sites": 3}, "AHS program is malformed"),
    ],
)
def test_a_wrong_ahs_program_is_refused_with_the_reason(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        inspect(ahs(**changes))


@pytest.mark.parametrize("shots", [0, -5, True, 10.5, 10.0, "10", None])
def test_shots_that_are_not_a_positive_integer_are_refused(shots: object) -> None:
    with pytest.raises(Invalid, match="number of shots"):
        check_shots(shots)


def test_good_variables_pass() -> None:
    facts = inspect(parametrised(omega=("float", 1), t=("int", 1), delta=("float", 2)))
    check_variables(facts, {"omega": 11, "t": [1000], "delta": [-1.5, 2]})


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "'omega' of the sequence has no value"),
        ({"omega": 1.0, "t": 1, "x": 1}, "no variable 'x'"),
        ({"omega": "11", "t": 1}, "'omega' takes finite numbers, not '11'"),
        ({"omega": None, "t": 1}, "not None"),
        ({"omega": True, "t": 1}, "not True"),
        ({"omega": float("nan"), "t": 1}, "not nan"),
        ({"omega": float("inf"), "t": 1}, "not inf"),
        ({"omega": [1.0, 2.0], "t": 1}, "'omega' takes 1 values, not 2"),
        ({"omega": 1.0, "t": 1000.7}, "'t' takes integers"),
        ({"omega": 1.0, "t": 10**30}, "'t' takes integers"),
        ({"omega": 1.0, "t": 1, "qubits": {"q0": 1}}, "no variable 'qubits'"),
    ],
)
def test_variables_that_pulser_would_let_through_are_refused(variables: dict[str, Any], words: str) -> None:
    facts = inspect(parametrised(omega=("float", 1), t=("int", 1)))
    with pytest.raises(Invalid, match=words):
        check_variables(facts, variables)


@pytest.mark.parametrize(
    "qubits", [None, {}, {"q0": 3}, {"q0": -1}, {"q0": True}, {"q0": 1, "q1": 1}, {"q0": 0, "q1": 1, "q2": 2}, "q0"]
)
def test_a_wrong_mapping_is_refused(qubits: object) -> None:
    with pytest.raises(Invalid, match="'qubits'"):
        check_variables(inspect(mappable()), {"qubits": qubits})


def test_a_mappable_register_needs_its_mapping() -> None:
    with pytest.raises(Invalid, match="'qubits' of the sequence has no value"):
        check_variables(inspect(mappable()), {})


def test_equal_places_have_equal_register_hashes_whatever_is_played() -> None:
    assert register_hash(inspect(text()), {}) == register_hash(inspect(text(operations=[PULSE] * 3)), {})


@pytest.mark.parametrize(
    "other",
    [
        text(register=[{"name": "q0", "x": 0.5, "y": 0.0}, {"name": "q1", "x": 6.0, "y": 0.0}]),
        text(layout={"coordinates": [[0.0, 0.0], [6.0, 0.0]]}),
        mappable(),
        ahs(),
    ],
)
def test_other_places_have_other_register_hashes(other: str) -> None:
    assert register_hash(inspect(text()), {}) != register_hash(inspect(other), {"qubits": {"q0": 1}})


def test_the_register_hash_of_a_mappable_register_depends_on_the_mapping() -> None:
    facts = inspect(mappable())
    assert register_hash(facts, {"qubits": {"q0": 1}}) != register_hash(facts, {"qubits": {"q0": 2}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(document())), JSON)
def test_no_document_raises_anything_but_a_qpud_error(field: str, value: object) -> None:
    try:
        facts = inspect(text(**{field: value}))
        check_variables(facts, {})
        register_hash(facts, {})
    except QpudError as error:
        assert len(error.message) < 400
