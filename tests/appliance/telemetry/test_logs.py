"""Logs are one JSON line an event when stderr is no terminal, and the level can be changed."""

import json
import os

import pytest
import structlog

from appliance.telemetry import logs


@pytest.fixture(autouse=True)
def _restore():
    yield
    structlog.reset_defaults()


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_an_event_is_one_json_line_with_its_keys(capsys):
    logs.configure("worker")
    structlog.get_logger("x").info("endpoint.ejected", backend="b", reason="silence")
    (line,) = lines(capsys)
    assert (line["event"], line["backend"], line["process"], line["level"]) == ("endpoint.ejected", "b", "worker", "info")
    assert line["timestamp"].endswith("Z")


def test_the_level_can_be_changed_for_loggers_that_exist(capsys):
    logs.configure("worker")
    log = structlog.get_logger("x")
    log.debug("first")
    logs.set_level("debug")
    log.debug("second")
    assert [line["event"] for line in lines(capsys)] == ["second"]


def test_the_environment_names_a_level_and_a_wrong_one_is_said(capsys, monkeypatch):
    monkeypatch.setenv("FEDGATE_LOG", "error")
    logs.configure("worker")
    structlog.get_logger("x").info("quiet")
    assert lines(capsys) == []
    monkeypatch.setenv("FEDGATE_LOG", "loud")
    logs.configure("worker")
    (line,) = lines(capsys)
    assert "FEDGATE_LOG: log level 'loud' does not exist; choose one of debug" in line["error"]


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="choose one of"):
        logs.set_level("loud")


def test_an_access_log_and_events_in_one_file_do_not_overwrite_each_other(tmp_path):
    path = tmp_path / "log"
    events = os.open(path, os.O_WRONLY | os.O_CREAT)  # as a shell's `> log 2>&1`
    reopened = os.open(path, os.O_WRONLY | os.O_APPEND)  # as a worker opens /dev/stdout
    try:
        logs.append_only([events, 10_000])
        os.write(events, b"event one\n")
        os.write(reopened, b"a much longer line of the access log\n")
        os.write(events, b"event two\n")
    finally:
        os.close(events)
        os.close(reopened)
    assert path.read_text() == "event one\na much longer line of the access log\nevent two\n"
