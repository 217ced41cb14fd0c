"""Which resource is meant: one rule for every verb, and for the shims (sdk_shims/README.md).

The option --qpu, QPUD_QPU, what QRMI's or Slurm's plugin set, `qpu` of the user's file, the daemon's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from qpud.cli import userfile

QPU_DEFAULTS = "else QPUD_QPU, QRMI's or Slurm's variables, ~/.config/qpud.ini, the daemon's default"
OPTION = "--qpu"
BATCH_VARIABLES = ("QRMI_JOB_QPU_RESOURCES", "SLURM_JOB_QPU_RESOURCES")


class Choice(NamedTuple):
    """The resources that are meant, the first before all; none leaves it to the daemon."""

    names: tuple[str, ...]
    named_by: str  # "the daemon's default" without names

    @property
    def name(self) -> str | None:
        """The one that counts where there can be only one."""
        return self.names[0] if self.names else None


def chosen(asked: str | None, environ: Mapping[str, str], settings: userfile.Settings | None = None) -> Choice:
    """Choose.

    Args:
        asked: The option --qpu, NAME or NAME,NAME.
        environ: The environment.
        settings: The user's file; None reads it, if nothing before it decides.

    Raises:
        Stop: The file has a mistake.
    """
    given = [(OPTION, asked, ","), ("QPUD_QPU", environ.get("QPUD_QPU"), ",")]
    delimiter = environ.get("QRMI_LIST_DELIMITER") or ","
    given += [(variable, environ.get(variable), delimiter) for variable in BATCH_VARIABLES]
    for named_by, text, separator in given:
        if names := _names(text, separator):
            return Choice(names, named_by)
    wanted = (userfile.read(environ) if settings is None else settings).get((userfile.DEFAULT, "qpu"))
    return Choice(_names(wanted.value, ","), wanted.source) if wanted else Choice((), "the daemon's default")


def _names(text: str | None, separator: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in (text or "").split(separator) if name.strip()))
