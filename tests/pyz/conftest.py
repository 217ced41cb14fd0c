"""Fixtures of the zipapp's tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # machine.py, for the tests of this folder


@pytest.fixture
def machine() -> None:
    """Only root may mount, and other users need a Python outside of root's home."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("private mounts need root and unshare")
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("this container allows no private mounts")
    if not Path(f"/usr/bin/python3.{sys.version_info.minor}").exists():
        pytest.skip(f"no /usr/bin/python3.{sys.version_info.minor}")
