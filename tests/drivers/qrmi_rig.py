"""A qrmi resource whose package is the stand-in of fake_qrmi/, under an interpreter that finds it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qpud.core.resource import ResourcePolicy
from qpud.core.terms import DriverKind, QrmiType
from qpud.drivers.qrmi import QrmiDriver
from tests.drivers.builders import SPEC_TEXT, ProductWorkers, private_file

FAKE = Path(__file__).parent / "fake_qrmi"
WRAPPER = """\
#!{python} -I
import sys
sys.path.insert(0, {fake!r})
code, sys.argv = sys.argv[4], ["-c", *sys.argv[5:]]
exec(code)
"""


class Fake:
    """What the stand-in does and saw, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: tuple[list[str], list[dict[str, Any]]] | None = None  # once the folder is gone
        self.python = folder / "python"
        self.python.write_text(WRAPPER.format(python=sys.executable, fake=str(FAKE)))
        self.python.chmod(0o700)
        text = f"# of the site\nexport Q_QRMI_URL='http://nowhere'\nFAKE_FOLDER={folder}\n"
        self.environment = private_file(folder / "environment", text)

    def say(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        if self.kept:
            return self.kept[0]
        return path.read_text().splitlines() if path.exists() else []

    @property
    def tasks(self) -> list[dict[str, Any]]:
        if self.kept:
            return self.kept[1]
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("task-*.json"))]

    def driver(self, kind: QrmiType, workers: Any = None, **changes: Any) -> QrmiDriver:
        settings = {"request_timeout": 10.0, "poll_min": 0.01, "poll_max": 0.2, "shot_rate": 1000.0, **changes}
        settings = {"qrmi_python": self.python, "qrmi_environment_file": self.environment, **settings}
        policy = ResourcePolicy(name="Q", driver=DriverKind.QRMI, qrmi_type=kind, **settings)
        return QrmiDriver(policy, workers or ProductWorkers(), time.time)


@asynccontextmanager
async def fake_qrmi(spec: str = SPEC_TEXT) -> AsyncIterator[Fake]:
    """The stand-in, showing this device spec to Pasqal's types."""
    with TemporaryDirectory() as folder:
        fake = Fake(Path(folder))
        name = json.loads(spec)["name"]
        fake.say(target=json.dumps([{"device_type": name, "specs": spec}]))
        yield fake
        fake.kept = fake.calls, fake.tasks
