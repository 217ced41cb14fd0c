"""Lines of a policy file → sections of `Key = value`, each with its line number.

configparser keeps no line numbers of values, and leaves trailing comments in them, hence this reader. The grammar:

- `[kind]` or `[kind NAME]` starts a section, `Key = value` is a setting; keys are compared without case.
- `#` and `;` start a comment, at the start of a line or after a blank.
- A line indented deeper than its key continues the value, until a blank line.
- A byte order mark, CRLF and an indentation of the whole file are tolerated.
"""

from __future__ import annotations

import re

from qpud.config.mistakes import Findings

_COMMENT = re.compile(r"(^|\s)[#;].*$")
_SECTION = re.compile(r"^\[\s*(\S+?)(?:\s+(.*?))?\s*\]$")
_SETTING = re.compile(r"^([A-Za-z]\w*)\s*=\s*(.*)$")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Entry:
    """One setting as written: key, value (continuation lines joined by blanks) and the line of its key."""

    def __init__(self, key: str, value: str, line: int, indent: int) -> None:
        self.key = key
        self.value = value
        self.line = line
        self.indent = indent


class Section:
    """One section as written; `entries` by lower-case key."""

    def __init__(self, kind: str, name: str, line: int) -> None:
        self.kind = kind
        self.name = name
        self.line = line
        self.entries: dict[str, Entry] = {}

    @property
    def title(self) -> str:
        """What stands between the brackets."""
        return f"{self.kind} {self.name}".rstrip()

    def line_of(self, key: str) -> int:
        """The line of a key, or of the section if the key is not written."""
        entry = self.entries.get(key.lower())
        return entry.line if entry else self.line


def read_sections(text: str, findings: Findings) -> list[Section]:
    """Read all sections in their order; mistakes of the grammar go to `findings`, reading goes on behind them."""
    reader = _Reader(findings)
    for number, raw in enumerate(_lines(text), start=1):
        reader.take(number, raw)
    return reader.sections


def _lines(text: str) -> list[str]:
    # not splitlines(): it also breaks at form feeds and U+2028, which editors do not count as lines
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")


class _Reader:
    """Takes one line after the other."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.sections: list[Section] = []
        self.entry: Entry | None = None

    def take(self, number: int, raw: str) -> None:
        line = _COMMENT.sub("", raw).strip()
        if _CONTROL.search(line):
            self._complain(number, "holds a control character")
        elif not line:
            # a comment between the lines of a list does not end it, a blank line does
            self.entry = self.entry if raw.strip() else None
        elif self.entry and _indent(raw) > self.entry.indent:
            self._continue(number, line, self.entry)
        elif line.startswith("["):
            self._start_section(number, line)
        else:
            self._start_entry(number, line, _indent(raw))

    def _continue(self, number: int, line: str, entry: Entry) -> None:
        if _SETTING.match(line) or line.startswith("["):
            problem = f"is indented and would continue {entry.key} of line {entry.line}; start it in the first column"
            self._complain(number, f"'{line}' {problem}")
        else:
            entry.value = f"{entry.value} {line}".strip()

    def _start_section(self, number: int, line: str) -> None:
        self.entry = None
        match = _SECTION.match(line)
        if not match:
            self._complain(
                number,
                f"'{line}' is no section heading",
                "[qpud], [queue NAME], [resource NAME], [account NAME], [user NAME]",
            )
        kind, name = match.groups() if match else (line.strip("[] "), "")
        self.sections.append(Section(kind, name or "", number))

    def _start_entry(self, number: int, line: str, indent: int) -> None:
        match = _SETTING.match(line)
        if not match:
            return self._complain(number, f"'{line}' cannot be read", "Key = value, [section], # comment")
        self.entry = Entry(match[1], match[2], number, indent)
        if not self.sections:
            return self._complain(number, f"{match[1]} stands before the first section", "[qpud] above it")
        section = self.sections[-1]
        first = section.entries.setdefault(match[1].lower(), self.entry)
        if first is not self.entry:
            self._complain(number, f"{match[1]} stands here and in line {first.line}")
        return None

    def _complain(self, number: int, problem: str, allowed: str = "") -> None:
        title = self.sections[-1].title if self.sections else ""
        self.findings.add(number, problem, section=title, allowed=allowed)


def _indent(raw: str) -> int:
    expanded = raw.expandtabs()
    return len(expanded) - len(expanded.lstrip())
