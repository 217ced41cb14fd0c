"""bundle and rerun: an archive that is whole or refused, and a verdict on another run."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Replay, Shell

SEQUENCE, SPEC = '{"a": 1}', '{"name": "AnalogDevice"}'
COUNTS = {"01": 120, "10": 80}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_bundle(**job: Any) -> dict[str, Any]:
    facts = {
        "id": 7,
        "resource": "EMU_MPS",
        "state": "DONE",
        "shots": 200,
        "shots_done": 200,
        "variables": {"x": 1.5},
        "seed": 42,
        "sequence_hash": sha(SEQUENCE),
        "spec_hash": sha(SPEC),
        "provenance": {"emulator": "qutip", "pulser": "1.9.1"},
        "rehearsal": {},
    }
    counts = {"counts": COUNTS, "slices": [{"number": 0, "counts": COUNTS}], "story": ["DONE with 200 of 200 shots"]}
    return {"qpud": "0.1", "job": {**facts, **job}, "sequence": SEQUENCE, "spec": SPEC, **counts}


def bundled(daemon: Replay, qpud: Shell, name: str = "b.zip", **job: Any) -> Path:
    daemon.on("GET", "/v1/jobs/7/bundle", a_bundle(**job))
    done = qpud("bundle", "7", "-o", name)
    assert done.returncode == 0, done.stderr
    return qpud.folder / name


def rewritten(path: Path, **files: bytes) -> None:
    """The archive with other contents of some files (named without their ending)."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents.update({f"{name}.json": data for name, data in files.items()})
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)


def answers(daemon: Replay, counts: dict[str, int], **result: Any) -> None:
    """A daemon on which another run gives these counts."""
    job = {"id": 9, "state": "DONE", "resource": "EMU_MPS", "shots": 200, "shots_done": 200, "reason": ""}
    whole = {"job": job, "counts": counts, "message": "", "seed": 42, "spec_hash": sha(SPEC)}
    daemon.on("POST", "/v1/sessions", {"id": "s", "token": "qpud_t"}, status=201)
    daemon.on("POST", "/v1/jobs", job, status=201)
    daemon.on("GET", "/v1/jobs/9", job)
    daemon.on("GET", "/v1/jobs/9/result", {**whole, "provenance": {"emulator": "qutip", "pulser": "1.9.1"}, **result})
    daemon.on("DELETE", "/v1/sessions/s", {})


def test_equal_jobs_give_equal_bytes(daemon: Replay, qpud: Shell) -> None:
    assert bundled(daemon, qpud, "a.zip").read_bytes() == bundled(daemon, qpud, "b.zip").read_bytes()


