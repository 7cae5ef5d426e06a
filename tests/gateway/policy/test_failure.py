"""failure: which failures say that nothing was sent."""

from gateway.policy.failure import Failure


def test_never_sent_are_those_that_may_always_be_repeated():
    assert {failure for failure in Failure if failure.never_sent} == {
        Failure.CONNECT,
        Failure.CONNECT_TIMEOUT,
        Failure.REFUSED_STREAM,
        Failure.RESET_UNSENT,
    }
