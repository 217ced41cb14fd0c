"""Forecasts, against a resource in virtual time that runs the very decisions of the scheduler."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpud.core.forecast import SLACK_SECONDS, Prospect, after, in_words
from qpud.core.forecaster import Forecaster
from qpud.core.job import Job, Reason
from qpud.core.passage import CONFIDENCE
from qpud.core.policy import AccountPolicy, Policy
from qpud.core.reservations import Reservation
from qpud.core.slices import Slice
from qpud.core.terms import FairShareBy, PreemptMode
from qpud.core.turns import begin
from qpud.core.verbs import Forecast
from tests.core.builders import a_policy
from tests.core.machine import RESOURCE, Machine, changed

DEV = changed(a_policy(), "development", slice_seconds=10.0)


class Oracle(Machine):
    """A machine that is asked for forecasts, also while a slice is in flight.

    `starts` and `ends` are what really happened; `promises` what was foreseen at each submission.
    """

    def __init__(self, policy: Policy = DEV, **options: Any) -> None:
        super().__init__(policy, **options)
        self.starts: dict[int, float] = {}
        self.ends: dict[int, float] = {}
        self.promises: dict[int, Forecast] = {}
        self.arrivals: list[tuple[float, Callable[[], object]]] = []

    def foresee(self, job: Job) -> Forecast:
        return Prospect(self.book, RESOURCE, self.now).of(self.book.jobs[job.id])

    def submit(self, session: str, shots: int, queue: str | None = None, **changes: Any) -> Job:
        job = super().submit(session, shots, queue, user_id=self.book.sessions[session].user_id, **changes)
        self.promises[job.id] = self.foresee(job)
        return job

    def take_off(self) -> bool:
        """Begin the next slice; False if nothing waits."""
        choice = self.decide()
        self.book.claim(RESOURCE, choice.job.id if choice else None)
        self.book.leave(RESOURCE)
        if choice is None:
            self.current = None
            return False
        job = begin(self.book, RESOURCE, choice.job.id, self.now)
        self.starts.setdefault(job.id, self.now)
        setup = self.setup if job.register_hash != self._register else 0.0
        self._register = job.register_hash
        tag = f"f{len(self.slices)}"
        self.book.flights[RESOURCE].slice = Slice(
            id=1, job_id=job.id, number=0, resource=RESOURCE, tag=tag, shots=choice.shots, first_shot=job.shots_done,
            seed=0, intended_at=self.now,
        )  # fmt: skip
        self._flying = (choice, self.now, setup)
        return True

    def touch_down(self) -> None:
        """End the slice in flight; who arrives meanwhile arrives meanwhile."""
        choice, began, setup = self._flying
        ends = began + setup + choice.shots / self.rate
        self._let_in(ends)
        self.now = ends
        job = self.book.jobs[choice.job.id]
        self._land(job, choice, began, setup, False)
        self.book.flights[RESOURCE].slice = None
        if self.current is None:
            self.ends[job.id] = self.now

    def play(self) -> None:
        """Until nothing is left and nobody comes."""
        self.arrivals.sort(key=lambda arrival: arrival[0])
        while True:
            if self.take_off():
                self.touch_down()
            elif self.arrivals:
                self._let_in(self.arrivals[0][0])
            else:
                return

    def _let_in(self, until: float) -> None:
        while self.arrivals and self.arrivals[0][0] <= until:
            at, arrive = self.arrivals.pop(0)
            self.now = max(self.now, at)
            arrive()


def times(forecast: Forecast) -> tuple[float | None, float | None]:
    return forecast.start, forecast.end


def test_a_job_alone_starts_now_and_ends_after_its_shots() -> None:
    oracle = Oracle(rate=2.0, setup=5.0)
    oracle.session("a")
    forecast = oracle.foresee(oracle.submit("a", 100))
    assert times(forecast) == (1.0, 1.0 + 5.0 + 50.0)
    assert forecast.reason == "TWIN is free"


def test_a_simulated_resource_that_is_sped_up_is_foreseen_in_time_of_the_clock() -> None:
    oracle = Oracle()
    oracle.book.flights[RESOURCE].pace.wall = 0.1
    oracle.session("a")
    assert times(oracle.foresee(oracle.submit("a", 100))) == (1.0, 11.0)


# -- a slice without a worker
def a_slice_without_a_worker(shots: int = 100) -> tuple[Oracle, Job]:
    """It has waited for a thousand seconds."""
    oracle = Oracle(changed(a_policy(), "development", slice_seconds=1000.0))
    oracle.session("a")
    job = oracle.submit("a", shots)
    oracle.take_off()
    oracle.book.flights[RESOURCE].see_worker(is_missing=True, now=oracle.now)
    oracle.now += 1000.0
    return oracle, job


def test_a_slice_that_waits_for_a_worker_is_not_expected_to_be_over() -> None:
    oracle, job = a_slice_without_a_worker()
    behind = oracle.submit("a", 50)
    forecasts = [oracle.foresee(one) for one in (job, behind)]
    assert [times(forecast) for forecast in forecasts] == [(None, 1101.0), (1101.0, 1151.0)]
    assert [forecast.end_latest for forecast in forecasts] == [None, None]  # nobody knows when it gets one
    assert all("waits for a worker" in forecast.reason for forecast in forecasts)


def test_a_slice_that_was_cut_without_a_worker_leaves_a_free_resource_with_bounds() -> None:
    oracle, job = a_slice_without_a_worker()
    oracle.book.claim(RESOURCE, None)
    oracle.book.leave(RESOURCE)
    oracle.book.flights[RESOURCE].slice = None
    assert oracle.foresee(job).end_latest is not None


def test_a_higher_tier_does_not_wait_for_a_slice_without_a_worker() -> None:
    oracle, _job = a_slice_without_a_worker()
    oracle.session("p", queue="production")
    forecast = oracle.foresee(oracle.submit("p", 10))
    assert (*times(forecast), forecast.start_latest) == (1001.0, 1011.0, None)


def test_the_end_of_a_slice_is_reckoned_from_when_it_got_its_worker() -> None:
    oracle, job = a_slice_without_a_worker()
    oracle.book.flights[RESOURCE].see_worker(is_missing=False, now=oracle.now)
    oracle.now += 40.0
    assert oracle.foresee(job).end == 1001.0 + 100.0
    oracle.book.flights[RESOURCE].see_worker(is_missing=True, now=oracle.now)  # its node was lost
    assert oracle.foresee(job).end == oracle.now + 100.0


def test_the_next_slice_is_not_reckoned_from_the_worker_of_the_one_before() -> None:
    oracle, job = a_slice_without_a_worker(2000)
    oracle.book.flights[RESOURCE].see_worker(is_missing=False, now=oracle.now)
    oracle.touch_down()
    oracle.now = 5000.0
    oracle.take_off()
    assert oracle.foresee(job).end == 6000.0


@pytest.mark.parametrize("state", ["down", "drained"])
def test_a_job_whose_resource_takes_nothing_more_is_told_so_and_not_that_it_runs(state: str) -> None:
    oracle, job = a_slice_without_a_worker()
    flight = oracle.book.flights[RESOURCE]
    if state == "down":
        flight.state, flight.message = "down", "no worker starts: invalid partition"
    else:
        flight.drained = "laser service"
    forecast = oracle.foresee(job)
    assert times(forecast) == (None, None)
    assert forecast.reason.startswith(f"TWIN is {state} (")


def test_a_higher_tier_waits_for_the_slice_in_flight_only() -> None:
    oracle = Oracle()
    oracle.session("a")
    oracle.submit("a", 1000)
    oracle.take_off()
    oracle.now += 4.0
    oracle.session("p", queue="production")
    forecast = oracle.foresee(oracle.submit("p", 50))
    assert times(forecast) == (11.0, 61.0)
    assert forecast.reason == "6 s of job 1, which has TWIN"


def test_a_slice_that_may_be_cut_is_not_waited_for() -> None:
    oracle = Oracle(changed(DEV, "development", preempt_mode=PreemptMode.REQUEUE, grace_time=2.0))
    oracle.session("a")
    oracle.submit("a", 1000)
    oracle.take_off()
    oracle.session("p", queue="production")
    assert oracle.foresee(oracle.submit("p", 50)).start == 3.0


def test_a_job_that_is_not_preempted_is_waited_for_to_its_end() -> None:
    oracle = Oracle()
    oracle.session("p", queue="production")
    oracle.submit("p", 500)
    oracle.take_off()
    oracle.session("a")
    assert oracle.foresee(oracle.submit("a", 50)).start == 501.0


def test_what_waits_in_higher_tiers_goes_first() -> None:
    oracle = Oracle()
    oracle.session("p", queue="production")
    oracle.submit("p", 600)
    oracle.submit("p", 600)
    oracle.session("a")
    forecast = oracle.foresee(oracle.submit("a", 50))
    assert forecast.start is not None
    assert forecast.start >= 1201.0
    assert forecast.reason.startswith("20 min of higher tiers")


def test_jobs_of_one_session_go_one_after_the_other() -> None:
    oracle = Oracle()
    oracle.session("a")
    first, second = oracle.submit("a", 300), oracle.submit("a", 100)
    assert (times(oracle.foresee(first)), times(oracle.foresee(second))) == ((1.0, 301.0), (301.0, 401.0))


def test_contenders_with_5_3_and_2_units_end_as_their_shares_have_it() -> None:
    """Fluid: b's 300 and a's 500 seconds are done together at 1000, and c's 200 too."""
    oracle = Oracle()
    jobs = {}
    for name, share, shots in (("a", 5, 500), ("b", 3, 300), ("c", 2, 200)):
        oracle.session(name, share=share)
        jobs[name] = oracle.submit(name, shots)
    ends = {name: oracle.foresee(job).end for name, job in jobs.items()}
    assert ends == {name: pytest.approx(1001.0, abs=30.0) for name in jobs}
    assert oracle.foresee(jobs["a"]).reason == "2 others of its tier share TWIN, 50 % is its part"