def test_an_archive_is_readable_without_qpud(daemon: Replay, qpud: Shell) -> None:
    with zipfile.ZipFile(bundled(daemon, qpud)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.read("sequence.json").decode() == SEQUENCE
        assert (manifest["kind"], manifest["schema"]) == ("qpud-bundle", 1)
        assert set(manifest["sha256"]) == set(archive.namelist()) - {"manifest.json"}
        for name, expected in manifest["sha256"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == expected


def test_another_run_asks_for_the_same_program_and_seed(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    answers(daemon, COUNTS)
    done = qpud("rerun", str(path))
    assert done.returncode == 0, done.stderr
    asked = daemon.requests("POST", "/v1/jobs")[0].body
    same = {"sequence": SEQUENCE, "shots": 200, "variables": {"x": 1.5}, "resource": "EMU_MPS", "seed": 42}
    assert same.items() <= asked.items()
    assert done.stdout.startswith("the distributions are equal")
    assert "the counts are identical: same seed, same versions" in done.stdout
    assert daemon.requests("DELETE", "/v1/sessions/s")


def test_a_result_of_its_own_kind_is_kept_and_cannot_be_compared(daemon: Replay, qpud: Shell) -> None:
    daemon.on("GET", "/v1/jobs/7/bundle", a_bundle(resource="IBM") | {"counts": {}, "result": '{"c": [1]}'})
    qpud("bundle", "7", "-o", "b.zip")
    with zipfile.ZipFile(qpud.folder / "b.zip") as archive:
        assert archive.read("result.txt").decode() == '{"c": [1]}'
    done = qpud("rerun", "b.zip")
    assert done.returncode == 1
    assert done.stderr == (
        "qpud: job 7 of the bundle ran a program of IBM's own kind: its result (result.txt) is no counts, "
        "so there are no distributions to compare\n"
    )
    assert not daemon.requests("POST", "/v1/sessions")


def test_shots_are_what_was_asked_for_even_if_none(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    answers(daemon, COUNTS)
    qpud("rerun", str(path), "--shots=0")
    assert daemon.requests("POST", "/v1/jobs")[0].body["shots"] == 0  # the daemon refuses it


def test_other_counts_are_different_by_exit_code_and_sentence(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    answers(daemon, {"01": 60, "10": 140})
    done = qpud("rerun", str(path), "--json")
    assert done.returncode == 7, done.stderr
    found = json.loads(done.stdout)
    assert (found["equal"], found["identical"]) == (False, False)
    assert found["tvd"] == pytest.approx(0.3)
    assert found["tvd"] > found["tvd_threshold"]
    assert found["p_value"] < 1e-6
    assert "the counts are not identical, though seed and versions are the same" in found["notes"]


def test_what_changed_beside_the_counts_is_told(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    answers(daemon, {"01": 118, "10": 82}, spec_hash="other", provenance={"emulator": "sv", "pulser": "1.9.1"})
    done = qpud("rerun", str(path), "--qpu", "EMU_SV")
    assert done.returncode == 0, done.stderr
    assert "the device spec is another one than that of the bundle" in done.stdout
    assert "emulator was qutip, now sv" in done.stdout
    assert daemon.requests("POST", "/v1/jobs")[0].body["resource"] == "EMU_SV"


def test_a_rehearsal_is_taken_along_to_the_same_resource_only(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud, rehearsal={"like": "FRESNEL", "faults": "error:1", "speed_up": 5.0})
    answers(daemon, COUNTS)
    qpud("rerun", str(path))
    qpud("rerun", str(path), "--qpu", "FRESNEL")
    same, other = (one.body for one in daemon.requests("POST", "/v1/sessions"))
    assert same == {"rehearsal": {"like": "FRESNEL", "resource": "EMU_MPS"}}
    assert not other


def test_a_tampered_bundle_is_refused_in_one_sentence(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    rewritten(path, counts=b'{"01": 200}')
    done = qpud("rerun", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is not intact: counts.json does not have the sha256 of its manifest" in done.stderr
    assert not daemon.requests("POST", "/v1/jobs")


def test_a_sequence_with_a_new_hash_is_still_not_the_jobs(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["sha256"]["sequence.json"] = sha("{}")
    rewritten(path, sequence=b"{}", manifest=json.dumps(manifest).encode())
    assert "sequence.json is not the one of sequence_hash in job.json" in qpud("rerun", str(path)).stderr


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        (b"{}", "is no bundle of qpud: it has no manifest of one"),
        (b"[[[", "manifest.json is no JSON"),
        (b'{"kind": "qpud-bundle", "schema": 2, "sha256": {}}', "has schema 2, this qpud reads 1"),
        (b'{"kind": "qpud-bundle", "schema": 1, "sha256": {}}', "its manifest does not list sequence.json"),
        (b'{"kind": "qpud-bundle", "schema": 1, "sha256": {"x": "y"}}', "x is missing"),
    ],
)
def test_a_bad_manifest_is_one_sentence(daemon: Replay, qpud: Shell, manifest: bytes, sentence: str) -> None:
    path = bundled(daemon, qpud)
    rewritten(path, manifest=manifest)
    done = qpud("rerun", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert sentence in done.stderr


def deflated(path: Path, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The archive as somebody else's tool packs it."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path.read_bytes()


def test_an_archive_that_was_packed_anew_is_read_and_refused_once_it_is_damaged(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    whole = deflated(path)
    answers(daemon, COUNTS)
    assert qpud("rerun", str(path)).returncode == 0
    with zipfile.ZipFile(path) as archive:
        begin = archive.getinfo("story.txt").header_offset + 30 + len("story.txt")
    for damaged in (whole[:begin] + b"\xff" * 10 + whole[begin + 10 :], whole[:-40], b""):
        path.write_bytes(damaged)
        done = qpud("rerun", str(path))
        assert (done.returncode, done.stderr) == (
            1,
            f"qpud: file {path} is no bundle: it is no intact zip archive\n",
        )
    assert len(daemon.requests("POST", "/v1/jobs")) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_only_what_every_zip_has_is_read(daemon: Replay, qpud: Shell, method: int) -> None:
    path = bundled(daemon, qpud)
    deflated(path, method)
    done = qpud("rerun", str(path))
    assert (done.returncode, done.stderr) == (
        1,
        f"qpud: bundle {path} has 'manifest.json' in a compression that qpud does not read: not deflate\n",
    )


def test_an_archive_that_would_fill_the_memory_is_refused(daemon: Replay, qpud: Shell) -> None:
    path = bundled(daemon, qpud)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("big", "w") as big:
        for _ in range(257):
            big.write(bytes(1 << 20))
    done = qpud("rerun", str(path))
    assert (done.returncode, done.stderr) == (1, f"qpud: bundle {path} is larger than 256 MiB\n")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("job", b"[]", "job.json: expected object, got array"),
        ("job", b"{}", "job.json: object missing required field id"),
        ("job", {"shots_done": "many"}, "job.json: shots_done: expected int, got str"),
        ("job", {"resource": None}, "job.json: resource: expected str, got null"),
        ("job", {"provenance": []}, "job.json: provenance: expected object | null, got array"),
        ("job", {"rehearsal": [1]}, "job.json: rehearsal: expected object | null, got array"),
        ("counts", b'{"01": 1e9}', "counts.json does not have its form"),
        ("counts", b'{"01": ' + b"9" * 400 + b"}", "counts.json does not have its form"),
        ("counts", b"\xff", "counts.json is no JSON"),
        ("sequence", b"\xff", "sequence.json is no text"),
    ],
)
def test_what_does_not_have_its_form_is_one_sentence(
    daemon: Replay, qpud: Shell, name: str, content: Any, sentence: str
) -> None:
    path = bundled(daemon, qpud)
    with zipfile.ZipFile(path) as archive:
        manifest, job = json.loads(archive.read("manifest.json")), json.loads(archive.read("job.json"))
    data = content if isinstance(content, bytes) else json.dumps(job | content).encode()
    files = {name: data}
    if name == "sequence":
        files["job"] = json.dumps(job | {"sequence_hash": hashlib.sha256(data).hexdigest()}).encode()
    manifest["sha256"] |= {f"{one}.json": hashlib.sha256(data).hexdigest() for one, data in files.items()}
    rewritten(path, manifest=json.dumps(manifest).encode(), **files)
    done = qpud("rerun", str(path))
    assert (done.returncode, done.stderr) == (1, f"qpud: bundle {path} is not intact: {sentence}\n")
    assert not daemon.requests("POST", "/v1/jobs")


def test_what_is_no_archive_is_one_sentence(qpud: Shell) -> None:
    (qpud.folder / "x").write_text("PK no zip")
    assert "is no bundle: it is no intact zip archive" in qpud("rerun", "x").stderr
    assert qpud("rerun", "nowhere").returncode == 5


def test_a_job_without_counts_cannot_be_compared(daemon: Replay, qpud: Shell) -> None:
    bundle = {**a_bundle(state="ERROR"), "counts": {}}
    daemon.on("GET", "/v1/jobs/7/bundle", bundle)
    qpud("bundle", "7", "-o", "b.zip")
    done = qpud("rerun", "b.zip")
    assert done.returncode == 1
    assert "job 7 of the bundle ended in ERROR without any counts" in done.stderr
