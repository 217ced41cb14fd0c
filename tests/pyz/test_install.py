"""`qpud install` from the built file alone: into a staged root, and onto a machine of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from machine import on_a_machine, start

pytestmark = pytest.mark.pyz
LARGEST_EXPOSURE = 2.0
UNIT = "usr/local/lib/systemd/system/qpud.service"
# Every folder that an installation writes to is a copy that vanishes with the test.
COPIES = """
mount -t tmpfs none /srv
for folder in /etc /var /usr/local; do
    mkdir -p /srv/up$folder /srv/work$folder
    mount -t overlay -o lowerdir=$folder,upperdir=/srv/up$folder,workdir=/srv/work$folder none $folder
done
mount -t tmpfs -o mode=755 none /run
export SHIV_ROOT=/srv/cache
"""

# What systemd does with the unit, as far as a test can: its command, its user, its folders, and who may notify.
AS_SYSTEMD = """
import os, pathlib, pwd, shlex, signal, socket, struct, subprocess
unit = pathlib.Path("/usr/local/lib/systemd/system/qpud.service").read_text().splitlines()
settings = dict(line.split("=", 1) for line in unit if "=" in line)
user = pwd.getpwnam(settings["User"])
os.mkdir("/var/cache/qpud", 0o700)
os.chown("/var/cache/qpud", user.pw_uid, user.pw_gid)
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
manager.settimeout(20)
manager.bind("/run/notify")
os.chmod("/run/notify", 0o666)
name, place = settings["Environment"].split("=")
environ = {name: place.replace("%C", "/var/cache"), "NOTIFY_SOCKET": "/run/notify", "PATH": "/usr/bin:/bin"}
as_user = ["setpriv", "--reuid", user.pw_name, "--regid", str(user.pw_gid), "--clear-groups"]
main = subprocess.Popen(as_user + shlex.split(settings["ExecStart"]), env=environ, stdout=subprocess.DEVNULL)
try:
    said, credentials, _, _ = manager.recvmsg(1000, socket.CMSG_SPACE(12))
    pid, uid, _ = struct.unpack("3i", credentials[0][2])
    print(said.decode(), pid == main.pid, uid == user.pw_uid, flush=True)
    info = subprocess.run(["/usr/local/bin/qpud", "info"], capture_output=True, text=True)
    print(info.returncode, os.listdir("/var/cache/qpud"), flush=True)
finally:
    main.send_signal(signal.SIGTERM)
    print(main.wait(20))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def systemd() -> None:
    if not shutil.which("systemd-analyze") or not shutil.which("systemd-sysusers"):
        pytest.skip("no systemd-analyze or systemd-sysusers: apt-get install systemd")


def run(pyz: Path, root: Path, *arguments: str) -> str:
    done = start(pyz, root.parent / "cache", *arguments, "--root", str(root))
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


def test_a_dry_run_names_every_file_and_makes_none(pyz: Path, root: Path):
    said = run(pyz, root, "install")
    assert all(str(root / path) in said for path in ("usr/local/bin/qpud", "etc/qpud/qpud.conf", UNIT))
    assert "nothing was changed" in said
    assert files(root) == []


