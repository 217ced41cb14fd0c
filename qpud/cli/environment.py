"""The environment in which QRMI, Pulser's QRMI connection, CUDA-Q and the shims find the daemon and their session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from qpud.cli.client import segment

LIST_SEPARATOR = ","
PROJECT = "qpud"
UNLIMITED_SECONDS = 4294967295  # what the SPANK plugin of QRMI writes for a job without a time limit


class Ticket(NamedTuple):
    """What a command needs to reach its resources in one session."""

    resources: Mapping[str, str]  # name → prefix of its paths; "" for the default resource. The first is QPUD_QPU
    url: str  # of the daemon, without prefix
    socket: str | None
    token: str
    batch_job: str  # what QRMI's acquire() names, to get this very session
    user_id: int


class Pass(NamedTuple):
    """The same where the token lies in a file: a Slurm job's environment is inherited, kept by Slurm, and logged."""

    ticket: Ticket  # its token is not used
    session: str  # its id, which is no secret
    token_file: str


def prefix_of(resource: str, default_resource: str) -> str:
    """What stands before the paths of a resource."""
    return "" if resource == default_resource else f"/r/{segment(resource)}"


def environment(ticket: Ticket, inherited: Mapping[str, str]) -> dict[str, str]:
    """What a command reads; the token is in it, but never on a command line.

    QRMI has munge or nothing to prove its caller; as user:password it sends the token as Basic.
    """
    scheme, _, rest = ticket.url.partition("://")
    proven = f"{scheme}://qpud:{segment(ticket.token)}@{rest}"
    return {
        "QPUD_TOKEN": ticket.token,
        **_shared(ticket, proven, ticket.token, inherited),
        "QPUD_MYQLM_URI": f"{proven}{next(iter(ticket.resources.values()))}/api",
        **_cloud(ticket),
    }


def _cloud(ticket: Ticket) -> dict[str, str]:
    """QRMI's cloud resource, the only one that CUDA-Q 0.16 knows; it takes the project as it comes."""
    found = {}
    for name, prefix in ticket.resources.items():
        found[f"{name}_QRMI_PASQAL_CLOUD_BASE_URL"] = ticket.url + prefix
        found[f"{name}_QRMI_PASQAL_CLOUD_AUTH_TOKEN"] = ticket.token
        found[f"{name}_QRMI_PASQAL_CLOUD_PROJECT_ID"] = PROJECT
    return found


def environment_of_pass(given: Pass) -> dict[str, str]:
    """What a Slurm job reads: no secret. QRMI proves its caller by munge and names the session by its id."""
    return {"QPUD_TOKEN_FILE": given.token_file, **_shared(given.ticket, given.ticket.url, given.session, {})}


def _shared(ticket: Ticket, url: str, acquired: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """Names are those of QRMI 0.26 and its SPANK plugin.

    The list variables exist under both prefixes because older clients read only SLURM_JOB_*. NO_PROXY, because QRMI
    would send credentials for 127.0.0.1 to a proxy.
    """
    names = list(ticket.resources)
    lists = {"QPU_RESOURCES": _list(names), "QPU_TYPES": _list(["pasqal-local"] * len(names))}
    found = {
        **({"QPUD_SOCKET": ticket.socket} if ticket.socket else {}),
        "QPUD_URL": ticket.url,
        "QPUD_QPU": names[0],
        **{f"{prefix}_JOB_{key}": value for prefix in ("QRMI", "SLURM") for key, value in lists.items()},
        "QRMI_JOB_UID": str(ticket.user_id),
        "QRMI_JOB_ID": ticket.batch_job,
        **_without_proxy(ticket.url, inherited),
    }
    for name, prefix in ticket.resources.items():
        found[f"{name}_QRMI_WARDEN_URL"] = url + prefix
        found[f"{name}_QRMI_JOB_ACQUISITION_TOKEN"] = acquired
        found[f"{name}_QRMI_JOB_TIMEOUT_SECONDS"] = str(UNLIMITED_SECONDS)
    return found


def _list(words: Sequence[str]) -> str:
    return LIST_SEPARATOR.join(words)


def _without_proxy(url: str, inherited: Mapping[str, str]) -> dict[str, str]:
    hosts = ["127.0.0.1", "localhost", urlsplit(url).hostname or ""]
    both = {}
    for variable in ("NO_PROXY", "no_proxy"):
        given = inherited.get(variable, "").split(LIST_SEPARATOR)
        kept = dict.fromkeys(host.strip() for host in [*given, *hosts] if host.strip())
        both[variable] = _list(list(kept))
    return both
