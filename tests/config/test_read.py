from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpud.config import ConfigError, Mistake, load, parse, warnings
from qpud.core.errors import Invalid
from qpud.core.policy import Policy, default_policy
from qpud.core.terms import UNLIMITED_SECONDS, AuthType, DriverKind, PreemptMode, TcpListen, UnixListen

CLOUD = "[resource r]\nDriver = pasqal-cloud\nUrl = http://h\nDeviceType = FRESNEL\n"
ISSUE_EXAMPLE = """\
[qpud]
Listen = unix:/run/qpud/qpud.sock, http://127.0.0.1:8006
AuthType = munge
AdminUsers = root, qops
StateSaveLocation = /var/lib/qpud
WorkerPython = /opt/qpud/worker/bin/python
DefaultResource = FRESNEL

[queue production]
PriorityTier = 100
Partitions = production
PreemptMode = OFF

[queue development]
PriorityTier = 10
Partitions = development
PreemptMode = SLICE
SliceSeconds = 20
MaxShots = 1000

[resource FRESNEL]
Driver = pasqal-qpu
Url = http://10.0.0.5:8000

[resource TWIN]
Driver = simulated
ShotRate = 1
SetupSeconds = 2
SpeedUp = 100

[resource EMU_MPS]
Driver = emulator
"""


def mistakes_of(text: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "q.conf")
    return caught.value.mistakes


def only_mistake(text: str) -> Mistake:
    found = mistakes_of(text)
    assert len(found) == 1, list(map(str, found))
    return found[0]


# -- what is written is what comes out


def test_an_empty_file_gives_the_defaults() -> None:
    assert parse("") == default_policy()


@pytest.mark.parametrize("spoil", [str, lambda text: text.replace("\n", "\r\n"), lambda text: f"\ufeff{text}"])
def test_the_example_of_the_issue_loads(spoil: Callable[[str], str]) -> None:
    policy = parse(spoil(ISSUE_EXAMPLE))
    assert policy.daemon.listen == (
        UnixListen(path=Path("/run/qpud/qpud.sock")),
        TcpListen(host="127.0.0.1", port=8006),
    )
    assert (policy.daemon.auth_type, policy.daemon.admin_users) == (AuthType.MUNGE, ("root", "qops"))
    assert list(policy.queues) == ["production", "development"]
    assert (policy.queues["production"].preempt_mode, policy.queues["development"].max_shots) == (
        PreemptMode.OFF,
        1000,
    )
    assert [resource.driver for resource in policy.resources.values()] == [
        DriverKind.PASQAL_QPU,
        DriverKind.SIMULATED,
        DriverKind.EMULATOR,
    ]
    assert (policy.resources["FRESNEL"].url, policy.resources["TWIN"].speed_up) == ("http://10.0.0.5:8000", 100.0)


def test_a_file_indented_as_a_whole_reads_the_same() -> None:
    indented = "".join(f"    {line}\n" for line in ISSUE_EXAMPLE.splitlines())
    assert parse(indented) == parse(ISSUE_EXAMPLE)


def test_keys_words_and_headings_are_found_whatever_their_case() -> None:
    policy = parse("[QPUD]\nauthtype = MUNGE\n[Queue a]\npreemptMODE = off\nMaxShots = unlimited\n")
    assert (policy.daemon.auth_type, policy.queues["a"].preempt_mode) == (AuthType.MUNGE, PreemptMode.OFF)


def test_comments_stand_alone_or_after_a_blank() -> None:
    text = "# a\n[qpud] # b\nAdminUsers = root, a#b ; c\n; d\nLogLevel = debug\t# e\n"
    assert (parse(text).daemon.admin_users, parse(text).daemon.log_level) == (("root", "a#b"), "debug")


def test_an_indented_line_continues_the_list_even_after_a_comment() -> None:
    assert parse("[qpud]\nAdminUsers = root,\n    # operators\n    qops\n").daemon.admin_users == ("root", "qops")


