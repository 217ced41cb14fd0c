"""The caller's munge credential: on TCP without a session token it is all a daemon may ask for."""

from __future__ import annotations

from qpud.core.errors import QpudError

TTL_SECONDS = 30  # long enough for clocks that differ a little, short for whoever might read it


def munge_credential() -> str | None:
    """A fresh credential of this user, or None where munge is not installed or does not run."""
    # Imported late: ctypes and libmunge are for the few calls that need them.
    from qpud.site.munge import Munge

    try:
        with Munge() as munge:
            return munge.encode(ttl=TTL_SECONDS)
    except QpudError:
        return None
