"""fitness: ejection, silence and the way back, step by step."""

import pytest
from upstream_traffic import FEDGATE_OUTLIER, fedgate_backend, near_and_far

from gateway.engine import Ejected, Restored
from gateway.native.fitness import PATIENCE, Fitness
from gateway.native.host import Host
from gateway.native.shared import Shared
from gateway.policy.failure import Failure
from gateway.snapshot import Outlier, Silence


class Bystander:
    def evict(self, host: Host) -> None:
        raise AssertionError("Fitness only lists who is to be told")


class Bench:
    """A Fitness of two near and two far hosts, with requests put on them by hand."""

    def __init__(self, shared: Shared | None = None, **changes: object) -> None:
        self.reports: list[object] = []
        self.fitness = Fitness(fedgate_backend(**changes), shared, self.reports)
        self.fitness.hosts = [Host("b", endpoint, 0.0) for endpoint in near_and_far()]
        self.near0, self.near1, self.far0, self.far1 = self.fitness.hosts
        for host in self.fitness.hosts:
            for _ in range(50):
                host.latencies.record(0.002)

    def give(self, host: Host, *times: float) -> list[Bystander]:
        waiters = [Bystander() for _ in times]
        host.waiting.update(zip(waiters, times, strict=True))
        return waiters

    def answer(self, host: Host, waiter: Bystander, now: float, status: int = 200) -> None:
        del host.waiting[waiter]
        host.last_answer = now
        self.fitness.answered(host, status, now)

    def tick(self, now: float) -> None:
        self.fitness.tick(now, busy=True)

    def out(self) -> list[str]:
        return [host.id for host in self.fitness.hosts if host.out]


# --------------------------------------------------------------------------------------------------------- silence


def test_three_waiting_and_nothing_answered_for_the_floor_is_silence():
    bench = Bench()
    waiters = bench.give(bench.near0, 10.0, 10.05, 10.25)
    bench.tick(10.49)
    assert bench.out() == []
    bench.tick(10.5)
    assert bench.out() == ["near0"]
    assert bench.fitness.evictions == [(waiter, bench.near0) for waiter in waiters]
    assert bench.reports == [Ejected("b", "near0", "silence", 5000)]


def test_the_limit_is_ten_times_its_own_p99_and_of_a_new_endpoint_that_of_its_neighbours():
    bench = Bench()
    for host in bench.fitness.hosts[1:]:
        for _ in range(500):
            host.latencies.record(0.1)
    fresh = bench.near0
    fresh.latencies = type(fresh.latencies)()
    bench.give(fresh, 10.0, 10.0, 10.0)
    bench.tick(10.6)
    assert bench.out() == []
    bench.tick(11.2)
    assert bench.out() == ["near0"]


def test_requests_from_before_its_last_answer_are_no_evidence():
    bench = Bench()
    *_, last = bench.give(bench.near0, 10.0, 10.0, 10.0, 10.4)
    bench.answer(bench.near0, last, 10.41)
    bench.tick(30.0)
    assert bench.out() == []
    assert bench.fitness.asking == []


def test_a_doubted_endpoint_is_asked_until_enough_wait_and_no_more_once_it_answers():
    bench = Bench()
    bench.give(bench.near0, 10.0)
    bench.tick(10.2)
    assert bench.fitness.asking == []
    bench.tick(10.25)
    assert bench.fitness.ask(10.25, repeatable=False) is None
    assert bench.fitness.ask(10.25, repeatable=True) is bench.near0
    (asked,) = bench.give(bench.near0, 10.25)
    bench.answer(bench.near0, asked, 10.252)
    assert bench.fitness.asking == []
    assert bench.fitness.ask(10.26, repeatable=True) is None


def test_a_doubted_endpoint_that_answers_none_of_what_it_is_asked_is_silent():
    bench = Bench()
    bench.give(bench.near0, 10.0)
    bench.tick(10.25)
    for _ in range(2):
        assert bench.fitness.ask(10.26, repeatable=True) is bench.near0
        bench.give(bench.near0, 10.26)
    assert bench.fitness.ask(10.26, repeatable=True) is None
    assert bench.fitness.doubtful(bench.near0, 10.3)
    assert not bench.fitness.doubtful(bench.near1, 10.3)
    bench.tick(10.5)
    assert bench.out() == []  # those asked have not had half the limit
    bench.tick(10.51)
    assert bench.out() == ["near0"]


def test_without_silence_in_the_backend_nothing_is_judged():
    bench = Bench(silence=None)
    bench.give(bench.near0, 10.0, 10.0, 10.0)
    bench.tick(99.0)
    assert bench.out() == []
    assert not bench.fitness.doubtful(bench.near0, 99.0)


