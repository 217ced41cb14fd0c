"""The scheduling mind against what is known: queueing theory, makespans, shares, an exhaustive search; and its speed.

    python tests/bench/mind.py [--quick]

Everything but the last figure is in virtual time and the same on every machine: the seeds are fixed. The last one is
CPU time, since other work on the machine is not the simulator's. The loads and
the theory are those of tests/simulate, which run in `make test` with less of the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from qpud.core.policy import Policy
from qpud.simulate.engine import Simulation
from qpud.simulate.measure import measure
from qpud.simulate.trace import SessionTrace
from tests.simulate import queueing as theory
from tests.simulate import scenarios
from tests.simulate.builders import a_policy, figures, sliced
from tests.simulate.queueing import Class, Interval, measure_streams
from tests.simulate.scenarios import EXAMPLE, RATE, SLICE, THREE
from tests.simulate.search import least_waiting

SEEDS = range(20)
WIDENED = 2.861 / 2.093
"""From the 95 % interval of 20 runs to the 99 % one: of so many intervals, one of 95 % would miss by chance."""
GOOD: list[bool] = []

Theory = Callable[[Sequence[Class], int], float]


def line(text: str, value: float, limit: float, unit: str = "", *, at_least: bool = False) -> None:
    good = value >= limit if at_least else value <= limit
    GOOD.append(good)
    print(f"  {text:64} {value:10.4g} {unit:4} ({'>=' if at_least else '<='} {limit:.4g}){'' if good else '  MISSED'}")


def meets(text: str, found: Interval, value: float) -> None:
    """The theory lies in the 99 % interval of 20 runs."""
    half = WIDENED * found.half
    good = abs(found.mean - value) <= half
    GOOD.append(good)
    print(f"  {text:48} {found.mean:8.1f} ± {half:5.1f} s, theory {value:7.1f} s{'' if good else '  MISSED'}")


def example(horizon: float) -> None:
    print("M/D/1 example of FIELD.md, 1 shot/s: production 0.1 of 50 shots, development 0.7 of 500")
    fifo = measure_streams(a_policy("fifo"), EXAMPLE, horizon, SEEDS)
    meets("fifo: production waits", fifo.wait["production"], theory.fifo_wait(EXAMPLE))
    meets("fifo: development waits", fifo.wait["development"], theory.fifo_wait(EXAMPLE))
    plain = measure_streams(a_policy("priority"), EXAMPLE, horizon, SEEDS)
    meets("priority: production waits", plain.wait["production"], theory.cobham_wait(EXAMPLE, 0))
    meets("priority: development waits", plain.wait["development"], theory.cobham_wait(EXAMPLE, 1))
    for seconds, part in ((SLICE, 1.0), (5.0, 0.25)):  # as many slices each
        shared = measure_streams(a_policy("share", sliced(seconds)), EXAMPLE, part * horizon, SEEDS)
        what = f"share, slices of {seconds:g} s: "
        delay = less(shared.turnaround["development"], 500.0)
        meets(what + "production waits", shared.wait["production"], theory.sliced_wait_of_top(EXAMPLE, seconds))
        line(what + "production, 2.8 s and a slice", shared.wait["production"].mean, 2.8 + seconds, "s")
        meets(what + "development", delay, theory.sliced_turnaround_of_last(EXAMPLE, seconds) - 500.0)
        if part == 1.0:  # the same arrivals
            cost = delay.mean / less(plain.turnaround["development"], 500.0).mean
            line(what + "development's delay above priority's", 100 * (cost - 1), 6.0, "%")


def less(found: Interval, seconds: float) -> Interval:
    return Interval(found.mean - seconds, found.half)


def three_classes(horizon: float) -> None:
    print("M/G/1, three tiers of nearly exponential jobs, 0.2 + 0.25 + 0.3 of 10 shots/s")
    cases: tuple[tuple[str, Policy, Theory], ...] = (
        ("fifo", a_policy("fifo", shot_rate=RATE), lambda classes, at: theory.fifo_wait(classes) + classes[at].mean),
        (
            "priority (Cobham)",
            a_policy("priority", shot_rate=RATE),
            lambda classes, at: theory.cobham_wait(classes, at) + classes[at].mean,
        ),
        ("share, REQUEUE (preemptive resume)", scenarios.at_once(shot_rate=RATE), theory.preemptive_turnaround),
    )
    for name, policy, expected in cases:
        found = measure_streams(policy, THREE, horizon, SEEDS)
        for at, one in enumerate(THREE):
            mean = one.mean
            meets(
                f"{name}: {one.queue} waits",
                less(found.turnaround[one.queue], mean),
                expected(THREE, at) - mean,
            )


def makespans() -> None:
    print("Hybrid sessions")
    for number, fraction in ((2, 0.5), (4, 0.25), (8, 0.1)):
        trace = scenarios.equal_hybrids(number, fraction, 1000.0, 100)
        alone = figures(a_policy("exclusive", shot_rate=RATE), trace).resource.wall_seconds
        shared = figures(a_policy("share", shot_rate=RATE), trace).resource.wall_seconds
        least = max(number * fraction, 1.0) * 1000.0
        what = f"{number} of 1000 s, {fraction:g} on the QPU, "
        line(what + "exclusive: off n·T", abs(alone - number * 1000.0), 1e-6, "s")
        line(what + "shared ÷ max(n·f·T, T)", shared / least, 1.03)
    alone = figures(a_policy("exclusive"), scenarios.qoncord(2)).resource.utilisation
    line("Qoncord, exclusive: utilisation off 5/7 = 71.4 %", abs(alone - 5 / 7), 1e-9)
    for number in (2, 3, 5):
        busy = figures(a_policy("share"), scenarios.qoncord(number)).resource.utilisation
        line(f"Qoncord, {number} interleaved: utilisation", busy, 0.99, at_least=True)


def shares() -> None:
    print("Shares of 5, 3 and 2 units, saturated, for an hour")
    for name, make in (
        ("one long job each", scenarios.long_jobs),
        ("short jobs in turn", scenarios.one_after_the_other),
    ):
        result = figures(a_policy("share"), make(), until_seconds=3600.0)
        charged = sum(one.qpu_seconds for one in result.sessions)
        off = max(abs(one.qpu_seconds - charged * scenarios.SHARES[one.id] / 10) for one in result.sessions)
        line(f"{name}: largest error", off, SLICE + 2.0, "s")
        line(f"{name}: Jain's index", result.jain, 0.999, at_least=True)


def production() -> None:
    print("Production above six development sessions that saturate the QPU with jobs of 500 shots")
    for setup, part in ((0.0, 0.1), (2.0, 0.05), (5.0, 0.05)):
        found = {
            name: figures(
                a_policy(name, scenarios.with_overhead(part), setup_seconds=setup),
                scenarios.saturated(400_000.0),
                until_seconds=400_000.0,
            ).queues
            for name in ("priority", "share")
        }
        longest = max(SLICE, setup * (1 - part) / part)
        what = f"set-up {setup:g} s, slices of {longest:g} s: "
        line(what + "production's p99 wait", found["share"]["production"].wait_seconds.p99, longest + setup, "s")
        cost = [found[name]["development"].turnaround_seconds.mean for name in ("priority", "share")]
        line(what + "cost to development", 100 * (cost[1] / cost[0] - 1), 6.0, "%")


def hints(seeds: int) -> None:
    print("Hints")
    runs = [
        [figures(a_policy(name), trace) for name in ("priority", "share")]
        + [figures(a_policy("share"), scenarios.without_hints(trace))]
        for trace in map(scenarios.patterns, range(1, seeds + 1))
    ]
    waiting = [sum(run[at].node_seconds.waiting for run in runs) for at in range(3)]
    busy = [sum(run[at].resource.utilisation for run in runs) / len(runs) for at in range(3)]
    line("patterns A, B and C: waiting node-seconds against priority", 100 * (waiting[1] / waiting[0] - 1), -30.0, "%")
    line("patterns A, B and C: against share without hints", 100 * (waiting[1] / waiting[2] - 1), 0.0, "%")
    line("patterns A, B and C: utilisation less than priority's", busy[0] - busy[1], 0.01)
    for name, make, limit in (
        ("all there", scenarios.waiting_mixes, 1.1),
        ("arriving, the search foresees them", scenarios.coming_mixes, 1.2),
    ):
        traces = list(make(range(4 * seeds)))
        found = sum(figures(a_policy("share"), trace).node_seconds.waiting for trace in traces)
        best = sum(least_waiting(trace, int(SLICE)) for trace in traces)
        line(f"{len(traces)} small mixes, {name}: waiting ÷ optimum", found / best, limit)


def size(slices: int) -> None:
    print(f"Speed: {slices} slices of 50 sessions in three queues, with hints, ten shares and set-up")
    policy, trace = a_policy("share", setup_seconds=0.5), scenarios.million(slices)
    seconds, done = timed(policy, trace)
    line(f"{done} slices: CPU time of one core", seconds, 60.0 * slices / 1_000_000, "s")


def timed(policy: Policy, trace: Sequence[SessionTrace]) -> tuple[float, int]:
    began = time.process_time()
    result = measure(Simulation(policy, trace).run(), "share")
    return time.process_time() - began, result.resource.slices


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="a tenth of everything")
    quick = options.parse_args().quick
    example(200_000.0 if quick else 2_000_000.0)
    three_classes(100_000.0 if quick else 1_000_000.0)
    makespans()
    shares()
    production()
    hints(2 if quick else 10)
    size(100_000 if quick else 1_000_000)
    print(f"{sum(GOOD)} of {len(GOOD)} limits held")
    return int(not all(GOOD))


if __name__ == "__main__":
    raise SystemExit(main())
