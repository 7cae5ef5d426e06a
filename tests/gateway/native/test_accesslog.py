"""The file that access log lines go to: rotation, and readers that stop reading."""

from __future__ import annotations

import os

from gateway.native.accesslog import LogFile


def test_a_rotated_file_is_followed_and_no_line_is_lost(tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    file = LogFile(str(path))
    file.lines.append(b"one\n")
    file.flush()
    path.rename(old)
    file.lines.append(b"two\n")  # between the rename and the next look: into the old one
    file.follow()
    file.lines.append(b"three\n")
    file.flush()
    file.close()
    assert old.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"
    assert path.stat().st_mode & 0o777 == 0o640 & ~_umask()


def test_a_file_that_stays_is_not_opened_anew(tmp_path):
    file = LogFile(str(tmp_path / "access.log"))
    before = os.listdir("/proc/self/fd")
    file.follow()
    assert os.listdir("/proc/self/fd") == before
    file.lines.append(b"one\n")
    file.close()
    assert (tmp_path / "access.log").read_bytes() == b"one\n"


def test_the_old_file_stays_when_no_new_one_can_be_opened(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    file = LogFile(str(folder / "access.log"))
    kept = os.open(folder / "access.log", os.O_RDONLY)
    (folder / "access.log").unlink()
    folder.rmdir()
    file.follow()
    file.lines.append(b"one\n")
    file.close()
    assert os.pread(kept, 100, 0) == b"one\n"
    os.close(kept)


def test_a_pipe_nobody_reads_costs_lines_and_is_never_reopened(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = LogFile(str(path))
    path.unlink()
    file.follow()
    assert not path.exists()
    for _ in range(40):
        file.lines.append(b"x" * 65536)
        file.flush()
    assert file.dropped > 0
    os.close(reader)
    file.close()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
