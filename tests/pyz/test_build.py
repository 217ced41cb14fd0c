"""What is in the file."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.pyz


def tops(pyz: Path) -> set[str]:
    with zipfile.ZipFile(pyz) as archive:
        return {name.split("/")[1] for name in archive.namelist() if name.startswith("site-packages/")}


def test_the_file_stays_under_15_mb(pyz: Path):
    assert pyz.stat().st_size < 15_000_000


def test_numpy_and_pulser_stay_with_the_worker(pyz: Path):
    assert not tops(pyz) & {"numpy", "torch", "pulser", "scipy"}


def test_the_fast_http_parts_are_inside(pyz: Path):
    assert tops(pyz) >= {"uvloop", "httptools", "msgspec", "qpud"}


def test_the_name_tells_version_python_and_platform(pyz: Path):
    minor = f"{sys.version_info.major}{sys.version_info.minor}"
    assert pyz.name.startswith("qpud-") and f"-cp{minor}-linux_" in pyz.name


def test_a_second_build_has_the_same_bytes(tmp_path: Path, pyz: Path):
    for part in ("qpud", "packaging", "pyproject.toml"):
        source = ROOT / part
        shutil.copytree(source, tmp_path / part) if source.is_dir() else shutil.copy(source, tmp_path / part)
    build = ["sh", "-c", 'umask 027; exec "$0" packaging/zipapp/build.py out', sys.executable]
    for _ in range(2):
        subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
        (built,) = (tmp_path / "out").glob("qpud-*.pyz")
        built.rename(tmp_path / f"build-{_}")
    assert (tmp_path / "build-0").read_bytes() == (tmp_path / "build-1").read_bytes()
