"""Files that documents name: what is in them now, and what they become."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from federation.material import LARGEST, FileMaterial


def test_wanted_files_are_read_at_once_and_faults_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(b"a")
    (tmp_path / "huge").write_bytes(b"x" * (LARGEST + 1))
    material = FileMaterial()
    found = material.want([str(tmp_path / name) for name in ("a.pem", "gone", "huge")] + [str(tmp_path)])
    assert found[str(tmp_path / "a.pem")].data == b"a"
    assert found[str(tmp_path / "gone")].fault == "no such file"
    assert "is it the right file" in found[str(tmp_path / "huge")].fault
    assert "cannot be read" in found[str(tmp_path)].fault
    assert material.want([]) == {}


def test_what_a_registrys_document_names_is_not_read(tmp_path: Path) -> None:
    path = f"{tmp_path / 'key.pem'} (named in consul:fedgate/x)"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(b"secret")
    assert "credentialName" in FileMaterial().want([path])[path].fault


async def test_a_file_that_changes_is_noticed(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = tmp_path / "a.pem"
    material = FileMaterial()
    material.want([str(path)])
    async with trio.open_nursery() as nursery:
        await nursery.start(material.run)
        seen = material.contents.version
        path.write_bytes(b"new")
        seen, contents = await material.contents.newer_than(seen)
        assert contents[str(path)].data == b"new"
        path.unlink()
        _, contents = await material.contents.newer_than(seen)
        assert contents[str(path)].fault
        nursery.cancel_scope.cancel()


def test_what_did_not_change_is_not_published_again(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    material = FileMaterial()
    material.want([str(tmp_path / "a")])
    version = material.contents.version
    material.reload()
    material.want([str(tmp_path / "a")])
    assert material.contents.version == version
