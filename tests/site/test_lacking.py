import shutil
from pathlib import Path

import pytest

from qpud.core.policy import DEFAULT_QUEUES, DaemonPolicy, Policy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind, Launcher
from qpud.site.lacking import lacking


def policy_with(*resources: ResourcePolicy, **settings: object) -> Policy:
    daemon = DaemonPolicy(**settings)  # type: ignore[arg-type]
    return Policy(daemon=daemon, queues=DEFAULT_QUEUES, resources={one.name: one for one in resources})


def test_a_policy_that_fits_the_machine_lacks_nothing(tmp_path: Path) -> None:
    (tmp_path / "python").touch()
    assert lacking(policy_with(worker_python=tmp_path / "python", admin_users=("root",))) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"admin_users": ("root", "nobody-at-all")}, "AdminUsers names nobody-at-all"),
        ({"socket_group": "no-such-group"}, "SocketGroup = no-such-group"),
        ({"worker_python": Path("/nowhere/python")}, "WorkerPython = /nowhere/python"),
        ({"slurm_lookup": True, "slurm_conf": Path("/nowhere/slurm.conf")}, "SlurmConf = /nowhere/slurm.conf"),
        ({"slurm_lookup": True, "slurm_rest_socket": Path("/nowhere/socket")}, "SlurmRestSocket = /nowhere/socket"),
    ],
)
def test_what_the_machine_lacks_is_named(
    settings: dict[str, object], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    [found] = lacking(policy_with(**settings))
    assert found.startswith(sentence)


def test_a_missing_token_file_is_named_with_its_resource() -> None:
    qpu = ResourcePolicy(name="QPU", driver=DriverKind.PASQAL_QPU, url="http://qpu", token_file=Path("/nowhere/token"))
    [found] = lacking(policy_with(qpu))
    assert found == "TokenFile = /nowhere/token of resource QPU: there is no such file."


def test_slurms_programs_are_missed_only_where_slurm_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert lacking(policy_with()) == []
    found = lacking(policy_with(slurm_lookup=True))
    assert [sentence.split("no ")[1] for sentence in found] == ["squeue on its PATH.", "scontrol on its PATH."]


def test_srun_is_missed_where_workers_are_slurm_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = lacking(policy_with(ResourcePolicy(name="EMU", driver=DriverKind.EMULATOR, launcher=Launcher.SLURM)))
    assert found == [
        f"Launcher = slurm of resource EMU: this machine has no {program} on its PATH."
        for program in ("srun", "squeue", "scancel")
    ]
