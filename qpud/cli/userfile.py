"""The user's own defaults, ~/.config/qpud.ini (XDG_CONFIG_HOME): what no option and no variable says.

    [default]
    qpu = FRESNEL
    url = http://qaccess.site:8006
    token_file = ~/.qpud-token

    [EMU_MPS]
    url = http://127.0.0.1:8006

A section named as a resource holds for that resource. sdk_shims/pulser/qpud_pulser.py reads the same file by the same
rules, spelled again because a shim imports nothing of qpud; tests/shims/test_choice.py compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from qpud.cli.exits import Stop

DEFAULT = "default"
KEYS = ("qpu", "url", "token_file")
_SECTION = re.compile(r"\[\s*([^]\s]+)\s*\]")
_SETTING = re.compile(r"(\w+)\s*=\s*(.*)")


class Setting(NamedTuple):
    """One value of the file, and where it stands."""

    value: str
    source: str  # as in "/home/a/.config/qpud.ini, line 2"


Settings = Mapping[tuple[str, str], Setting]  # by section and key


def path_of(environ: Mapping[str, str]) -> Path:
    """Where the file would be; a relative XDG_CONFIG_HOME is ignored, as its specification wants."""
    folder = Path(environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path(environ.get("HOME", "/")) / ".config") / "qpud.ini"


def read(environ: Mapping[str, str]) -> Settings:
    """All settings of the file; none where there is no file. Raises: Stop, naming file and line."""
    path = path_of(environ)
    try:
        path.stat()
    except OSError:
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as why:
        raise Stop(f"{path} cannot be read: {getattr(why, 'strerror', why)}") from None
    return dict(_settings(path, text))


def _settings(path: Path, text: str) -> Iterator[tuple[tuple[str, str], Setting]]:
    section = DEFAULT
    for number, raw in enumerate(text.splitlines(), start=1):
        line = re.sub(r"(^|\s)[#;].*", "", raw).strip()
        if header := _SECTION.fullmatch(line):
            section = header[1]
        elif line:
            yield _setting(f"{path}, line {number}", section, line)


def _setting(source: str, section: str, line: str) -> tuple[tuple[str, str], Setting]:
    written = _SETTING.fullmatch(line)
    known = KEYS if section == DEFAULT else KEYS[1:]
    if not written or not written[2] or written[1].lower() not in known:
        raise Stop(f"{source}: [{section}] takes {', '.join(known)} = VALUE, not {line[:60]!r}")
    return (section, written[1].lower()), Setting(written[2], source)


def daemon_of(settings: Settings, qpu: str | None) -> tuple[Setting | None, Setting | None]:
    """Where a resource's daemon is, and the file with a token for it; never the token of another section's daemon."""
    section = qpu if qpu and (qpu, "url") in settings else DEFAULT
    url = settings.get((section, "url"))
    return url, settings.get((section, "token_file")) if url else None