def test_a_connect_timeout_ejects_unless_something_answered_meanwhile():
    bench = Bench()
    bench.near1.last_answer = 9.5
    bench.fitness.failed(bench.near1, Failure.CONNECT_TIMEOUT, 10.0)
    assert bench.out() == []
    bench.fitness.failed(bench.near0, Failure.CONNECT_TIMEOUT, 10.0)
    assert bench.out() == ["near0"]
    assert bench.reports == [Ejected("b", "near0", "connect-timeout", 5000)]


@pytest.mark.parametrize("failure", [Failure.SILENCE, Failure.RESET_UNSENT])
def test_what_is_no_new_fault_is_not_counted(failure):
    bench = Bench()
    for _ in range(20):
        bench.fitness.failed(bench.near0, failure, 10.0)
    assert bench.out() == []


# ---------------------------------------------------------------------------------------------------- the way back


def stopped(bench: Bench, *, at: float = 10.0) -> None:
    bench.give(bench.near0, at, at, at)
    bench.tick(at + 0.5)
    assert bench.near0.ejected
    bench.near0.waiting.clear()


def test_back_only_at_a_sweep_and_then_half_open_one_request_at_a_time():
    bench = Bench()
    stopped(bench)  # until 15.5; sweeps at 10.5, 11.5 …
    for tenth in range(106, 155):
        bench.tick(tenth / 10)
    assert bench.near0.ejected
    bench.tick(15.5)
    assert (bench.near0.ejected, bench.near0.half_open, bench.near0.out) == (False, True, True)
    assert bench.fitness.ask(15.6, repeatable=True) is bench.near0
    (probe,) = bench.give(bench.near0, 15.6)
    bench.tick(16.0)
    bench.tick(16.05)
    assert bench.fitness.ask(16.05, repeatable=True) is None
    bench.answer(bench.near0, probe, 16.06)
    assert not bench.near0.out
    assert bench.reports[-1] == Restored("b", "near0")


def test_one_request_is_enough_to_find_it_still_silent_and_it_stays_out_longer():
    bench = Bench()
    stopped(bench)
    bench.tick(15.5)
    bench.give(bench.near0, 15.6)
    bench.tick(16.09)
    assert bench.near0.half_open
    bench.tick(16.1)
    assert bench.near0.ejected
    assert bench.reports[-1] == Ejected("b", "near0", "silence", 10_000)


def test_what_still_waits_from_before_is_no_evidence_against_the_one_that_returns():
    bench = Bench()
    stopped(bench)
    bench.give(bench.near0, 10.1, 10.2)  # unsafe to repeat: they were left there
    bench.tick(15.5)
    bench.tick(17.0)
    assert bench.near0.half_open
    assert bench.fitness.ask(17.0, repeatable=True) is bench.near0


def test_a_probe_that_was_cancelled_is_followed_by_another():
    bench = Bench()
    stopped(bench)
    bench.tick(15.5)
    assert bench.fitness.ask(15.6, repeatable=True) is bench.near0
    assert bench.fitness.ask(15.7, repeatable=True) is None
    bench.tick(16.5)
    assert bench.fitness.ask(16.6, repeatable=True) is bench.near0


def test_a_half_open_endpoint_that_refuses_is_out_again_at_once():
    bench = Bench()
    stopped(bench)
    bench.tick(15.5)
    bench.fitness.failed(bench.near0, Failure.CONNECT, 15.6)
    assert bench.reports[-1] == Ejected("b", "near0", "silence", 10_000)


def test_only_after_a_while_is_a_request_sent_that_is_not_safe_to_repeat():
    bench = Bench()
    stopped(bench)
    bench.tick(15.5)
    assert bench.fitness.ask(15.5 + PATIENCE - 0.1, repeatable=False) is None
    assert bench.fitness.ask(15.5 + PATIENCE, repeatable=False) is bench.near0


def test_an_endpoint_that_is_down_or_known_unhealthy_is_not_asked():
    bench = Bench()
    stopped(bench)
    bench.tick(15.5)
    bench.near0.down = True
    assert bench.fitness.ask(15.6, repeatable=True) is None


def test_an_answer_of_one_ejected_for_silence_brings_it_back_at_once():
    bench = Bench()
    left, *_ = bench.give(bench.near0, 10.0, 10.0, 10.0)
    bench.tick(10.5)
    bench.answer(bench.near0, left, 11.0)
    assert not bench.near0.out
    assert bench.reports[-1] == Restored("b", "near0")


def test_one_ejected_for_its_answers_is_not_brought_back_by_an_answer_and_needs_no_probe():
    bench = Bench(outlier=Outlier(consecutive_5xx=2, interval_ms=1000, base_ejection_ms=5000, max_ejection_percent=100))
    (left,) = bench.give(bench.near0, 9.9)
    bench.tick(9.9)
    for _ in range(2):
        bench.fitness.answered(bench.near0, 500, 10.0)
    assert bench.near0.ejected
    bench.answer(bench.near0, left, 10.5)
    assert bench.near0.ejected
    bench.tick(15.0)
    assert not bench.near0.out