def test_who_needs_little_is_done_long_before_who_needs_much() -> None:
    oracle = Oracle()
    oracle.session("a")
    oracle.session("b")
    oracle.submit("a", 1000)
    little = oracle.foresee(oracle.submit("b", 100))
    assert little.end == pytest.approx(201.0, abs=15.0)
    oracle.play()
    assert oracle.ends[2] == pytest.approx(201.0, abs=15.0)


def test_accounts_share_before_their_users_do() -> None:
    """chem has three quarters: its one user's 300 seconds take 400, those of four phys users the rest."""
    policy = changed(DEV, fair_share_by=FairShareBy.ACCOUNT)
    shares = {"chem": AccountPolicy(name="chem", shares=3.0), "phys": AccountPolicy(name="phys", shares=1.0)}
    oracle = Oracle(msgspec.structs.replace(policy, accounts=shares))
    for number in range(4):
        oracle.session(f"p{number}", account="phys", user=f"p{number}")
        oracle.submit(f"p{number}", 300)
    oracle.session("c", account="chem", user="c")
    forecast = oracle.foresee(oracle.submit("c", 300))
    assert forecast.end == pytest.approx(401.0, abs=20.0)
    oracle.play()
    assert oracle.ends[5] == pytest.approx(forecast.end, abs=20.0)
    assert all(oracle.ends[job] == pytest.approx(1470.0, abs=60.0) for job in range(1, 5))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 2.0]))
