"""What of Pulser's configurations is taken, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qpud.core.backend_config import shots_of
from qpud.core.errors import Invalid

BITS = {"observable": "bitstrings", "evaluation_times": None, "num_shots": None}


def config(**changes: Any) -> str:
    plain = {
        "observables": [BITS],
        "noise_model": {"noise_types": []},
        "initial_state": None,
        "default_num_shots": 1000,
    }
    return json.dumps({**plain, "autosave_dt": float("inf"), "num_gpus_to_use": 1, **changes})


def test_shots_are_those_of_the_bitstrings_else_the_default() -> None:
    assert shots_of(config()) == 1000
    assert shots_of(config(observables=[{**BITS, "num_shots": 40}])) == 40
    assert shots_of(config(observables=[{**BITS, "evaluation_times": [1.0]}])) == 1000
    assert shots_of('{"dt": 10.0, "with_noise": false, "strict_validation": true}') is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"observables": [{"observable": "energy"}]}, "observable energy is not possible"),
        ({"observables": [{**BITS, "evaluation_times": [0.5]}]}, "before the sequence's end"),
        ({"noise_model": {"noise_types": ["SPAM", "doppler"]}}, "noise SPAM, doppler"),
        ({"with_modulation": True}, "with_modulation=True"),
        ({"initial_state": {"eigenstates": ["r"]}}, "initial_state="),
        ({"with_noise": True}, "with_noise=True"),
    ],
)
def test_what_would_give_other_counts_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        shots_of(config(**changes))


@pytest.mark.parametrize("changes", [{"observables": 5}, {"noise_model": {"noise_types": 5}}])
def test_what_is_no_list_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="of the backend configuration is 5, no list"):
        shots_of(config(**changes))


def test_an_observable_by_its_name_alone_says_no_shots() -> None:
    assert shots_of(config(observables=["bitstrings"])) == 1000
    assert shots_of(config(default_num_shots=True)) is None


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="JSON"):
        shots_of(text)


@pytest.mark.parametrize("changes", [{"initial_state": "\ud800"}, {"observables": ["\ud800"]}])
def test_half_a_character_is_refused_in_words_that_can_be_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        shots_of(config(**changes))
    assert refused.value.message.encode()
