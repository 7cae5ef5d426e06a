"""The kept table: written whole, read back for the same range only."""

from __future__ import annotations

import pytest

from federation.trust.identity import TrustError
from federation.vip_file import load, save
from federation.vips import Ranges, Row

SMALL, OTHER = Ranges.parse("192.0.2.0/24"), Ranges.parse("192.0.2.0/24", "fd00::/120")
ROWS = [Row("a", 1, 5), Row("b", 2, 6)]


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "state" / "vips.json"
    assert load(path, SMALL) == []
    save(path, SMALL, ROWS)
    assert load(path, SMALL) == ROWS
    assert load(path, OTHER) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["vips.json"]
    assert load(None, SMALL) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"range": 1}', b'{"range": "192.0.2.0/24", "rows": [["a"]]}'])
def test_a_broken_file_is_an_empty_one(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    assert load(tmp_path / "f", SMALL) == []


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrustError, match="cannot make this directory"):
        save(tmp_path / "file" / "vips.json", SMALL, ROWS)
