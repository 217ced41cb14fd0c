"""Where text goes: answers to standard output, everything about them to standard error."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from typing import Any

from qpud.cli.tables import clip


def emit(args: argparse.Namespace, answer: Any, text: Callable[[], str]) -> None:
    """Print the API's JSON with --json, else the text.

    Args:
        args: For `json`.
        answer: What the daemon said.
        text: Makes the human form; only called when it is wanted.
    """
    print(json.dumps(answer, indent=2, ensure_ascii=False) if args.json else text())


def note(message: str) -> None:
    """Say something beside the answer, on standard error."""
    print(f"qpud: {message}", file=sys.stderr)


class Progress:
    """One line on standard error that says how far a wait has come: rewritten on a terminal, else one per change."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""

    def update(self, line: str) -> None:
        """Show a line if it differs from the one shown."""
        if line == self._last:
            return
        self._last = line
        fitting = clip(line, shutil.get_terminal_size().columns - 1) if self._live else line
        sys.stderr.write(f"\r\x1b[K{fitting}" if self._live else f"{line}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line off the terminal, to make room for the answer."""
        if self._live and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._last = ""
