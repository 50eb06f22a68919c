"""A file is written whole or not at all."""

from __future__ import annotations

import hashlib

import pytest

from amodal_perception.files import atomic_write, sha256_of, write_json


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail_halfway():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_json_cannot_hold_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "new" / "a.json", {"value": float("nan")})
    assert list((tmp_path / "new").iterdir()) == []


def test_a_finished_write_replaces_the_file(tmp_path):
    path = tmp_path / "deep" / "a.json"
    for value in (1, 2):
        write_json(path, {"value": value})
    assert path.read_text() == '{"value": 2}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1])
def test_the_hash_is_that_of_all_bytes(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content[:size]).hexdigest()


def test_an_error_names_the_file_that_was_meant(tmp_path):
    folder = tmp_path / "figures.json"
    folder.mkdir()
    with pytest.raises(OSError) as caught:  # noqa: PT011 (which kind is the system's choice)
        write_json(folder, {})
    assert caught.value.filename == str(folder)
    assert list(tmp_path.iterdir()) == [folder]
