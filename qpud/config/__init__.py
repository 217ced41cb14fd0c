"""The policy file: read, checked and shown. Everything public is importable from here.

ini       lines → sections of key and value, with line numbers
keys      the keys of a section, derived from the fields of core/policy.py and resource.py
values    texts ⇄ durations, sizes, addresses
read      sections → Policy, or ConfigError with every mistake
mistakes  what is wrong and where, and the nearest valid name
rule      the site's own scheduler, loaded
checks    what concerns several keys; warnings
show      Policy → text
reload    what a running daemon takes over, and what needs a restart
sample    etc/qpud.conf
dev       the policy of `serve --dev`
"""

from __future__ import annotations

from qpud.config.checks import warnings
from qpud.config.dev import dev_policy
from qpud.config.mistakes import ConfigError, Mistake
from qpud.config.read import load, parse
from qpud.config.reload import diff, keep_running_parts
from qpud.config.show import check_report, render

__all__ = [
    "ConfigError",
    "Mistake",
    "check_report",
    "dev_policy",
    "diff",
    "keep_running_parts",
    "load",
    "parse",
    "render",
    "warnings",
]