def test_while_nobody_comes_every_job_starts_and_ends_no_later_than_at_the_latest(seed: int, setup: float) -> None:
    dice = random.Random(seed)
    oracle = Oracle(setup=setup)
    for number in range(dice.randint(1, 6)):
        oracle.session(f"s{number}", share=dice.randint(1, 10))
        for _ in range(dice.randint(1, 4)):
            oracle.submit(f"s{number}", dice.randint(1, 80), register_hash=f"r{number}")
    foreseen = Prospect(oracle.book, RESOURCE, oracle.now).all()
    oracle.play()
    for job_id, forecast in foreseen.items():
        assert oracle.starts[job_id] <= (forecast.start_latest or 0.0)
        assert oracle.ends[job_id] <= (forecast.end_latest or 0.0)


def some_user(dice: random.Random, oracle: Oracle, queue: str, users: int, seconds: float) -> Callable[[], None]:
    """A user who opens a session, or uses the one that he has, for one to three jobs."""

    def arrive() -> None:
        user = dice.randrange(users)
        name = f"{queue} {user}"
        if name not in oracle.book.sessions:
            oracle.session(name, queue=queue, user_id=user)
        for _ in range(dice.randint(1, 3)):
            oracle.submit(name, dice.randint(1, round(seconds)))

    return arrive


