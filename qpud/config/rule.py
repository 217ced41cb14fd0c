"""A site's own scheduler: the class that `SchedulerType = module:Class` names, or an entry point's name."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect

from qpud.core.errors import Invalid
from qpud.core.order import Rule
from qpud.core.schedulers import BUILT_IN

ENTRY_POINTS = "qpud.schedulers"


def load_rule(scheduler_type: str) -> Rule | None:
    """An instance of the site's rule; None for a built-in scheduler.

    Args:
        scheduler_type: SchedulerType: a built-in name, `module:Class`, or the name of an entry point in the group
            qpud.schedulers. The module is found on PYTHONPATH.

    Raises:
        Invalid: There is no such class, it cannot be made, or it lacks what core.order.Rule asks for; the message
            goes on after the key's name.
    """
    if scheduler_type in BUILT_IN:
        return None
    try:
        rule = _find(scheduler_type)()
    except Exception as error:  # whatever the site's code raises: one sentence, not a traceback
        raise Invalid(f"cannot be loaded ({error}); built in are {', '.join(BUILT_IN)}") from error
    if not isinstance(getattr(rule, "runs_whole", None), bool):
        raise Invalid("lacks the attribute runs_whole, True or False")
    if not callable(getattr(rule, "key", None)) or len(inspect.signature(rule.key).parameters) != 3:
        raise Invalid("lacks the method key(job, session, tier)")
    return rule


def _find(name: str) -> type[Rule]:
    module, colon, attribute = name.partition(":")
    if colon:
        found: type[Rule] = getattr(importlib.import_module(module), attribute)
        return found
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            loaded: type[Rule] = entry.load()
            return loaded
    raise LookupError(f"no entry point {name} in the group {ENTRY_POINTS}")
