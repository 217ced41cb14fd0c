import pytest

from qpud.config import diff, keep_running_parts, parse

TWO = "[resource A]\nDriver = simulated\n[resource B]\nDriver = emulator\n"


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("", "", []),
        ("", "[qpud]\nLogLevel = debug\n", []),
        ("", "[queue a]\n", []),
        ("", "[qpud]\nListen = unix:/b\nAuthType = munge\n", ["[qpud] Listen", "[qpud] AuthType"]),
        (TWO, TWO.replace("emulator", "simulated"), None),
        (TWO, TWO + "[resource C]\nDriver = emulator\n", ["[resource C]"]),
        (TWO, "[resource A]\nDriver = simulated\n", ["[resource B]"]),
        (TWO, TWO.replace("simulated\n", "simulated\nSpeedUp = 2\n"), ["[resource A] SpeedUp"]),
    ],
)
def test_what_needs_a_restart_is_told(old: str, new: str, changes: list[str] | None) -> None:
    found = diff(parse(old), parse(new))
    assert found == changes if changes is not None else "[resource B] Driver" in found


def test_a_reload_takes_over_queues_and_the_daemon_s_limits() -> None:
    new = parse("[qpud]\nMaxBodySize = 2M\n[queue a]\nPriorityTier = 3\n")
    policy, notes = keep_running_parts(parse(""), new)
    assert (policy, notes) == (new, [])


def test_a_reload_leaves_what_needs_a_restart_and_says_so() -> None:
    old = parse(TWO)
    policy, notes = keep_running_parts(old, parse("[qpud]\nListen = unix:/b\n" + TWO.replace("emulator", "simulated")))
    assert policy == old
    assert notes[0] == "[qpud] Listen has changed: restart qpud to use it."


def test_a_reload_neither_adds_nor_removes_resources() -> None:
    old = parse(TWO)
    policy, notes = keep_running_parts(
        old, parse("[resource B]\nDriver = emulator\n[resource C]\nDriver = emulator\n")
    )
    assert policy.resources == old.resources
    assert notes == [
        "[resource A] was removed: it is served until qpud is restarted.",
        "[resource C] was added: restart qpud to serve it.",
    ]


def test_a_reload_makes_no_resource_the_default_that_does_not_run() -> None:
    new = parse("[qpud]\nDefaultResource = C\n" + TWO + "[resource C]\nDriver = emulator\n")
    policy, notes = keep_running_parts(parse(TWO), new)
    assert policy.default_resource == "A"
    assert "DefaultResource = C does not run yet: restart qpud to use it." in notes


def test_a_second_reload_of_the_same_file_says_the_same() -> None:
    new = parse("[qpud]\nListen = unix:/b\n")
    policy, first = keep_running_parts(parse(""), new)
    assert keep_running_parts(policy, new)[1] == first
