"""One worker on a node of the cluster: a Slurm job that lives once, from srun's start to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from qpud.core.slurm import WorkerJob
from qpud.core.verbs import WorkerView
from qpud.drivers.base import SlurmProtocol
from qpud.drivers.launch import Launched
from qpud.drivers.launch_slurm import launch_by_slurm
from qpud.drivers.workers import DIED, Workers

JOB_MEMORY_UNUSED = 1 << 30  # of validators, of which a node has none


class Berth(Workers):
    """A worker, and what is known of its Slurm job.

    Attributes:
        name: Of the Slurm job.
        job_id: The job it emulates now; None if none.
        idle_since: Monotonic seconds since it had nothing to do.
        place: Slurm job and node, once it runs there.
        seen: What squeue said of it last, while it waits.

    Args:
        slurm: Starts it.
        name: See above.
        options: Of srun.
        python: The interpreter on the node.
        changed: Called when it is ready, and when it has ended.
    """

    def __init__(
        self, slurm: SlurmProtocol, name: str, options: list[str], python: Path, changed: Callable[[], None]
    ) -> None:
        super().__init__(python, validation_memory=JOB_MEMORY_UNUSED, validation_timeout=60.0)
        self._settings = msgspec.structs.replace(self._settings, validators=0)  # verdicts are the access node's
        self._slurm = slurm
        self._options = options
        self._changed = changed
        self.name = name
        self.job_id: int | None = None
        self.idle_since = asyncio.get_running_loop().time()
        self.place: dict[str, str] = {}
        self.seen: WorkerJob | None = None
        self.has_been_ready = False
        self.is_over = False

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.ready.is_set()

    @property
    def is_free(self) -> bool:
        """Whether it could emulate now."""
        return self.is_ready and self.job_id is None

    @property
    def is_waiting(self) -> bool:
        """Whether it does not run yet."""
        return not self.place and not self.is_over

    @property
    def is_queued(self) -> bool:
        """Whether Slurm has taken its job and has no node for it yet."""
        return self.is_waiting and self.seen is not None and self.seen.state == "PENDING"

    @property
    def slurm_job(self) -> str:
        """The number of its Slurm job; "" until that is known."""
        return self.place.get("slurm_job") or (str(self.seen.id) if self.seen else "")

    @property
    def node(self) -> str:
        """Where it runs; "" until it does."""
        return self.place.get("node", "")

    @property
    def last_words(self) -> str:
        """Why it ended, in one sentence."""
        return self._failure if self._failure != DIED else f"Slurm job {self.slurm_job} on node {self.node} ended"

    @property
    def prospects(self) -> str:
        """Where its start has got to, for who waits for it."""
        if self.place:
            return f"its worker starts on node {self.node} (Slurm job {self.slurm_job})"
        if self.seen is None:
            return "its worker is being submitted to Slurm"
        return f"Slurm job {self.seen.id} is to start a worker, {self.seen.state} ({self.seen.reason})"

    @property
    def view(self) -> WorkerView:
        """It, as everybody may see it."""
        state = "idle" if self.is_free else "busy" if self.is_ready else "starting"
        waits = self.seen is not None and not self.place
        return WorkerView(
            slurm_job_id=self.slurm_job,
            state=self.seen.state if self.seen is not None and waits else state,
            reason=self.seen.reason if self.seen is not None and waits else "",
            node=self.node,
            job_id=self.job_id,
        )

    async def _keep_running(self) -> None:
        """One life only: whether another worker is wanted, and when, is the pool's to say."""
        try:
            await self._live()
        finally:
            self.is_over = True
            self._changed()

    async def _launch(self) -> Launched:
        launched = await launch_by_slurm(self._slurm, self.name, self._options, self._python, self._settings)
        self.place = launched.place
        return launched

    def _settle(self, _failed_to_start: bool, /) -> None:
        """After its end everybody who asks is told at once: there is no next parent."""
        self._settled.set()

    def _became_ready(self) -> None:
        self.has_been_ready = True
        self.idle_since = asyncio.get_running_loop().time()
        self._changed()