def test_what_is_installed_is_this_very_file_and_it_runs(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    program = root / "usr/local/bin/qpud"
    assert program.read_bytes() == pyz.read_bytes()
    assert start(program, root.parent / "other-cache", "check", str(root / "etc/qpud/qpud.conf")).returncode == 0


def test_a_second_run_finds_everything_right(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    verbs = {line.split()[0] for line in run(pyz, root, "install").splitlines() if str(root) in line}
    assert verbs == {"have"}


def test_modes_do_not_follow_the_umask(pyz: Path, root: Path):
    command = ["sh", "-c", 'umask 077; exec "$0" install --apply --root "$1"', str(pyz), str(root)]
    env = {"PATH": os.environ["PATH"], "SHIV_ROOT": str(root.parent / "cache")}
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    assert (root / "usr/local/bin/qpud").stat().st_mode & 0o777 == 0o755
    assert (root / UNIT).stat().st_mode & 0o777 == 0o644


def test_an_edited_policy_is_never_overwritten_and_survives_uninstall(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    (root / "etc/qpud/qpud.conf").write_text("[qpud]\nAuthType = munge\n")
    run(pyz, root, "install", "--apply")
    assert "edited" in run(pyz, root, "uninstall", "--apply")
    assert files(root) == ["etc/qpud/qpud.conf"]


def test_uninstall_leaves_nothing_but_the_state(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    (root / "var/lib/qpud").mkdir(parents=True)
    (root / "var/lib/qpud/state.sqlite").touch()
    run(pyz, root, "uninstall")
    assert len(files(root)) == 8
    run(pyz, root, "uninstall", "--apply")
    assert files(root) == ["var/lib/qpud/state.sqlite"]
    assert not (root / "etc/qpud").exists()
    run(pyz, root, "uninstall", "--apply", "--purge")
    assert files(root) == []


def test_a_changed_unit_is_replaced_and_a_link_in_its_place_is_not_followed(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    (root / "precious").write_text("mine")
    (root / UNIT).unlink()
    (root / UNIT).symlink_to(root / "precious")
    assert "replace" in run(pyz, root, "install", "--apply")
    assert (root / "precious").read_text() == "mine"
    assert not (root / UNIT).is_symlink()


def test_the_slurm_pieces_are_laid_down_and_hooks_can_be_run(pyz: Path, root: Path):
    source = Path(__file__).resolve().parents[2] / "packaging" / "slurm"
    run(pyz, root, "install", "--slurm", "--apply")
    folder = root / "usr/local/lib/qpud/slurm"
    assert files(folder) == files(source)
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in ("prolog.sh", "common.sh", "slurm-hooks.conf")}
    assert modes == {"prolog.sh": 0o755, "common.sh": 0o644, "slurm-hooks.conf": 0o644}
    run(pyz, root, "uninstall", "--apply")
    assert not (root / "usr/local/lib/qpud").exists()


@pytest.mark.usefixtures("systemd")
def test_the_staged_sysusers_file_makes_the_user(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    subprocess.run(["systemd-sysusers", f"--root={root}"], check=True, capture_output=True, timeout=30)
    (line,) = [line for line in (root / "etc/passwd").read_text().splitlines() if line.startswith("qpud:")]
    assert line.endswith("/usr/sbin/nologin")


@pytest.mark.usefixtures("systemd")
def test_the_units_exposure_is_under_2(pyz: Path, root: Path):
    run(pyz, root, "install", "--apply")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(root / UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    assert float(line.split("qpud.service: ")[1].split()[0]) < LARGEST_EXPOSURE


@pytest.mark.usefixtures("machine", "systemd")
class TestOnAMachine:
    """As root, on mounts made for the test: what `--apply` does without `--root`."""

    def test_install_makes_the_user_and_folders_and_the_units_verify(self, pyz: Path):
        script = """
            /mnt/qpud.pyz install --apply >&2
            stat -c '%n %U %a' /run/qpud /var/lib/qpud
            systemd-analyze verify qpud.service qpud.slice
            /usr/local/bin/qpud install | grep -cv '^have' || :"""
        done = on_a_machine(pyz, COPIES + script)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[:2] == ["/run/qpud qpud 755", "/var/lib/qpud qpud 700"]

    def test_the_units_command_starts_as_its_user_and_the_main_process_says_ready(self, pyz: Path):
        script = f"/mnt/qpud.pyz install --apply >&2\npython3 - <<'END'\n{AS_SYSTEMD}\nEND\n"
        done = on_a_machine(pyz, COPIES + script)
        assert done.stdout.splitlines() == ["READY=1 True True", "0 ['zipapp']", "0"], done.stderr

    def test_uninstall_with_purge_leaves_no_file_and_no_user(self, pyz: Path):
        script = """
            /mnt/qpud.pyz install --apply >&2
            /usr/local/bin/qpud uninstall --apply --purge >&2
            find /etc /var /usr/local /run -name '*qpud*'; grep qpud /etc/passwd /etc/group || :"""
        done = on_a_machine(pyz, COPIES + script)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr

    def test_without_root_nothing_is_applied(self, pyz: Path):
        done = on_a_machine(pyz, "as_nobody /mnt/qpud.pyz install --apply")
        assert (done.returncode, done.stdout) == (4, "")
        assert "--apply needs root" in done.stderr
