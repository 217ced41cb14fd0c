"""bundle, rerun: a job as one archive, and whether another run of it gives the same distribution."""

from __future__ import annotations

import argparse
import uuid
from typing import TYPE_CHECKING, Any

from qpud.cli.client import Client, segment
from qpud.cli.connect import persistently, with_client
from qpud.cli.exits import Exit, Stop
from qpud.cli.output import emit, note
from qpud.cli.serve import Verbs
from qpud.cli.submit import close_session, detach, open_session
from qpud.cli.tables import fields
from qpud.cli.wait import wait_for

if TYPE_CHECKING:
    from qpud.core.compare import Comparison

RERUN_EPILOG = """\
Runs the program of a bundle again, with its variables and its seed, in a session of its own, and compares the counts:
total variation distance against what chance alone brings (random splits of all shots), and a G-test. Equal ones
are called different in one of a hundred cases. Exits with 0 if the distributions are equal, 7 if they are not.
"""
_TAKEN_ALONG = ("like", "emulator", "bond_dim")  # of a rehearsal; its faults and times change no distribution


def add(verbs: Verbs, reach: argparse.ArgumentParser) -> None:
    """Add the arguments of bundle and rerun."""
    parser = verbs.add_parser("bundle", parents=[reach], help="an ended job as one archive, to run it again")
    parser.add_argument("job", metavar="JOB", help="job id")
    parser.add_argument("-o", "--output", metavar="FILE", help="else job-JOB.qpud.zip")
    parser.set_defaults(verb=with_client(write_bundle))
    rerun = verbs.add_parser(
        "rerun", parents=[reach], help="run a bundle again and compare the distributions", epilog=RERUN_EPILOG
    )
    rerun.add_argument("bundle", metavar="BUNDLE", help="the archive")
    rerun.add_argument("--qpu", metavar="NAME", help="the resource (else the bundle's)")
    rerun.add_argument("--shots", type=int, metavar="N", help="else as many as the bundle's")
    rerun.set_defaults(verb=with_client(run_again))


def write_bundle(client: Client, args: argparse.Namespace) -> int:
    """Write the archive of a job."""
    from qpud.cli import archive  # zipfile takes milliseconds that no other verb should pay

    found = client.get(f"/v1/jobs/{segment(args.job)}/bundle")
    path = args.output or f"job-{found['job']['id']}.qpud.zip"
    archive.write(path, archive.pack(found))
    if found["spec"] is None:
        note("the device spec of that time was not kept: the bundle names it by its hash only")
    answer = {"bundle": path, "job": found["job"]["id"], "shots": found["job"]["shots_done"]}
    emit(args, answer, lambda: f"{path}: job {answer['job']}, {answer['shots']} shots")
    return Exit.OK


def run_again(client: Client, args: argparse.Namespace) -> int:
    """Run a bundle again and compare; exit 7 if the distributions differ."""
    from qpud.cli import archive
    from qpud.core.compare import compare

    old = archive.unpack(args.bundle)
    if old["has_own_result"]:
        ran = f"job {old['job'].get('id')} of the bundle ran a program of {old['job'].get('resource')}'s own kind"
        raise Stop(f"{ran}: its result (result.txt) is no counts, so there are no distributions to compare")
    if not old["counts"]:
        raise Stop(f"job {old['job'].get('id')} of the bundle ended in {old['job'].get('state')} without any counts")
    new = _run(client, args, old)
    if not new.get("counts"):
        raise Stop(f"job {new['job']['id']} ended in {new['job']['state']}: {new.get('message') or 'no counts'}")
    found = compare(old["counts"], new["counts"])
    emit(args, _answer(old, new, found), lambda: _text(old, new, found))
    return Exit.OK if found.equal else Exit.DIFFERENT


def _run(client: Client, args: argparse.Namespace, old: dict[str, Any]) -> dict[str, Any]:
    job = old["job"]
    resource = args.qpu or job["resource"]
    terms = {name: (job.get("rehearsal") or {}).get(name) for name in _TAKEN_ALONG}
    taken = {name: value for name, value in terms.items() if value} if resource == job["resource"] else {}
    grant = open_session(client, rehearsal={**taken, "resource": resource} if taken else None)
    body = {
        "sequence": old["sequence"],
        "shots": job["shots_done"] if args.shots is None else args.shots,
        "variables": job.get("variables") or None,
        "resource": resource,
        "name": f"rerun of job {job['id']}",
        "seed": job.get("seed"),
    }
    try:
        return _result(client, grant, {name: value for name, value in body.items() if value is not None})
    except Stop:
        close_session(client, grant["id"])
        raise


def _result(client: Client, grant: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    headers = {"X-Warden-Session": grant["token"], "Idempotency-Key": str(uuid.uuid4())}
    job = persistently(lambda: client.post("/v1/jobs", body, headers), "submission")
    try:
        wait_for(client, job["id"])
    except KeyboardInterrupt:
        raise SystemExit(detach([job["id"]])) from None
    result: dict[str, Any] = client.get(f"/v1/jobs/{job['id']}/result")
    close_session(client, grant["id"])
    return result


def _answer(old: dict[str, Any], new: dict[str, Any], found: Comparison) -> dict[str, Any]:
    tests = {name: getattr(found, name) for name in found.__struct_fields__}
    return {"equal": found.equal, **tests, "notes": _notes(old, new, found), "result": new}


def _text(old: dict[str, Any], new: dict[str, Any], found: Comparison) -> str:
    before, after = sum(old["counts"].values()), sum(new["counts"].values())
    verdict = "the distributions are equal" if found.equal else "the distributions differ"
    tvd = f"{found.tvd:.4f}, at most {found.tvd_threshold:.4f} by chance ({found.tvd_expected:.4f} on average)"
    g = f"{found.g:.2f} with {found.degrees} degrees of freedom: p = {found.p_value:.3g}, at least {found.alpha / 2:g}"
    rows: list[tuple[str, object]] = [
        ("bundle", f"job {old['job']['id']} on {old['job']['resource']}, {before} shots"),
        ("rerun", f"job {new['job']['id']} on {new['job']['resource']}, {after} shots"),
        ("distance", tvd),
        ("G-test", g),
        *(("note", text) for text in _notes(old, new, found)),
    ]
    return f"{verdict}\n\n{fields(rows)}"


def _notes(old: dict[str, Any], new: dict[str, Any], found: Comparison) -> list[str]:
    """What else is the same, and what is not."""
    notes = []
    if old["job"].get("spec_hash") != new.get("spec_hash"):
        notes.append("the device spec is another one than that of the bundle")
    changed = _changed(old["job"].get("provenance") or {}, new.get("provenance") or {})
    notes += [f"{name} was {before}, now {after}" for name, before, after in changed]
    same_seed = old["job"].get("seed") == new.get("seed")
    if found.identical:
        notes.append("the counts are identical" + (": same seed, same versions" if same_seed and not changed else ""))
    elif same_seed and not changed and "emulator" in (new.get("provenance") or {}):
        as_many = sum(old["counts"].values()) == sum(new["counts"].values())
        notes += ["the counts are not identical, though seed and versions are the same"] if as_many else []
    return notes


def _changed(before: dict[str, str], after: dict[str, str]) -> list[tuple[str, str, str]]:
    """What of the provenance is another one; times and the spec are no versions."""
    names = sorted({*before, *after} - {"late_seconds", "spec_hash"})
    both = [(name, before.get(name, "-"), after.get(name, "-")) for name in names]
    return [one for one in both if one[1] != one[2]]
