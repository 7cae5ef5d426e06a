"""What a lost source's shard becomes unless something is written; what the policies do is in test_source."""

from discovery.loss import KEEP_FOREVER, LossPolicy, OnLoss


def test_nothing_written_keeps_for_ever():
    assert LossPolicy(OnLoss.KEEP) == KEEP_FOREVER
