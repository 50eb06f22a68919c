"""Arrays of objects are read as data: what NumPy would unpickle is never run."""

import contextlib
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.convert.npz_lists import read_npz

NUMBERS = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.booleans()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


def ragged(lists):
    array = np.empty(len(lists), object)
    array[:] = lists
    return array


@given(st.lists(st.lists(NUMBERS, max_size=5), max_size=5))
def test_lists_of_different_lengths(lists):
    file = io.BytesIO()
    np.savez(file, polygons=ragged(lists))
    assert read_npz(file) == {"polygons": lists}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_that_numpy_has_used(path, protocol):
    array = ragged([[1.5, 2.0], [3]])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    with zipfile.ZipFile(path, "w") as archive:
        content = header.getvalue() + pickle.dumps(array, protocol)
        archive.writestr("polygons.npy", content)
    assert read_npz(path) == {"polygons": [[1.5, 2.0], [3]]}


def test_arrays_and_numpy_numbers_inside(path):
    inner = np.arange(6, dtype=">f4").reshape(2, 3)
    np.savez(path, a=ragged([inner, [np.float64(2.5), np.int32(-3)]]), b=inner, c="car")
    assert read_npz(path) == {"a": [inner.tolist(), [2.5, -3]], "b": inner.tolist(), "c": "car"}


class Trap:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_nothing_is_run(path, tmp_path):
    np.savez(path, mask=ragged([Trap(tmp_path / "sprung"), [1]]))
    with pytest.raises(ValueError, match="holds an object that is no list of numbers"):
        read_npz(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("value", [{"a": 1}, {1, 2}, 1j, b"bytes"])
def test_other_objects_are_refused(path, value):
    np.savez(path, mask=ragged([value, [1]]))
    with pytest.raises(ValueError, match="holds"):
        read_npz(path)


@given(st.data())
def test_damaged_files_are_refused_or_read(data):
    file = io.BytesIO()
    np.savez(file, polygons=ragged([[1.0, 2.0], [3.0]]))
    content = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        read_npz(io.BytesIO(bytes(content)))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file"])
def test_foreign_files_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is no \.npz file"):
        read_npz(path)
