"""What is wrong with a policy file: every mistake, each with its place and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import msgspec

from qpud.core.errors import Invalid


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to correct in a policy file."""

    source: str
    """The file, as the administrator named it."""
    line: int
    """From 1; 0 if the file as a whole is meant."""
    section: str
    """As written between the brackets; empty before the first section."""
    key: str
    """In its canonical spelling; empty if the section itself is meant."""
    value: str
    """As written, without passwords."""
    problem: str
    """What is wrong, without a full stop."""
    allowed: str = ""
    """What may stand here instead."""
    nearest: str = ""
    """The valid name most like the one found; empty if none is."""

    def __str__(self) -> str:
        """The mistake as one line: where, what, and what to write instead."""
        return f"{self._place()}: {self._subject()}{self.problem}{self._remedy()}"

    def _place(self) -> str:
        return f"{self.source}:{self.line}" if self.line else self.source

    def _subject(self) -> str:
        setting = f"{self.key} = {self.value}" if self.key and self.value else self.key
        words = [f"[{self.section}]" if self.section else "", setting]
        subject = " ".join(word for word in words if word)
        return f"{subject}: " if subject else ""

    def _remedy(self) -> str:
        nearest = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{nearest} (allowed: {self.allowed})" if self.allowed else nearest


class ConfigError(Invalid):
    """The policy file cannot be used; `mistakes` holds every reason, by line."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = sorted(mistakes, key=lambda mistake: mistake.line)
        super().__init__(_summary(self.mistakes))


class Findings:
    """Collects the mistakes of one file while it is read.

    Args:
        source: The file's name, for the messages.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.mistakes: list[Mistake] = []

    def add(
        self,
        line: int,
        problem: str,
        *,
        section: str = "",
        key: str = "",
        value: str = "",
        allowed: str = "",
        nearest: str = "",
    ) -> None:
        """Note a mistake; passwords in the value are masked, long values cut."""
        self.mistakes.append(
            Mistake(
                source=self.source,
                line=line,
                section=section,
                key=key,
                value=_shown(value),
                problem=problem,
                allowed=allowed,
                nearest=nearest,
            )
        )

    def raise_any(self) -> None:
        """Raise ConfigError if anything was found."""
        if self.mistakes:
            raise ConfigError(self.mistakes)


def nearest(word: str, names: Iterable[str]) -> str:
    """The name most like a word, ignoring case; empty if none comes close."""
    canonical = {name.lower(): name for name in names}
    found = difflib.get_close_matches(word.lower(), canonical, n=1, cutoff=0.6)
    return canonical[found[0]] if found else ""


def without_password(text: str) -> str:
    """The text with the password of every URL in it replaced by stars."""
    return re.sub(r"(://[^:@/\s]*):[^@/\s]*@", r"\1:***@", text)


def _shown(value: str) -> str:
    masked = without_password(value)
    return masked if len(masked) <= 80 else f"{masked[:77]}..."


def _summary(mistakes: list[Mistake]) -> str:
    if len(mistakes) == 1:
        return str(mistakes[0])
    source = mistakes[0].source
    return f"{source} has {len(mistakes)} mistakes, `qpud check {source}` lists them, the first: {mistakes[0]}"