def test_a_queue_named_like_a_default_starts_from_it() -> None:
    assert parse("[queue production]\nMaxShots = 5\n").queues["production"].priority_tier == 100


def test_with_any_queue_in_the_file_only_those_exist() -> None:
    policy = parse("[queue a]\n")
    assert (list(policy.queues), list(policy.resources)) == (["a"], ["FRESNEL", "EMU_MPS"])


def test_with_any_resource_in_the_file_only_those_exist() -> None:
    assert list(parse("[resource EMU_MPS]\n").resources) == ["EMU_MPS"]


def test_a_default_resource_with_another_driver_starts_afresh() -> None:
    resource = parse("[resource FRESNEL]\nDriver = emulator\n").resources["FRESNEL"]
    assert (resource.driver, resource.name) == (DriverKind.EMULATOR, "FRESNEL")


def test_unlimited_is_a_hundred_years_or_no_limit() -> None:
    policy = parse("[qpud]\nSessionIdleTimeout = UNLIMITED\n[queue a]\nMaxShots = UNLIMITED\n")
    assert (policy.daemon.session_idle_timeout, policy.queues["a"].max_shots) == (UNLIMITED_SECONDS, None)


def test_an_empty_value_means_nothing_where_nothing_is_possible() -> None:
    policy = parse("[qpud]\nSocketGroup =\nAdminUsers =\n")
    assert (policy.daemon.socket_group, policy.daemon.admin_users) == (None, ())


def test_the_default_queue_is_the_lowest_tier_unless_named() -> None:
    assert (parse("").default_queue, parse("[qpud]\nDefaultQueue = test\n").default_queue) == ("development", "test")


# -- mistakes


def test_a_mistake_names_file_line_section_key_value_allowed_and_nearest() -> None:
    found = only_mistake("[qpud]\n\nAuthType = mung\n")
    assert found == Mistake(
        source="q.conf",
        line=3,
        section="qpud",
        key="AuthType",
        value="mung",
        problem="is unknown",
        allowed="none or munge",
        nearest="munge",
    )
    assert str(found) == "q.conf:3: [qpud] AuthType = mung: is unknown; did you mean munge? (allowed: none or munge)"


def test_every_mistake_comes_at_once_in_the_order_of_the_file() -> None:
    text = "[qpud]\nAuthType = x\nNope = 1\n[queue a]\nPriorityTier = -1\n[resource r]\nDriver = emulator\nUrl = http://h\n"
    assert [found.line for found in mistakes_of(text)] == [2, 3, 5, 8]


