"""Where and how the file starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machine import build_of, on_a_machine, start, variant

pytestmark = pytest.mark.pyz
CANNOT_START = 78


@pytest.mark.usefixtures("machine")
class TestOnAForeignMachine:
    """As another user, on mounts made for the test."""

    def test_starts_as_nobody_with_an_empty_environment_from_a_read_only_folder(self, pyz: Path):
        done = on_a_machine(pyz, "as_nobody /mnt/qpud.pyz version")
        assert (done.returncode, done.stderr) == (0, "")

    def test_the_cache_of_a_user_without_home_is_private(self, pyz: Path):
        done = on_a_machine(pyz, "as_nobody /mnt/qpud.pyz version >&2; stat -c '%a %u' /var/tmp/qpud-cache-65534")
        assert done.stdout == "700 65534\n"

    def test_starts_through_python3_as_well(self, pyz: Path):
        done = on_a_machine(pyz, "as_nobody python3 /mnt/qpud.pyz version")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("path", ["./qpud.pyz", "../mnt/./qpud.pyz", "python3 ./qpud.pyz"])
    def test_starts_by_whatever_path_it_is_called(self, pyz: Path, path: str):
        done = on_a_machine(pyz, f"cd /mnt; as_nobody {path} version")
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("home", ["/", "/root", "/nonexistent"])
    def test_a_home_of_somebody_else_is_left_alone(self, pyz: Path, home: str):
        done = on_a_machine(
            pyz, f"as_nobody HOME={home} /mnt/qpud.pyz version >&2; find {home} -maxdepth 1 -name .cache || :"
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr

    def test_root_writes_nothing_into_the_home_that_sudo_left_in_the_environment(self, pyz: Path):
        script = """
            mkdir /home/alice; chown 1000:1000 /home/alice
            env -i HOME=/home/alice /mnt/qpud.pyz version >&2
            find /home/alice -mindepth 1; ls -A /root/.cache"""
        assert on_a_machine(pyz, script).stdout == "qpud\n"

    def test_a_home_on_a_noexec_mount_is_passed_over(self, pyz: Path):
        script = """
            mkdir /home/nobody; mount -t tmpfs -o noexec,uid=65534,mode=700 none /home/nobody
            as_nobody HOME=/home/nobody /mnt/qpud.pyz version >&2; ls -d /var/tmp/qpud-cache-*"""
        assert on_a_machine(pyz, script).stdout == "/var/tmp/qpud-cache-65534\n"

    def test_with_nothing_but_noexec_mounts_it_says_so_in_one_sentence(self, pyz: Path):
        done = on_a_machine(
            pyz,
            "for folder in /tmp /var/tmp; do mount -o remount,noexec $folder; done; as_nobody /mnt/qpud.pyz version",
        )
        assert (done.returncode, done.stderr.count("\n")) == (CANNOT_START, 1)
        assert "/var/tmp/qpud-cache-65534 is on a noexec mount" in done.stderr

    def test_a_given_cache_on_a_noexec_mount_is_refused_in_one_sentence(self, pyz: Path):
        script = """
            mkdir /home/cache; mount -t tmpfs -o noexec,uid=65534,mode=700 none /home/cache
            as_nobody SHIV_ROOT=/home/cache /mnt/qpud.pyz version"""
        done = on_a_machine(pyz, script)
        assert (done.returncode, done.stderr.count("\n")) == (CANNOT_START, 1)
        assert "/home/cache is on a noexec mount" in done.stderr

    @pytest.mark.parametrize(
        "trap",
        [
            "mkdir -m 777 /var/tmp/qpud-cache-65534; chown 1234 /var/tmp/qpud-cache-65534",
            "mkdir -m 777 /tmp/trap; chown 1234 /tmp/trap; ln -s /tmp/trap /var/tmp/qpud-cache-65534",
            "mkdir -m 777 /var/tmp/qpud-cache-65534; chown 65534 /var/tmp/qpud-cache-65534",
        ],
        ids=["of another user", "a link", "writable by all"],
    )
    def test_a_folder_laid_out_by_another_user_is_not_trusted(self, pyz: Path, trap: str):
        done = on_a_machine(pyz, f"{trap}; as_nobody /mnt/qpud.pyz version >&2; find /var/tmp/ /tmp/ -name 'qpud_*'")
        assert done.stdout.startswith("/tmp/qpud-cache-65534/qpud_") and done.stdout.count("\n") == 1

    def test_a_cache_below_a_folder_that_others_may_change_is_refused(self, pyz: Path):
        script = "mkdir -m 2777 /home/shared; as_nobody SHIV_ROOT=/home/shared/mine /mnt/qpud.pyz version"
        done = on_a_machine(pyz, script)
        assert done.returncode == CANNOT_START
        assert "/home/shared/mine lies in /home/shared, which others may change" in done.stderr

    def test_a_cache_that_root_unpacked_before_serves_others_read_only(self, pyz: Path):
        script = """
            mkdir -m 755 /home/cache; SHIV_ROOT=/home/cache /mnt/qpud.pyz version
            mount -o remount,ro /home; as_nobody SHIV_ROOT=/home/cache /mnt/qpud.pyz version"""
        done = on_a_machine(pyz, script)
        assert (done.returncode, done.stdout.count("\n")) == (0, 2), done.stderr

    def test_under_systemd_the_unit_s_cache_directory_is_taken(self, pyz: Path):
        script = """
            mkdir -m 700 /home/unit; chown 65534 /home/unit
            as_nobody CACHE_DIRECTORY=/home/unit /mnt/qpud.pyz version >&2; ls /home/unit"""
        assert on_a_machine(pyz, script).stdout == "zipapp\n"

    def test_a_full_disk_is_told_in_one_sentence(self, pyz: Path):
        script = """
            mkdir /home/cache; mount -t tmpfs -o size=1m,uid=65534,mode=700 none /home/cache
            as_nobody SHIV_ROOT=/home/cache /mnt/qpud.pyz version"""
        done = on_a_machine(pyz, script)
        assert (done.returncode, done.stderr.count("\n")) == (CANNOT_START, 1)
        assert "No space left on device" in done.stderr


def test_another_python_gets_one_sentence_that_names_the_needed_one(tmp_path: Path, pyz: Path):
    other = variant(pyz, tmp_path / "other.pyz", python="3.99")
    done = start(other, tmp_path)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"needs Python 3.99, this is {here}" in done.stderr


def on_path(tmp_path: Path, pyz: Path, *folders: str) -> subprocess.CompletedProcess[str]:
    """Start it with only these folders on PATH."""
    path = ":".join(str(tmp_path / folder) for folder in folders)
    env = {"PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return subprocess.run([pyz, "version"], env=env, capture_output=True, text=True, timeout=60)


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(target)


def shim(place: Path, script: str) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


HERE = f"python3.{sys.version_info.minor}"
REAL = Path(sys.executable).resolve()
NOT_FOUND = f"echo 'pyenv: {HERE}: command not found' >&2; exit 127"


def test_a_shim_that_does_not_run_is_passed_over(tmp_path: Path, pyz: Path):
    shim(tmp_path / "shims" / HERE, NOT_FOUND)
    link(tmp_path / "bin" / HERE, REAL)
    done = on_path(tmp_path, pyz, "shims", "bin")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_python_of_that_name_that_runs_python3_is_asked(tmp_path: Path, pyz: Path):
    shim(tmp_path / "shims" / HERE, NOT_FOUND)
    link(tmp_path / "bin" / "python3", REAL)
    done = on_path(tmp_path, pyz, "shims", "bin")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_shim_that_runs_is_asked_for_its_python_once_and_a_real_one_goes_first(tmp_path: Path, pyz: Path):
    shim(tmp_path / "shims" / HERE, f'echo asked >>{tmp_path}/log; exec {REAL} "$@"')
    done = on_path(tmp_path, pyz, "shims")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "log").read_text() == "asked\n"
    link(tmp_path / "bin" / HERE, REAL)
    done = on_path(tmp_path, pyz, "shims", "bin")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "log").read_text() == "asked\n"


@pytest.mark.parametrize("python", ["python2.7", "python3.6", "python3.9", "python3.12", "python3.13"])
def test_a_real_other_python_gets_that_sentence_where_there_is_one(tmp_path: Path, pyz: Path, python: str):
    known = [Path("/usr/bin") / python, *Path.home().glob(f".pyenv/versions/*/bin/{python}")]
    for interpreter in filter(Path.exists, known):
        done = subprocess.run([interpreter, pyz, "version"], env={}, capture_output=True, text=True, timeout=30)
        assert done.stderr.startswith(f"{build_of(pyz)['name']} needs Python 3.11, this is {python[6:]} ")


def test_another_machine_gets_one_sentence(tmp_path: Path, pyz: Path):
    done = start(variant(pyz, tmp_path / "other.pyz", machine="vax"), tmp_path)
    assert done.stderr == f"{build_of(pyz)['name']} was built for vax, this machine is {os.uname().machine}.\n"


def test_modules_of_the_user_do_not_replace_ours(tmp_path: Path, pyz: Path):
    (tmp_path / "msgspec.py").write_text("raise SystemExit('the user´s msgspec')")
    done = start(pyz, tmp_path / "cache", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_the_exit_code_is_the_program_s(tmp_path: Path, pyz: Path):
    other = variant(pyz, tmp_path / "other.pyz", program="def main(): return 42\n")
    assert start(other, tmp_path / "cache").returncode == 42


def test_the_user_s_environment_is_passed_on_untouched(tmp_path: Path, pyz: Path):
    program = "import os\ndef main(): print(*sorted(os.environ)); return 0\n"
    other = variant(pyz, tmp_path / "other.pyz", program=program)
    command = [sys.executable, other]
    done = subprocess.run(command, env={"XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=30)
    assert not {name for name in done.stdout.split() if name.startswith(("SHIV", "PYTHON"))}
