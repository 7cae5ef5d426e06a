"""Secrets do not print themselves."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest

from gateway.secret import Secret


def test_a_secret_never_shows_its_content() -> None:
    secret = Secret(b"hunter2")
    for text in (str(secret), repr(secret), f"{secret}", repr({"k": secret})):
        assert "hunter2" not in text
        assert "[redacted]" in text


def test_it_is_named_by_its_digest_and_compared_by_content() -> None:
    assert Secret(b"a").digest == hashlib.sha256(b"a").hexdigest()
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a").reveal() == b"a"


def test_it_cannot_be_pickled_or_copied_by_accident() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Secret(b"a"))
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(b"a"))
