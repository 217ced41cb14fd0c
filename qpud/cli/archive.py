"""The file that `qpud bundle` writes: a zip archive that is readable without qpud, equal bytes for equal contents.

manifest.json lists the sha256 of every other file, and the schema. Stored, not compressed: how a zlib packs changes
from version to version.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import msgspec

from qpud.cli.exits import Exit, Stop

SCHEMA = 1
KIND = "qpud-bundle"
MANIFEST = "manifest.json"
NEEDED = ("sequence.json", "job.json", "counts.json", "slices.json")
MOST_BYTES = 256 << 20  # of all files together
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # who packs a bundle anew compresses it, as zip does
_LARGEST_COUNT = 2**31 - 1  # shots of one job
_EPOCH = (1980, 1, 1, 0, 0, 0)
README = """\
A job that qpud ran, with all that another run needs. Readable without qpud; `qpud rerun FILE` compares another run.

manifest.json  sha256 of the other files, version of this form
sequence.json  the program as it was submitted: Pulser's abstract representation, or an AHS program
spec.json      the device spec that it was checked against, if qpud had kept it
job.json       shots, variables, seed, hashes, versions (provenance), times in seconds since the epoch
result.txt     of programs that are not Pulser's: the result as it came, instead of counts
counts.json    shots by bitstring: character i is atom i in register order, 1 is the Rydberg state
slices.json    the same slice by slice, with the times and the seed
story.txt      what happened, in sentences
"""


class _JobFacts(msgspec.Struct):
    """What is read of job.json; the rest is for people."""

    id: int
    resource: str
    state: str
    shots_done: int
    sequence_hash: str
    variables: dict[str, Any] | None = None
    seed: int | None = None
    spec_hash: str | None = None
    provenance: dict[str, str] | None = None
    rehearsal: dict[str, Any] | None = None


def pack(bundle: dict[str, Any]) -> bytes:
    """The archive of the API's bundle."""
    files = {
        "README.txt": README,
        "sequence.json": bundle["sequence"],
        "job.json": _json(bundle["job"]),
        "counts.json": _json(bundle["counts"]),
        "slices.json": _json(bundle["slices"]),
        "story.txt": "\n".join([*bundle["story"], ""]),
    }
    if bundle["spec"] is not None:
        files["spec.json"] = bundle["spec"]
    if bundle.get("result") is not None:
        files["result.txt"] = bundle["result"]
    data = {name: text.encode("utf-8", "surrogatepass") for name, text in sorted(files.items())}
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in data.items()}
    manifest = {"kind": KIND, "schema": SCHEMA, "qpud": bundle["qpud"], "job": bundle["job"]["id"], "sha256": hashes}
    return _zip({MANIFEST: _json(manifest).encode(), **data})


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _zip(files: dict[str, bytes]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3  # Unix, also where it is not: the bytes must not depend on it
            archive.writestr(entry, content)
    return buffer.getvalue()


def unpack(path: str) -> dict[str, Any]:
    """Read and check a bundle: the API's form, as `pack` took it.

    Raises:
        Stop: There is no such file, it is no bundle, of a newer schema, or not intact; one sentence.
    """
    files = _read(path)
    manifest = _manifest(path, files)
    for name, expected in manifest["sha256"].items():
        if name not in files:
            raise Stop(f"bundle {path} is not intact: {name} is missing")
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise Stop(f"bundle {path} is not intact: {name} does not have the sha256 of its manifest")
    if missing := [name for name in NEEDED if name not in manifest["sha256"]]:
        raise Stop(f"bundle {path} is not intact: its manifest does not list {missing[0]}")
    return _checked(path, manifest, files)


def _read(path: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > MOST_BYTES:
                raise Stop(f"bundle {path} is larger than {MOST_BYTES >> 20} MiB")
            if odd := next((entry for entry in entries if entry.compress_type not in _READ), None):
                raise Stop(f"bundle {path} has {odd.filename!a} in a compression that qpud does not read: not deflate")
            return {entry.filename: archive.read(entry) for entry in entries}
    except FileNotFoundError:
        raise Stop(f"there is no file {path}", Exit.NOT_FOUND) from None
    except OSError as why:
        raise Stop(f"file {path} cannot be read: {why.strerror}") from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, ValueError, EOFError):
        raise Stop(f"file {path} is no bundle: it is no intact zip archive") from None


def _manifest(path: str, files: dict[str, bytes]) -> dict[str, Any]:
    found = _parsed(path, files, MANIFEST) if MANIFEST in files else None
    if not isinstance(found, dict) or found.get("kind") != KIND or not isinstance(found.get("sha256"), dict):
        raise Stop(f"file {path} is no bundle of qpud: it has no manifest of one")
    if found.get("schema") != SCHEMA:
        raise Stop(f"bundle {path} has schema {found.get('schema')}, this qpud reads {SCHEMA}")
    return found


def _parsed(path: str, files: dict[str, bytes], name: str) -> Any:
    try:
        return json.loads(files[name])
    except (ValueError, RecursionError):
        raise Stop(f"bundle {path} is not intact: {name} is no JSON") from None


def _checked(path: str, manifest: dict[str, Any], files: dict[str, bytes]) -> dict[str, Any]:
    """The contents, if they fit together."""
    job, counts = _parsed(path, files, "job.json"), _parsed(path, files, "counts.json")
    if not isinstance(counts, dict) or not _are_counts(counts):
        raise Stop(f"bundle {path} is not intact: counts.json does not have its form")
    _check_job(path, job)
    for name, key in (("sequence.json", "sequence_hash"), ("spec.json", "spec_hash")):
        if name in manifest["sha256"] and job.get(key) != manifest["sha256"][name]:
            raise Stop(f"bundle {path} is not intact: {name} is not the one of {key} in job.json")
    return {
        "qpud": manifest.get("qpud"),
        "job": job,
        "sequence": _text(path, files, "sequence.json"),
        "spec": _text(path, files, "spec.json") if "spec.json" in manifest["sha256"] else None,
        "counts": counts,
        "has_own_result": "result.txt" in manifest["sha256"],
        "slices": _parsed(path, files, "slices.json"),
    }


def _check_job(path: str, job: Any) -> None:
    """Check what another run and the comparison read of it. Raises: Stop."""
    try:
        msgspec.convert(job, _JobFacts)
    except msgspec.ValidationError as why:
        said, _, where = str(why).replace("`", "").partition(" - at ")
        what = f"{where.removeprefix('$.')}: " if where else ""
        raise Stop(f"bundle {path} is not intact: job.json: {what}{said[:1].lower()}{said[1:]}") from None


def _text(path: str, files: dict[str, bytes], name: str) -> str:
    try:
        return files[name].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Stop(f"bundle {path} is not intact: {name} is no text") from None


def _are_counts(counts: dict[str, Any]) -> bool:
    return all(bits and not bits.strip("01") for bits in counts) and all(
        type(number) is int and 0 < number <= _LARGEST_COUNT for number in counts.values()
    )


def write(path: str, data: bytes) -> None:
    """Write an archive. Raises: Stop."""
    try:
        Path(path).write_bytes(data)
    except OSError as why:
        raise Stop(f"the bundle cannot be written to {path}: {why.strerror}") from None
