"""A real Slurm on this host: munged, slurmctld and two slurmd of its own, in a folder of its own (facts/SLURM.md §1).

    with running_cluster() as cluster:
        job = cluster.submit("sleep 60", "-p", "production", "-L", "qpu:3")
        cluster.wait(job, "RUNNING")

Jobs belong to ordinary users and run in /; every daemon is a child of this process and ends with the `with`.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.site.munged import running_munged

USER = "nobody"
"""Who submits, unless told otherwise."""
STRANGER = "games"
"""Another ordinary user."""
PATIENCE_SECONDS = 120.0
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "munged", "setpriv")
PARTITIONS = ("production", "test", "development")
NODES = ("qn1", "qn2")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"

# No cgroups, no slurmdbd, no real hardware; nodes claim more CPUs than the host has. Timers fail fast. A requeued job
# waits for cred_expire after its epilog (two minutes by default).
CONF = """\
ClusterName=qpudtest
SlurmctldHost={host}(127.0.0.1)
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=10
SlurmctldPort={controller}
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmctldDebug=info
StateSaveLocation={folder}/state
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmdDebug=info
SlurmdSpoolDir={folder}/spool/%n
SlurmdParameters=config_overrides
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=qpu
Licenses=qpu:10
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=10000,bf_interval=1,batch_sched_delay=0,default_queue_depth=100
PriorityType=priority/multifactor
PriorityDecayHalfLife=0
PriorityUsageResetPeriod=NONE
PriorityWeightPartition=10000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
KillWait=2
MinJobAge=300
CompleteWait=0
UnkillableStepTimeout=60
MessageTimeout=10
NodeName=DEFAULT CPUs=16 RealMemory=4000 Gres=qpu:10 State=UNKNOWN
NodeName=qn1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first}
NodeName=qn2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second}
PartitionName=DEFAULT Nodes=qn[1-2] MaxTime=01:00:00 DefaultTime=00:05:00 State=UP
PartitionName=production PriorityTier=100 PriorityJobFactor=100 PreemptMode=OFF
PartitionName=test PriorityTier=50 PriorityJobFactor=50 PreemptMode=REQUEUE
PartitionName=development PriorityTier=10 PriorityJobFactor=10 PreemptMode=REQUEUE Default=YES
{lines}
"""


class Cluster:
    """A running cluster.

    Attributes:
        folder: Everybody may enter it; `out` in it is everybody's, for what jobs write.
        conf: Its slurm.conf: SLURM_CONF for whoever asks this cluster.
        munge_socket: Its munged, for QPUD_MUNGE_SOCKET.
        processes: Its daemons by name: slurmctld, qn1, qn2.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.munge_socket = folder / "munge" / "sock"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": f"{os.environ.get('PATH', '')}:{PATH}"}

    def run(self, *command: str, seconds: float = 60.0) -> str:
        """A command as root, as in `run("scontrol", "ping")`; its standard output."""
        done = self.attempt(*command, seconds=seconds)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout} {done.stderr}"
        return done.stdout.strip()

    def attempt(self, *command: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The same, whatever its exit code."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=seconds)

    def run_as(
        self,
        user: str,
        *command: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        seconds: float = 60.0,
    ) -> str:
        """A command as an ordinary user with a clean environment; its standard output."""
        done = self.try_as(user, *command, env=env, stdin=stdin, seconds=seconds)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout} {done.stderr}"
        return done.stdout.strip()

    def try_as(
        self,
        user: str,
        *command: str,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """The same, whatever its exit code."""
        number = pwd.getpwnam(user)
        become = ["setpriv", f"--reuid={number.pw_uid}", f"--regid={number.pw_gid}", "--clear-groups"]
        mark = {name: value for name, value in os.environ.items() if name == "QPUD_TEST_RUN"}
        clean = {"PATH": PATH, "SLURM_CONF": str(self.conf), "HOME": "/", **mark, **(env or {})}
        return subprocess.run(
            [*become, *command], env=clean, cwd="/", input=stdin, capture_output=True, text=True, timeout=seconds
        )

    def submit(self, body: str, *options: str, user: str = USER, env: Mapping[str, str] | None = None) -> int:
        """`sbatch` as an ordinary user, the body being lines of sh; the job's id."""
        where = ("--parsable", "--chdir=/", f"--output={self.folder}/out/%j.txt")
        answer = self.run_as(user, "sbatch", *where, *options, env=env, stdin=f"#!/bin/sh\n{body}\n")
        return int(answer.split(";")[0])

    def start(self, body: str = "sleep 300", *options: str, user: str = USER) -> int:
        """Submit and wait until it runs; the job's id."""
        job = self.submit(body, *options, user=user)
        self.wait(job, "RUNNING")
        return job

    def output(self, job: int) -> str:
        """What a job wrote."""
        return (self.folder / "out" / f"{job}.txt").read_text()

    def state(self, job: int) -> str:
        """Slurm's word for a job's state; "" once Slurm has forgotten it."""
        return self.attempt("squeue", "-h", "-t", "all", "-j", str(job), "-o", "%T").stdout.strip()

    def wait(self, job: int, *states: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until a job is in one of the states; which."""
        until(lambda: self.state(job) in states, f"job {job} to be {' or '.join(states)}", seconds)
        return self.state(job)

    def cancel(self, job: int, *states: str) -> None:
        """`scancel`, and wait until the job has ended."""
        self.run("scancel", str(job))
        self.wait(job, *(states or ("CANCELLED", "COMPLETED", "")))

    def requeue(self, job: int) -> None:
        """Let a running job run a second time; Slurm waits until the credential of its first run has expired."""
        self.run("scontrol", "requeue", str(job))
        self.wait(job, "PENDING")
        self.wait(job, "RUNNING")

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is left: between two tests of one cluster."""
        if jobs := self.run("squeue", "-h", "-o", "%A").split():
            self.run("scancel", *sorted(set(jobs)))
        until(lambda: not self.run("squeue", "-h", "-o", "%A"), "an empty cluster")

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """slurmctld neither runs nor ends (SIGSTOP)."""
        self.processes["slurmctld"].send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.processes["slurmctld"].send_signal(signal.SIGCONT)
            self.wait_up()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """slurmctld is not there; its state is saved, and jobs go on."""
        self.end("slurmctld")
        try:
            yield
        finally:
            self.start_controller()

    def start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D", "-f", str(self.conf))
        self.wait_up()

    def start_node(self, name: str) -> None:
        self._spawn(name, "slurmd", "-D", "-N", name, "-f", str(self.conf))

    def kill_node(self, name: str) -> None:
        """SIGKILL to a slurmd, as if its node had lost power; what it started goes on."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def kill_processes(self, job: int) -> None:
        """SIGKILL to what a job's script started: without cgroups it outlives a killed slurmstepd."""
        words = {f"SLURM_JOB_ID={job}".encode(), f"SLURM_CONF={self.conf}".encode()}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone meanwhile
                if words <= set((entry / "environ").read_bytes().split(b"\0")):
                    os.kill(int(entry.name), signal.SIGKILL)

    def wait_up(self) -> None:
        until(lambda: "is UP" in self.attempt("scontrol", "ping").stdout, "slurmctld")

    def wait_idle(self) -> None:
        until(lambda: self.run("sinfo", "-h", "-p", "test", "-t", "idle", "-o", "%D") == "2", "two idle nodes")

    def end(self, name: str) -> None:
        """End one of the daemons and wait for it."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End everything: jobs first, because slurmstepd outlives slurmd."""
        if "slurmctld" in self.processes:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                for partition in PARTITIONS:  # scontrol takes no list of them
                    self.run("scontrol", "update", f"PartitionName={partition}", "State=DOWN")
                self.cancel_all()
        for name in sorted(self.processes):  # the nodes before the controller
            self.end(name)

    def _spawn(self, name: str, *command: str) -> None:
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )


@contextlib.contextmanager
def running_cluster(*lines: str, prepare: Callable[[Path], None] = lambda _folder: None) -> Iterator[Cluster]:
    """A cluster with two idle nodes; skips the test where Slurm, or root, is missing.

    Args:
        lines: More of slurm.conf; `{folder}` in them is the cluster's folder.
        prepare: Called with that folder before anything starts: for hooks, plugstack.conf, job_submit.lua.
    """
    require_slurm()
    with tempfile.TemporaryDirectory(prefix="qpud-slurm-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        cluster = Cluster(Path(name))
        _lay_out(cluster.folder, lines)
        prepare(cluster.folder)
        stack.enter_context(running_munged(cluster.folder / "munge"))
        stack.callback(cluster.close)
        try:
            _start(cluster)
            yield cluster
        except BaseException:
            for log in sorted((cluster.folder / "log").iterdir()):
                print(f"== {log.name}", log.read_text(errors="replace")[-4000:], sep="\n")
            raise


def require_slurm() -> None:
    """Skip where no cluster can be started."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}") is None]
    if missing:
        pytest.skip(f"a Slurm cluster needs {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster needs root")


def _lay_out(folder: Path, lines: tuple[str, ...]) -> None:
    folder.chmod(0o755)
    for part in ("run", "log", "state", "spool/qn1", "spool/qn2", "out"):
        (folder / part).mkdir(parents=True)
    (folder / "out").chmod(0o1777)
    slurm = pwd.getpwnam("slurm")
    for part in ("run", "log", "state"):
        os.chown(folder / part, slurm.pw_uid, grp.getgrgid(slurm.pw_gid).gr_gid)
    (folder / "plugstack.conf").touch()
    (folder / "gres.conf").write_text("NodeName=qn[1-2] Name=qpu Count=10 Flags=CountOnly\n")
    controller, first, second = free_ports(3)
    more = "\n".join(lines).replace("{folder}", str(folder))
    host = socket.gethostname().split(".")[0]
    text = CONF.format(host=host, folder=folder, controller=controller, first=first, second=second, lines=more)
    (folder / "slurm.conf").write_text(text)


def _start(cluster: Cluster) -> None:
    cluster.start_controller()
    for node in NODES:
        cluster.start_node(node)
    cluster.wait_idle()


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def until(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for what nothing announces: Slurm tells nobody. Raises: TimeoutError."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)