def random_arrivals(seed: int, policy: Policy, hours: float = 60.0) -> Oracle:
    """Production keeps the resource busy a tenth of the time, development six tenths."""
    dice = random.Random(seed)
    oracle = Oracle(policy)
    for queue, load, users, seconds in (("production", 0.1, 4, 100.0), ("development", 0.6, 12, 500.0)):
        at = 0.0
        while (at := at + dice.expovariate(load / seconds)) < hours * 3600:
            oracle.arrivals.append((at, some_user(dice, oracle, queue, users, seconds)))
    oracle.play()
    return oracle


@pytest.mark.parametrize("scheduler", ["share", "priority", "fifo"])
@pytest.mark.parametrize("seed", [1, 2])
def test_with_random_arrivals_the_latest_start_holds_as_often_as_it_says(seed: int, scheduler: str) -> None:
    oracle = random_arrivals(seed, changed(DEV, scheduler_type=scheduler))
    kept = [oracle.starts[job] <= (forecast.start_latest or 0.0) for job, forecast in oracle.promises.items()]
    assert len(kept) > 500
    assert sum(kept) / len(kept) >= CONFIDENCE


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_with_random_arrivals_about_as_many_jobs_start_before_the_typical_start_as_after(seed: int) -> None:
    oracle = random_arrivals(seed, DEV)
    off = [oracle.starts[job] - (forecast.start or 0.0) for job, forecast in oracle.promises.items()]
    before, after_it = sum(one < -1.0 for one in off) / len(off), sum(one > 1.0 for one in off) / len(off)
    assert 0.25 <= before + (1.0 - before - after_it) / 2 <= 0.75


@pytest.mark.parametrize("seed", [1, 2])
def test_a_forecast_is_nearer_to_the_truth_than_what_waits_is(seed: int) -> None:
    """The sum of all work before a job is what a naive forecast says."""
    oracle = Oracle(DEV)
    dice = random.Random(seed)
    naive: list[float] = []
    for number in range(40):
        oracle.session(f"s{number}", share=dice.randint(1, 10))
        waits = sum(job.shots_left for job in oracle.book.jobs.values())
        naive.append(oracle.now + waits)
        oracle.submit(f"s{number}", dice.randint(10, 400))
        if oracle.take_off():
            oracle.touch_down()
    oracle.play()
    found = [abs(oracle.starts[job] - (one.start or 0.0)) for job, one in oracle.promises.items()]
    assert sum(found) < 0.25 * sum(abs(oracle.starts[job] - naive[job - 1]) for job in oracle.promises)


@pytest.mark.parametrize(("scheduler", "start"), [("fifo", 601.0), ("priority", 201.0), ("exclusive", 601.0)])
def test_where_jobs_run_whole_what_goes_before_them_is_summed_up(scheduler: str, start: float) -> None:
    oracle = Oracle(changed(DEV, scheduler_type=scheduler))
    oracle.session("a")
    oracle.session("p", queue="production")
    oracle.submit("a", 200)
    oracle.take_off()
    oracle.submit("a", 400)
    assert oracle.foresee(oracle.submit("p", 50)).start == start


def test_nobody_knows_how_long_a_session_keeps_the_resource() -> None:
    oracle = Oracle(changed(DEV, scheduler_type="exclusive"))
    for name in ("a", "b"):
        oracle.session(name)
        oracle.submit(name, 100)
    oracle.take_off()
    theirs = oracle.foresee(oracle.book.jobs[2])
    assert (theirs.start, theirs.start_latest) == (101.0, None)