def test_the_error_is_invalid_and_counts_the_mistakes() -> None:
    with pytest.raises(
        Invalid, match=r"^q\.conf has 2 mistakes, `qpud check q\.conf` lists them, the first: q\.conf:2: "
    ):
        parse("[qpud]\nA = 1\nB = 2\n", "q.conf")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("[qpud]\nSliceSecond = 1\n", 2, "unknown key"),
        ("[qpud]\nSliceSeconds = 1\n", 2, r"belongs into a section \[queue NAME\]"),
        ("[queue a]\nDriver = emulator\n", 2, r"belongs into a section \[resource NAME\]"),
        ("[qpud]\nLogLevel = info\nLOGLEVEL = debug\n", 3, "stands here and in line 2"),
        ("[qpud]\n[queue a]\n[qpud]\n", 3, "stands here and in line 1"),
        ("[queue a]\n[queue a]\n", 2, "stands here and in line 1"),
        ("[qued a]\n", 1, "unknown section"),
        ("[queue]\n", 1, "lacks a name"),
        ("[qpud x]\n", 1, "no name of its own"),
        ("[queue a b]\n", 1, "is no name"),
        ("[queue ../a]\n", 1, "is no name"),
        ("[qpud\n", 1, "no section heading"),
        ("Listen = unix:/a\n", 1, "before the first section"),
        ("[qpud]\nListen unix:/a\n", 2, "cannot be read"),
        ("[qpud]\nLogLevel = in\0fo\n", 2, "control character"),
        ("[qpud]\nStateSaveLocation = /a\n  LogLevel = debug\n", 3, "start it in the first column"),
        ("[qpud]\nStateSaveLocation = /a\n  [queue x]\n", 3, "start it in the first column"),
        ("[qpud]\nStateSaveLocation = a\n", 2, "no absolute path"),
        ("[qpud]\nLogLevel =\n", 2, "lacks a value"),
        ("[qpud]\nListen =\n", 2, "names no address"),
        ("[qpud]\nListen = unix:a, ftp://b\n", 2, "unix:a is no absolute path; ftp://b is no address to listen on"),
        ("[qpud]\nListen = unix:/a, unix:/a\n", 2, "twice"),
        ("[qpud]\nListen = unix:/a,,unix:/b\n", 2, "lacks a value"),
        ("[qpud]\nSocketMode = 0460\n", 2, "is below 0600"),
        ("[qpud]\nMaxBodySize = 1\n", 2, "is below 1K"),
        ("[qpud]\nValidationWait = UNLIMITED\n", 2, "is no duration"),
        ("[qpud]\nValidationWait = 60\n", 2, r"is above ValidationTimeout = 30"),
        ("[qpud]\nDefaultQueue = prodution\n", 2, "no such queue"),
        ("[qpud]\nDefaultResource = X\n", 2, "no such resource"),
        ("[queue a]\nPriorityTier = 1000001\n", 2, "is above 1000000"),
        ("[queue a]\nPriorityTier = 1.5\n", 2, "is no integer"),
        ("[queue a]\nSliceSeconds = 0\n", 2, "is not above 0"),
        ("[queue a]\nMaxShots = 0\n", 2, "is below 1"),
        (
            "[queue a]\nPreemptMode = SUSPEND\n",
            2,
            "not supported, this version supports OFF, SLICE, REQUEUE and CANCEL",
        ),
        ("[queue a]\nPreemptMode = gang\n", 2, "not supported, this version supports OFF, SLICE, REQUEUE and CANCEL"),
        ("[queue a]\nPartitions = p\n[queue b]\nPartitions = q, p\n", 4, "p already feeds queue a"),
        ("[queue a]\nPartitions = b\n[queue b]\n", 3, "b already feeds queue a"),
        ("[resource r]\n", 1, "lacks its Driver"),
        ("[resource r]\nDriver = qiskit\n", 2, "is unknown"),
        ("[resource r]\nDriver = simulated\nShotRate = 0\n", 3, "is not above 0"),
        ("[resource r]\nDriver = emulator\nUrl = http://h\n", 3, "one with Driver = pasqal-qpu or pasqal-cloud has"),
        ("[resource EMU_MPS]\nSpeedUp = 2\n", 2, "Driver = emulator has no such key, one with Driver = simulated has"),
        ("[resource r]\nDriver = pasqal-qpu\n", 1, "is missing, Driver = pasqal-qpu needs it"),
        (
            "[resource r]\nDriver = emulator\nLauncher = slurm\nLauncherOptions = -J mine\n",
            4,
            "holds -J, and qpud finds its Slurm jobs by the name",
        ),
        (
            "[resource r]\nDriver = emulator\nLauncher = slurm\nLauncherOptions = --ntasks=4\n",
            4,
            "holds --ntasks, and a worker is one task",
        ),
        (
            "[resource r]\nDriver = emulator\nLauncher = slurm\nLauncherOptions = -p gpu --pty\n",
            4,
            "holds --pty, and the worker speaks to qpud",
        ),
        (
            "[resource r]\nDriver = emulator\nLauncher = slurm\nLauncherOptions = gpu\n",
            4,
            "begins with 'gpu', which is no option of srun",
        ),
        (
            "[resource r]\nDriver = emulator\nLauncher = slurm\nLauncherOptions = -p 'gpu\n",
            4,
            "is not quoted as for a shell",
        ),
        ("[resource r]\nDriver = emulator\nLauncher = slurm\nWorkers = 0\n", 4, "is below 1"),
        ("[resource r]\nDriver = emulator\nLauncher = ssh\n", 3, "is unknown"),
        ("[resource r]\nDriver = simulated\nLauncher = slurm\n", 3, "Driver = emulator has"),
        ("[resource r]\nDriver = pasqal-qpu\nUrl =\n", 3, "is empty, Driver = pasqal-qpu needs it"),
        ("[resource r]\nDriver = qrmi\n", 1, "is missing, Driver = qrmi needs it"),
        ("[resource r]\nDriver = qrmi\nQrmiType = ibm\n", 3, "is unknown"),
        (CLOUD + "ProjectId = p\nAuthUrl = http://h\n", 1, "is missing, Driver = pasqal-cloud needs it"),
        (CLOUD + "TokenFile = /t\nProjectId =\n", 6, "is empty, Driver = pasqal-cloud needs it"),
        ("[resource r]\nDriver = pasqal-qpu\nUrl = h:1\n", 3, "is no http"),
        ("[resource r]\nDriver = pasqal-qpu\nUrl = http://h\nPollMin = 60\n", 4, "is above PollMax = 30"),
    ],
)
def test_one_mistake_gives_one_line_at_its_place(text: str, line: int, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse(text, "q.conf")
    assert [found.line for found in caught.value.mistakes] == [line]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("[qpud]\nListne = unix:/a\n", "Listen"),
        ("[queue a]\nprioritytear = 1\n", "PriorityTier"),
        ("[reource r]\nDriver = emulator\n", "resource"),
        ("[qpud]\nDefaultQueue = prodution\n", "production"),
        ("[resource r]\nDriver = emulater\n", "emulator"),
        ("[qpud]\nFlavour = vanilla\n", ""),
        ("[qued a]\n", "queue"),
    ],
)
def test_the_nearest_valid_name_is_offered(text: str, nearest: str) -> None:
    assert only_mistake(text).nearest == nearest


