"""Arrays from .npy files that strangers send."""

import base64
import contextlib
import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from serving import assert_same_bits

pytest.importorskip("fastapi")

from revstep.serve.http.npy import array_of_npy

FILE = io.BytesIO()
np.save(FILE, np.arange(6, dtype=np.float32).reshape(2, 3))
FILE = FILE.getvalue()
KINDS = ("<f2", "<f4", ">f8", "|b1", "|u1", "<i2", ">u8")


def text_of(data):
    return base64.b64encode(data).decode()


@given(
    array=st.sampled_from(KINDS).flatmap(
        lambda kind: arrays.arrays(
            np.dtype(kind),
            arrays.array_shapes(min_dims=0, min_side=0),
            elements={"allow_nan": False, "allow_infinity": False} if "f" in kind else None,
        )
    ),
    order=st.sampled_from("CF"),
    version=st.sampled_from([(1, 0), (2, 0)]),
)
def test_an_array_is_what_numpy_has_written(array, order, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array, order=order), version)
    found = array_of_npy(text_of(file.getvalue()))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(
    at=st.integers(0, len(FILE) - 1),
    new=st.binary(max_size=12),
    cut=st.integers(0, 12),
)
@example(at=0, new=b"PK\x03\x04", cut=4)  # as of .npz
def test_a_damaged_file_is_an_array_or_refused(at, new, cut):
    data = FILE[:at] + new + FILE[at + cut :]
    with contextlib.suppress(ValueError):
        found = array_of_npy(text_of(data))
        assert np.isfinite(found).all()
        assert found.nbytes <= len(data)


@given(st.text(max_size=40))
def test_what_is_no_base64_is_refused(text):
    with pytest.raises(ValueError, match="its npy"):
        array_of_npy(text)


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 31, 1 << 31, 4), (1 << 62, 4), (-1,), (3, -2)])
def test_a_few_bytes_ask_for_no_memory(shape):
    file = io.BytesIO()
    fields = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    text = text_of(file.getvalue() + bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="its npy"):
            array_of_npy(text)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_whole_file_has_its_bits():
    want = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert_same_bits(array_of_npy(text_of(FILE)), want)
