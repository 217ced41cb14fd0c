"""One method per verb a client can ask for. `Service` is what every HTTP dialect calls."""

from __future__ import annotations

from qpud.service.accounting import AccountingVerbs
from qpud.service.batches import BatchVerbs
from qpud.service.reservations import ReservationVerbs
from qpud.service.resources import ResourceVerbs
from qpud.service.sessions import SessionVerbs
from qpud.service.shares import ShareVerbs
from qpud.service.steering import SteeringVerbs

__all__ = ["Service"]


class Service(BatchVerbs, SteeringVerbs, SessionVerbs, ResourceVerbs, ReservationVerbs, AccountingVerbs, ShareVerbs):
    """The verbs. Each takes the caller first, decides whether he may, and raises a QpudError otherwise.

    Job references are the integer id or the uuid, as text. Session references are the session id or a token.
    The verbs live in one file for each noun; this class only joins them.
    """
