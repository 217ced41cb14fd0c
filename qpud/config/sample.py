"""The commented sample file: `python -m qpud.config.sample > etc/qpud.conf`.

Every key stands in it once with its help, as a comment with its default, so that a copied file keeps following the
defaults of later versions. A test proves that etc/qpud.conf is this text and that it parses to the defaults.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import msgspec

from qpud.config.show import sections_of, written_settings
from qpud.core.policy import AccountPolicy, Policy, UserPolicy, default_policy
from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind, QrmiType

_INTRODUCTION = """\
# qpud.conf: the policy of qpud, the scheduler between Slurm and a quantum processor.
#
# Check it with `qpud check qpud.conf`, load it with `qpud reconfigure` (or SIGHUP).
# A key commented out has the value shown. Keys are found whatever their case.
# Durations: seconds (30, 0.2), MM:SS, H:MM:SS, D-HH[:MM[:SS]], some UNLIMITED. Sizes: bytes, K, M, G, T.
# A blank and # or ; start a comment. An indented line continues the list above it.
"""

_QUEUES = """\
# Queues: classes of service. With any [queue NAME] in the file, only the queues of the file exist;
# one named production, test or development starts from the values shown here.
"""

_RESOURCES = """\
# Resources: what --qpu=NAME means. With any [resource NAME] in the file, only the resources of the file exist;
# one named FRESNEL or EMU_MPS starts from the values shown here, unless it has another Driver.
# A key belongs to the drivers under which it stands.
"""

_ACCOUNTS = """\
# Accounts and users: shares and limits over all queues; those without a section have one share and no limit.
"""

_QPU = ResourcePolicy(name="QPU", driver=DriverKind.PASQAL_QPU, url="http://10.0.0.5:8000")
_CLOUD = ResourcePolicy(
    name="CLOUD",
    driver=DriverKind.PASQAL_CLOUD,
    url="https://apis.pasqal.cloud/core-fast",
    auth_url="https://pasqal.eu.auth0.com/oauth/token",
    credentials_file=Path("/etc/qpud/pasqal-cloud"),
    project_id="00000000-0000-0000-0000-000000000000",
    device_type="FRESNEL",
)
_QRMI = ResourcePolicy(
    name="ibm_torino",
    driver=DriverKind.QRMI,
    qrmi_type=QrmiType.IBM_QUANTUM_COMPUTE_SERVICE,
    qrmi_environment_file=Path("/etc/qpud/ibm_torino"),
)
_REAL = (_QPU, _CLOUD, _QRMI)
_ACCOUNT = AccountPolicy(name="chem")
_USER = UserPolicy(name="alice")
_EXAMPLES = (*_REAL, _ACCOUNT, _USER)


def sample() -> str:
    """The text of etc/qpud.conf."""
    policy = default_policy()
    explained: set[str] = set()
    blocks = [_INTRODUCTION]
    for title, struct in sections_of(_with_examples(policy)):
        blocks.append(_preface(title, policy) + _block(title, struct, explained))
    return "\n".join(blocks)


def _with_examples(policy: Policy) -> Policy:
    return msgspec.structs.replace(
        policy,
        resources={**policy.resources, **{one.name: one for one in _REAL}},
        accounts={_ACCOUNT.name: _ACCOUNT},
        users={_USER.name: _USER},
    )


def _preface(title: str, policy: Policy) -> str:
    """The introduction above the first section of a kind."""
    if title == f"queue {next(iter(policy.queues))}":
        return f"{_QUEUES}\n"
    if title == f"resource {next(iter(policy.resources))}":
        return f"{_RESOURCES}\n"
    if title == f"account {_ACCOUNT.name}":
        return f"{_ACCOUNTS}\n"
    return ""


def _block(title: str, struct: msgspec.Struct, explained: set[str]) -> str:
    """One section; a key is explained where it appears first."""
    kind = type(struct).__name__
    heading = f"[{title}]" if struct not in _EXAMPLES else f"#[{title}]"
    lines = [heading]
    for setting, text in written_settings(struct):
        if f"{kind}.{setting.name}" not in explained:
            explained.add(f"{kind}.{setting.name}")
            lines.extend(textwrap.wrap(setting.key.help, 110, initial_indent="# ", subsequent_indent="# "))
        lines.append(f"#{setting.name} = {text}".rstrip())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(sample())
