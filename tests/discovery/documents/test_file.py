"""Documents in files: which files are read, when a change counts, what a broken or vanished one leaves."""

import os

import pytest
import trio

from discovery.document import Origin
from discovery.documents import file as module
from discovery.documents.file import FileDocuments, FileReader, list_files, read_file


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: A\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yml").write_text("kind: B\n---\nkind: B2\n")
    return tmp_path


def kinds(documents):
    return [document.content["kind"] for document in documents.documents]


def settled(reader):
    """Two looks, after which a change counts."""
    reader.look()
    return reader.look()


def test_files_below_directories_are_listed_by_suffix_and_hidden_ones_are_not(folder):
    for name in ("c.json", "notes.txt", ".hidden.yaml", ".#a.yaml", "a.yaml~", "#a.yaml#"):
        (folder / name).write_text("{}")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.yaml").write_text("kind: X\n")
    names = [os.path.relpath(path, folder) for path in list_files([folder]).files]
    assert names == ["a.yaml", "c.json", "sub/b.yml"]


def test_a_file_given_by_name_is_read_whatever_it_is_called_and_only_once(folder):
    (folder / "node.conf").write_text("kind: N\n")
    (folder / "link").symlink_to(folder / "sub")
    listing = list_files([folder / "node.conf", folder / "a.yaml", folder])
    assert [os.path.relpath(path, folder) for path in listing.files] == ["node.conf", "a.yaml", "link/b.yml"]


def test_symlink_loops_end(folder):
    (folder / "sub" / "up").symlink_to(folder)
    assert len(list_files([folder]).files) == 2


def test_a_config_map_mount_is_read_through_its_symlinks_and_its_swap_is_noticed(tmp_path):
    def release(version):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "gw.yaml").write_text(f"kind: {version}\n")
        (tmp_path / "..next").symlink_to(f"..{version}")
        os.replace(tmp_path / "..next", tmp_path / "..data")

    release("V1")
    (tmp_path / "gw.yaml").symlink_to("..data/gw.yaml")
    reader = FileReader([tmp_path])
    assert kinds(reader.look()) == ["V1"]
    release("V2")
    assert kinds(settled(reader)) == ["V2"]


def test_what_does_not_change_is_the_same_object(folder):
    reader = FileReader([folder])
    first = reader.look()
    assert kinds(first) == ["A", "B", "B2"]
    assert reader.look() is first
    os.utime(folder / "a.yaml")
    assert settled(reader) is first
    assert reader.look(again=True) is first
    (folder / "a.yaml").write_text("kind: C\n")
    assert settled(reader).documents[1] is first.documents[1]


def test_changed_added_renamed_and_removed_files_are_noticed(folder):
    reader = FileReader([folder])
    reader.look()
    (folder / "a.yaml").write_text("kind: A2\n")
    assert kinds(settled(reader)) == ["A2", "B", "B2"]
    (folder / "new.tmp").write_text("kind: C\n")
    os.replace(folder / "new.tmp", folder / "sub" / "b.yml")
    assert kinds(settled(reader)) == ["A2", "C"]
    (folder / "sub" / "d.json").write_text('{"kind": "D"}')
    assert kinds(settled(reader)) == ["A2", "C", "D"]
    (folder / "a.yaml").unlink()
    assert kinds(reader.look()) == ["C", "D"]


def test_a_change_counts_when_two_looks_agree_or_when_it_never_rests(folder):
    reader = FileReader([folder / "a.yaml"])
    reader.look()
    seen = []
    for number in range(10):
        (folder / "a.yaml").write_text(f"kind: A{number}\n" + "#" * number)
        seen.extend(kinds(reader.look()))
    assert seen == ["A"] * 4 + ["A4"] * 5 + ["A9"]
    (folder / "a.yaml").write_text("kind: Z\n")
    assert kinds(reader.look(again=True)) == ["Z"]