def test_a_misspelt_section_is_still_read_for_more_mistakes() -> None:
    assert [found.line for found in mistakes_of("[quue a]\nPriorityTier = x\n")] == [1, 2]


def test_a_bad_value_hides_no_other_mistake_of_its_section() -> None:
    text = "[resource r]\nDriver = nope\nUrl = x\n[resource s]\nDriver = emulator\nSeed = -1\n"
    assert [found.line for found in mistakes_of(text)] == [2, 6]


def test_passwords_do_not_reach_messages() -> None:
    assert "secret" not in str(only_mistake("[resource r]\nDriver = emulator\nUrl = http://u:secret@h\n"))


def test_long_values_are_cut_in_messages() -> None:
    assert len(only_mistake(f"[qpud]\nLogLevel = {'x' * 5000}\n").value) <= 80


@given(st.text())
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    with_default_or_refused(text)


@given(st.lists(st.sampled_from(ISSUE_EXAMPLE.splitlines()), max_size=30).map("\n".join), st.text(max_size=10))
def test_no_shuffled_file_does_worse_than_being_refused(text: str, junk: str) -> None:
    middle = len(text) // 2
    with_default_or_refused(text[:middle] + junk + text[middle:])


def with_default_or_refused(text: str) -> Policy | None:
    try:
        return parse(text)
    except ConfigError as error:
        assert error.mistakes
        return None


# -- files


def test_a_file_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "q.conf").write_text(ISSUE_EXAMPLE)
    assert load(tmp_path / "q.conf") == parse(ISSUE_EXAMPLE)


def test_mistakes_name_the_file_loaded(tmp_path: Path) -> None:
    (tmp_path / "q.conf").write_text("[qpud]\nX = 1\n")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/q\.conf:2: "):
        load(tmp_path / "q.conf")


def test_a_missing_file_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"q\.conf: cannot be read: no such file"):
        load(tmp_path / "q.conf")