def test_the_time_out_grows_with_each_and_falls_with_each_sweep_in_service():
    bench = Bench()
    lengths = []
    now = 10.0
    for _ in range(3):
        bench.fitness.eject(bench.near0, "consecutive-5xx", now)
        lengths.append(bench.reports[-1].for_ms)
        now += 60
        bench.tick(now)  # back; the same sweep does not count as one in service
        assert not bench.near0.out
    assert lengths == [5000, 10_000, 15_000]
    for _ in range(2):
        now += 1
        bench.tick(now)
    bench.fitness.eject(bench.near0, "consecutive-5xx", now)
    assert bench.reports[-1].for_ms == 10_000


def test_latencies_are_rolled_at_sweeps():
    bench = Bench()
    for _ in range(500):
        bench.near0.latencies.record(3.0)
    for second in range(1, 12):
        bench.tick(float(second))
    for _ in range(500):
        bench.near0.latencies.record(0.001)
    for second in range(12, 25):
        bench.tick(float(second))
    assert bench.near0.latencies.percentile(99) < 0.01


def test_who_is_forgotten_is_neither_asked_nor_out_for_others():
    shared = Shared.create(1)
    mine = Shared.attach(shared.fd, 0)
    bench = Bench(mine)
    bench.fitness.eject(bench.near0, "silence", 10.0)
    assert mine.ejections()
    bench.fitness.forget(bench.near0)
    assert not mine.ejections()
    mine.close()
    shared.close()


# -------------------------------------------------------------------------------------------------- other workers


@pytest.fixture
def two():
    shared = Shared.create(2)
    views = [Shared.attach(shared.fd, number) for number in range(2)]
    yield [Bench(view) for view in views]
    for view in views:
        view.close()
    shared.close()


def look(bench: Bench, now: float) -> None:
    assert bench.fitness.shared is not None
    found = bench.fitness.shared.ejections()
    for host in bench.fitness.hosts:
        bench.fitness.seen(host, found.get(host.shared_key), now)


def test_silence_seen_by_one_worker_evicts_what_waits_in_the_other(two):
    one, other = two
    (waiter,) = other.give(other.near0, 10.4)
    one.fitness.eject(one.near0, "silence", 10.5)
    look(other, 10.5)
    assert other.out() == ["near0"]
    assert other.fitness.evictions == [(waiter, other.near0)]
    assert other.reports == []  # the worker that ejected has said so


def test_when_it_ends_there_the_other_worker_finds_out_by_itself(two):
    one, other = two
    one.fitness.eject(one.near0, "silence", 10.5)
    look(other, 10.5)
    one.tick(16.0)
    look(other, 16.0)
    assert other.near0.half_open
    assert other.fitness.ask(16.1, repeatable=True) is other.near0


def test_an_ejection_whose_worker_hangs_ends_some_time_after_its_time(two):
    one, other = two
    one.fitness.eject(one.near0, "silence", 10.0)
    look(other, 10.0)
    other.tick(15.5)
    assert other.near0.ejected
    other.tick(17.5)
    assert not other.near0.ejected


def test_both_may_hold_one_and_it_is_out_until_the_last_lets_go(two):
    one, other = two
    one.fitness.eject(one.near0, "consecutive-5xx", 10.0)
    other.fitness.eject(other.near0, "consecutive-5xx", 12.0)
    look(one, 12.0)
    look(other, 12.0)
    one.tick(15.5)
    look(one, 15.5)
    assert one.near0.ejected
    other.tick(17.5)
    look(one, 17.5)
    assert not one.near0.ejected


def test_the_lower_number_does_not_withdraw_nor_does_an_old_ejection():
    shared = Shared.create(2)
    policy = Outlier(max_ejection_percent=25, base_ejection_ms=60_000)
    one, other = (Bench(Shared.attach(shared.fd, number), outlier=policy) for number in range(2))
    other.fitness.eject(other.far0, "consecutive-5xx", 10.0)
    one.fitness.eject(one.near0, "consecutive-5xx", 20.0)  # has not looked for long
    look(one, 20.0)
    look(other, 20.0)
    assert one.near0.own
    assert other.far0.own
    shared.close()


# --------------------------------------------------------------------------------------------------- configuration


def test_changed_policies_apply_from_then_on():
    bench = Bench()
    bench.fitness.configure(fedgate_backend(outlier=FEDGATE_OUTLIER, silence=Silence(floor_ms=2000)))
    bench.give(bench.near0, 10.0, 10.0, 10.0)
    bench.tick(11.9)
    assert bench.out() == []
    bench.tick(12.0)
    assert bench.out() == ["near0"]