def test_a_broken_file_keeps_its_last_good_documents_until_it_is_mended(folder):
    reader = FileReader([folder])
    reader.look()
    (folder / "sub" / "b.yml").write_text("kind: B\n---\nkind: [\n")
    documents = settled(reader)
    assert kinds(documents) == ["A", "B", "B2"]
    (error,) = documents.errors
    assert error.origin.file == str(folder / "sub" / "b.yml")
    assert error.origin.line in (3, 4)
    assert error.remedy
    (folder / "sub" / "b.yml").write_text("kind: B3\n")
    documents = settled(reader)
    assert (kinds(documents), documents.errors) == (["A", "B3"], ())


def test_a_file_broken_from_the_start_gives_what_of_it_can_be_read(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: A\n---\nkind: [\n")
    documents = FileReader([tmp_path]).look()
    assert kinds(documents) == ["A"]
    assert len(documents.errors) == 1


def test_a_given_path_that_is_gone_keeps_its_documents_and_is_an_error(folder):
    reader = FileReader([folder / "sub", folder / "a.yaml"])
    reader.look()
    (folder / "sub").rename(folder / "away")
    (folder / "a.yaml").unlink()
    documents = settled(reader)
    assert kinds(documents) == ["A", "B", "B2"]
    assert sorted(error.origin.file for error in documents.errors) == [str(folder / "a.yaml"), str(folder / "sub")]
    (folder / "away").rename(folder / "sub")
    assert [error.origin.file for error in settled(reader).errors] == [str(folder / "a.yaml")]


def test_a_file_that_cannot_be_opened_keeps_its_documents(folder):
    (folder / "link.yaml").symlink_to("target")
    (folder / "target").write_text("kind: T\n")
    reader = FileReader([folder])
    reader.look()
    (folder / "target").unlink()
    documents = settled(reader)
    assert kinds(documents) == ["A", "T", "B", "B2"]
    assert [error.message for error in documents.errors] == ["cannot be read: No such file or directory"]


def test_limits_and_encodings_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr(module, "MAX_FILES", 2)
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * ((1 << 20) + 1))
    assert read_file(str(path))[1][0].message == "is larger than 1 MiB"
    path.write_bytes(b"kind: A\nname: \xff\n")
    (error,) = read_file(str(path))[1]
    assert (error.origin, error.message) == (Origin(str(path), 2), "is not UTF-8: invalid start byte")
    path.write_bytes(b"\xef\xbb\xbfkind: A\n")
    assert read_file(str(path))[0][0].content == {"kind": "A"}
    for name in "bcd":
        (tmp_path / f"{name}.yaml").touch()
    listing = list_files([tmp_path])
    assert len(listing.files) == 2
    assert [error.message for error in listing.errors] == ["is file number 3; no more are read"]


def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    assert read_file(str(tmp_path / "pipe.yaml"))[1][0].message == "is not a regular file"


async def test_a_change_is_published(folder, nursery):
    source = FileDocuments([folder], every=0.01)
    assert kinds(source.documents.value) == []
    await nursery.start(source.run)
    seen = source.documents.version
    assert kinds(source.documents.value) == ["A", "B", "B2"]
    (folder / "a.yaml").write_text("kind: A2\n")
    with trio.fail_after(5):
        _, documents = await source.documents.newer_than(seen)
    assert kinds(documents) == ["A2", "B", "B2"]
    source.report({})
    nursery.cancel_scope.cancel()


async def test_reload_reads_at_once(folder, nursery):
    source = FileDocuments([folder], every=3600)
    await nursery.start(source.run)
    for text in ("kind: A2\n", "kind: A3\n"):
        seen = source.documents.version
        (folder / "a.yaml").write_text(text)
        source.reload()
        with trio.fail_after(5):
            _, documents = await source.documents.newer_than(seen)
        assert documents.documents[0].content["kind"] == text[6:-1]
    nursery.cancel_scope.cancel()