def test_a_file_that_is_no_text_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "q.conf").write_bytes(b"[qpud]\nLogLevel = \xff\n")
    with pytest.raises(ConfigError, match=r"q\.conf:2: is not UTF-8 text"):
        load(tmp_path / "q.conf")


@pytest.mark.parametrize("size", [(1 << 20) + 1, 1 << 40])
def test_a_huge_file_is_a_mistake_and_not_read_to_its_end(tmp_path: Path, size: int) -> None:
    with (tmp_path / "q.conf").open("wb") as file:
        file.truncate(size)  # as long, and empty on the disk
    with pytest.raises(ConfigError, match="has more than the 1048576 bytes that a policy file may have"):
        load(tmp_path / "q.conf")


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "q.conf").write_bytes(b"#" * (1 << 20))
    assert load(tmp_path / "q.conf") == parse("")


# -- warnings


def test_the_defaults_give_no_warning() -> None:
    assert warnings(default_policy()) == []


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[qpud]\nListen = unix:/a, http://0.0.0.0:80\n", "can be reached from other machines while AuthType is none"),
        ("[qpud]\nListen = http://127.0.0.1:80\n", "nobody can administer"),
        ("[qpud]\nSocketMode = 0666\n", "lets every user of this machine in"),
        ("[qpud]\nSlurmLookup = yes\n", "who names no Slurm job chooses queue and share himself"),
        ("[resource a-b]\nDriver = emulator\n", "cannot be set up from a shell"),
        ("[resource r]\nDriver = pasqal-qpu\nUrl = http://u:p@h\n", "holds a password"),
        (
            "[resource A]\nDriver = emulator\nCloudName = X\n[resource B]\nDriver = emulator\nCloudName = x\n",
            "CloudName x is that of A and of B",
        ),
        ("[resource r]\nDriver = emulator\nWorkers = 2\n", "Workers of resource r has no effect"),
        ("[qpud]\nSlurmPriority = yes\n", "SlurmPriority does nothing without SlurmLookup = yes."),
        ("[queue a]\nQos = urgent\n", "Qos of queue a does nothing without SlurmLookup = yes."),
    ],
)
def test_what_is_probably_not_meant_is_told(text: str, warning: str) -> None:
    (found,) = warnings(parse(text))
    assert warning in found


def test_tcp_for_other_machines_with_munge_gives_no_warning() -> None:
    assert warnings(parse("[qpud]\nListen = unix:/a, http://0.0.0.0:80\nAuthType = munge\n")) == []


def test_slurm_control_needs_slurm_lookup() -> None:
    with pytest.raises(ConfigError, match="SlurmControl = yes: needs SlurmLookup = yes"):
        parse("[qpud]\nSlurmControl = yes\n")


@pytest.mark.parametrize("value", ["qpu", "qpu:0", "qpu=10", "-L:3"])
def test_licences_have_a_number(value: str) -> None:
    with pytest.raises(ConfigError, match="is no licence with its number"):
        parse(f"[resource FRESNEL]\nSlurmLicenses = {value}\n")


@pytest.mark.parametrize("value", ["-a", "a=b"])
def test_partitions_have_names(value: str) -> None:
    with pytest.raises(ConfigError, match="is no partition's name"):
        parse(f"[resource FRESNEL]\nSlurmPartitions = {value}\n")


def test_what_shows_in_slurm_without_slurm_control_is_warned_of() -> None:
    text = "[resource FRESNEL]\nSlurmLicenses = qpu:10\n"
    sentence = "SlurmLicenses and SlurmPartitions of resource FRESNEL do nothing without SlurmControl = yes."
    assert sentence in warnings(parse(text))
    assert sentence not in warnings(parse("[qpud]\nSlurmLookup = yes\nSlurmControl = yes\n" + text))


def test_a_qos_feeds_one_queue() -> None:
    text = "[queue a]\nQos = urgent\n[queue b]\nQos = normal, urgent\n"
    with pytest.raises(ConfigError, match="QOS urgent already feeds queue a"):
        parse(text)