def test_a_site_s_own_order_has_no_latest_start() -> None:
    class Shortest:
        runs_whole = True

        def key(self, job: Job, session: object, tier: int) -> tuple[int]:
            return (job.shots,)

    oracle = Oracle(changed(DEV, scheduler_type="site:Shortest"), rule=Shortest())
    oracle.session("a")
    oracle.submit("a", 10)
    forecast = oracle.foresee(oracle.submit("a", 20))
    assert (forecast.start, forecast.start_latest) == (11.0, None)


def test_a_job_that_has_started_has_an_end_only() -> None:
    oracle = Oracle()
    oracle.session("a")
    job = oracle.submit("a", 100)
    oracle.take_off()
    oracle.now += 3.0
    assert times(oracle.foresee(job)) == (None, 101.0)


@pytest.mark.parametrize(
    ("reason", "words"),
    [(Reason.HELD, "it is held by its user"), (Reason.VALIDATING, "its sequence is being checked")],
)
def test_of_a_job_that_may_not_run_nobody_knows(reason: Reason, words: str) -> None:
    oracle = Oracle()
    oracle.session("a")
    job = oracle.submit("a", 100)
    oracle.book.update_job(msgspec.structs.replace(job, reason=reason))
    forecast = oracle.foresee(job)
    assert (forecast.start, forecast.end) == (None, None)
    assert forecast.reason.startswith(words)


def test_of_a_drained_resource_nobody_knows() -> None:
    oracle = Oracle()
    oracle.session("a")
    oracle.book.flights[RESOURCE].drained = "laser alignment"
    forecast = oracle.foresee(oracle.submit("a", 100))
    assert (forecast.start, forecast.reason) == (None, "TWIN is drained (laser alignment)")


def test_of_a_resource_that_is_down_nobody_knows() -> None:
    oracle = Oracle()
    oracle.session("a")
    oracle.book.flights[RESOURCE].state = "down"
    assert oracle.foresee(oracle.submit("a", 100)).start is None


def reserved(oracle: Oracle, user: str) -> None:
    oracle.book.reservations["r"] = Reservation(
        name="r", resource=RESOURCE, starts_at=101.0, ends_at=1101.0, users=(user,)
    )


def test_a_reservation_of_others_pushes_a_job_back() -> None:
    oracle = Oracle()
    oracle.session("a")
    reserved(oracle, "bob")
    first, second = oracle.submit("a", 50), oracle.submit("a", 100)
    assert times(oracle.foresee(first)) == (1.0, 51.0)
    assert times(oracle.foresee(second)) == (51.0, 1151.0)


def test_a_reservation_of_one_s_own_is_no_obstacle() -> None:
    oracle = Oracle()
    oracle.session("a", user="bob")
    reserved(oracle, "bob")
    oracle.submit("a", 150)
    assert oracle.foresee(oracle.submit("a", 100)).start == 151.0


def test_windows_that_are_over_cost_nothing() -> None:
    assert after(10.0, 12.0, [(0.0, 5.0), (11.0, 20.0), (21.5, 22.0), (30.0, 40.0)]) == pytest.approx(21.0)


@pytest.mark.parametrize("scheduler", ["share", "priority", "exclusive"])
def test_all_forecasts_at_once_are_those_of_each_job(scheduler: str) -> None:
    oracle = Oracle(changed(DEV, scheduler_type=scheduler), setup=2.0)
    dice = random.Random(3)
    for number in range(5):
        oracle.session(f"s{number}", share=number + 1, queue=dice.choice(["production", "development"]))
        for _ in range(5):
            oracle.submit(f"s{number}", dice.randint(1, 99), register_hash=dice.choice("pq"))
    prospect = Prospect(oracle.book, RESOURCE, oracle.now)
    one_by_one = {job.id: prospect.of(job) for job in oracle.book.jobs.values()}
    in_order = [oracle.book.jobs[job_id] for job_id in oracle.book.pending[RESOURCE].in_order(100)]
    assert prospect.all() == one_by_one
    assert prospect.in_order(in_order) == [one_by_one[job.id] for job in in_order]


