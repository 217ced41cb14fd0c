"""Build the zipapp: `python packaging/zipapp/build.py dist`.

pip brings the pinned dependencies, shiv packs them, and two entries of the archive are ours: `__main__.py` and
`launch.py` of this folder, in front of shiv's own start code. The same inputs give the same bytes.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LARGEST_BYTES = 15_000_000
FORBIDDEN = ("numpy", "torch", "pulser", "scipy", "pydantic")
CARRIED = ("systemd", "slurm")  # folders of packaging/
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time a zip can hold
# Not needed at run time, and different from build to build: scripts with this interpreter's path, pip's notes.
LEFT_OUT = ("bin", "*/__pycache__", "*.dist-info/RECORD", "*.dist-info/INSTALLER", "*.dist-info/REQUESTED")
# The kernel hands the file to sh, which picks the right Python; `python3 FILE` finds the zip behind these lines.
# pyenv and asdf lay out a shim for each Python that some folder uses: it is slow, and need not run in this one. So a
# real one goes first, wherever it stands on PATH; a shim is asked where its Python is.
# The variable's name is nobody's: a user's own of that name would be changed for all that qpud runs.
PREFIX = """#!/bin/sh
set -f; IFS=:
for _qpud in $PATH; do
  _qpud=$_qpud/python{python}
  case $_qpud in */shims/*) ;; *) test -x "$_qpud" && exec "$_qpud" "$0" "$@" ;; esac
done
_qpud=$(python{python} -c "import sys; print(sys.executable)" 2>/dev/null) && exec "$_qpud" "$0" "$@"
exec python3 "$0" "$@"
"""


def main(folder: Path) -> None:
    """Build into `folder`, replacing what an earlier build left there."""
    with tempfile.TemporaryDirectory() as work:
        packages = Path(work) / "site-packages"
        gather(packages)
        packed = Path(work) / "packed.pyz"
        shiv(packages, packed)
        built = folder / file_name()
        folder.mkdir(exist_ok=True)
        finish(packed, built.with_suffix(".new"))
    check_contents(built.with_suffix(".new"))
    for stale in folder.glob("qpud-*.pyz"):
        stale.unlink()
    built.with_suffix(".new").rename(built)
    print(f"built {built} ({built.stat().st_size / 1e6:.1f} MB)")


def version() -> str:
    """qpud's version."""
    scope: dict[str, str] = {}
    exec((ROOT / "qpud" / "__init__.py").read_text(), scope)  # noqa: S102 - our own file; importing it would need its dependencies
    return scope["__version__"]


def python_minor() -> str:
    """The only Python that the compiled parts fit."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def file_name() -> str:
    """qpud-VERSION-cpXY-PLATFORM.pyz."""
    where = sysconfig.get_platform().replace("-", "_")
    return f"qpud-{version()}-cp{python_minor().replace('.', '')}-{where}.pyz"


def gather(packages: Path) -> None:
    """Put the dependencies and qpud itself into a folder, without what a run does not need."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile"]
    pinned = ["--only-binary", ":all:", "--constraint", str(ROOT / "packaging" / "constraints.txt")]
    done = subprocess.run([*pip, *pinned, "--target", str(packages), *wanted], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}pip could not bring in {', '.join(wanted)}")
    for pattern in LEFT_OUT:
        for found in packages.glob(pattern):
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    shutil.copytree(ROOT / "qpud", packages / "qpud", ignore=shutil.ignore_patterns("__pycache__"))
    for path in packages.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def shiv(packages: Path, output: Path) -> None:
    """Pack the folder, with every time set to shiv's fixed one."""
    options = ["--site-packages", str(packages), "--reproducible", "--entry-point", "qpud.cli:main"]
    command = [sys.executable, "-W", "ignore", "-m", "shiv", *options, "--output-file", str(output)]
    subprocess.run(command, check=True)


def finish(packed: Path, output: Path) -> None:
    """Copy shiv's archive behind our shell lines, with our first code in place of shiv's."""
    name = file_name().removesuffix(".pyz")
    with zipfile.ZipFile(packed) as source, output.open("wb") as raw:
        identity = json.loads(source.read("environment.json"))["build_id"]
        build = {"name": name, "python": python_minor(), "machine": platform.machine(), "id": identity}
        own = {part: (HERE / part).read_bytes() for part in ("__main__.py", "launch.py")}
        own["build.json"] = json.dumps(build).encode()
        own |= for_the_site()
        raw.write(PREFIX.format(python=python_minor()).encode())
        with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
            for info in source.infolist():
                if info.filename not in own:
                    add(target, info.filename, source.read(info))
            for part, content in own.items():
                add(target, part, content)
    output.chmod(0o755)


def for_the_site() -> dict[str, bytes]:
    """What `qpud install` lays down, by name in the archive: qpud/site/install.py reads it from there."""
    packaging = HERE.parent
    files = sorted(path for part in CARRIED for path in (packaging / part).rglob("*") if path.is_file())
    held = {f"install/{path.relative_to(packaging)}": path.read_bytes() for path in files if is_source(path)}
    return held | {"install/worker/constraints.txt": (packaging / "constraints.txt").read_bytes()}


def is_source(path: Path) -> bool:
    """Whether it is in the repository, as far as its name tells."""
    return "__pycache__" not in path.parts and path.suffix not in (".o", ".so")


def add(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Write one entry whose bytes depend on nothing but its name and content."""
    entry = zipfile.ZipInfo(name, date_time=EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    target.writestr(entry, content)


def check_contents(built: Path) -> None:
    """Refuse a file that grew beyond its limit or holds what belongs to the worker."""
    with zipfile.ZipFile(built) as archive:
        tops = {name.split("/")[1].lower() for name in archive.namelist() if name.startswith("site-packages/")}
    found = [top for top in tops if top.startswith(FORBIDDEN)]
    if found:
        sys.exit(f"{built} holds {', '.join(found)}, which belong to the worker")
    if built.stat().st_size >= LARGEST_BYTES:
        sys.exit(f"{built} has {built.stat().st_size} bytes, the limit is {LARGEST_BYTES}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