@pytest.mark.parametrize("scheduler", ["share", "priority", "exclusive"])
def test_a_prospect_foresees_who_comes_later_as_if_he_had_been_there(scheduler: str) -> None:
    oracle = Oracle(changed(DEV, scheduler_type=scheduler))
    for name in ("a", "b"):
        oracle.session(name)
        oracle.submit(name, 100)
    before = Prospect(oracle.book, RESOURCE, oracle.now)
    oracle.session("late")
    late = oracle.submit("late", 50)
    now = oracle.foresee(late)
    assert times(before.of(late)) == (pytest.approx(now.start, rel=0.01), pytest.approx(now.end, rel=0.01))


def test_the_jobs_of_a_scan_are_foreseen_as_if_each_one_were_worked_out() -> None:
    oracle = Oracle()
    for name in ("a", "b", "c"):
        oracle.session(name)
        for _ in range(100):
            oracle.submit(name, 100)
    prospect = Prospect(oracle.book, RESOURCE, oracle.now)
    for _ in range(20):
        job = oracle.submit("b", 100)
        told, worked_out = prospect.of_newest(job), prospect.of(job)
        assert times(told) == (pytest.approx(worked_out.start, rel=0.02), pytest.approx(worked_out.end, rel=0.02))
        assert told.start_latest == pytest.approx(worked_out.start_latest, rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (119, "119 s"), (720, "12 min"), (10_800, "3 h"), (400_000, "5 days")]
)
def test_durations_are_told_as_people_tell_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# -- the one who remembers what was promised
def a_waiting_job() -> tuple[Oracle, Forecaster, Job]:
    oracle = Oracle()
    oracle.session("a")
    oracle.submit("a", 100)
    job = oracle.submit("a", 50)
    forecaster = Forecaster(oracle.book)
    forecaster.promise(job, oracle.now)
    return oracle, forecaster, job


def test_a_job_that_starts_as_promised_keeps_the_promise() -> None:
    _oracle, forecaster, job = a_waiting_job()
    assert forecaster.outcome(job, 101.5) == (0.5, True)


def test_a_job_that_starts_too_late_breaks_the_promise() -> None:
    _oracle, forecaster, job = a_waiting_job()
    assert forecaster.outcome(job, 101.1 + SLACK_SECONDS) == (pytest.approx(0.1 + SLACK_SECONDS), False)


def test_a_promise_is_judged_once() -> None:
    _oracle, forecaster, job = a_waiting_job()
    forecaster.outcome(job, 101.0)
    assert forecaster.outcome(job, 101.0) is None


def test_a_job_that_is_held_was_promised_nothing() -> None:
    oracle, forecaster, job = a_waiting_job()
    oracle.book.update_job(msgspec.structs.replace(job, reason=Reason.HELD))
    assert forecaster.outcome(job, 101.0) is None


def test_a_job_that_has_ended_leaves_no_promise_behind() -> None:
    oracle, _forecaster, job = a_waiting_job()
    oracle.book.update_job(msgspec.structs.replace(job, state="CANCELED"))
    assert oracle.book.promises == {}


def test_a_job_that_has_ended_has_no_forecast() -> None:
    oracle, forecaster, job = a_waiting_job()
    oracle.book.update_job(msgspec.structs.replace(job, state="CANCELED"))
    assert forecaster.of(job, oracle.now) is None


def test_a_resource_that_left_the_policy_has_no_forecast_but_a_reason() -> None:
    oracle, forecaster, job = a_waiting_job()
    del oracle.book.flights[RESOURCE]
    forecast = forecaster.of(job, oracle.now)
    assert forecast is not None
    assert (forecast.start, forecast.reason) == (None, "resource TWIN is not configured any more")


def test_a_reload_of_the_policy_makes_forecasts_anew() -> None:
    oracle, forecaster, job = a_waiting_job()
    oracle.book.reorder(changed(DEV, scheduler_type="fifo"))
    forecast = forecaster.of(job, oracle.now)
    assert forecast is not None
    assert forecast.reason.endswith("of jobs before it")


def test_forecasts_follow_a_clock_that_is_set_back() -> None:
    oracle, forecaster, job = a_waiting_job()
    forecast = forecaster.of(job, oracle.now - 1000.0)
    assert forecast is not None
    assert forecast.start == oracle.now - 1000.0 + 100.0
