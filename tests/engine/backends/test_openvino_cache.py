"""Compiled models in the user's cache: found again, and never trusted."""

import logging
import os

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")

import revstep
from revstep.engine.backends.ov import blobs, library
from revstep.engine.system import user_cache

if not library.installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "revstep" / "openvino"


@pytest.fixture
def run(tabular_bundle, caplog):
    """(bits of two samples, whether their model came from the cache) of a new engine."""
    caplog.set_level(logging.INFO, "revstep")

    def run(**options):
        caplog.clear()
        options = {"backend": "openvino", "device": "cpu", "threads": 1, **options}
        x = revstep.load(tabular_bundle, **options).sample(2, steps=3, seed=4).x
        [told] = [r.getMessage() for r in caplog.records if "network rows" in r.getMessage()]
        return x.tobytes(), "read from the cache" in told

    return run


def test_a_second_load_finds_the_model_and_has_the_same_bits(run, cache):
    bits, cached = run()
    assert not cached
    assert len(list(cache.iterdir())) == 1
    assert run() == (bits, True)


def damaged(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[:-5])


def emptied(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [damaged, cut, emptied])
def test_a_damaged_file_is_made_anew(run, cache, damage):
    bits, _ = run()
    [file] = cache.iterdir()
    damage(file)
    assert run() == (bits, False)
    assert run() == (bits, True)


def test_a_file_of_another_key_is_made_anew(run, cache):
    bits, _ = run()
    [file] = cache.iterdir()
    _, cached = run(threads=2)
    assert not cached
    [other] = set(cache.iterdir()) - {file}
    other.replace(file)
    assert run() == (bits, False)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (blobs, "processor", lambda: "another processor"),
        (blobs, "FORMAT", "another"),
        (library, "openvino", None),
    ],
)
def test_another_processor_or_version_has_files_of_its_own(run, monkeypatch, where, name, value):
    run()
    if value is None:
        package = library.openvino()
        monkeypatch.setattr(package, "__version__", "2026.9.0-1")
    else:
        monkeypatch.setattr(where, name, value)
    assert not run()[1]
    assert run()[1]


def test_a_model_that_openvino_does_not_take_is_made_anew(run, cache, monkeypatch):
    bits, _ = run()

    def refuses(*_):
        raise RuntimeError("another build")

    core = library.core()
    monkeypatch.setattr(type(core), "import_model", refuses)
    assert run() == (bits, False)


def test_a_cache_that_cannot_be_written_is_none(run, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    bits, cached = run()
    assert not cached
    assert run() == (bits, False)


def test_a_user_without_a_home_has_no_cache(run, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(user_cache.Path, "home", homeless)
    assert not run()[1]
    assert not run()[1]


def test_a_model_beyond_the_limit_is_not_kept(run, cache, monkeypatch):
    monkeypatch.setattr(blobs, "MAX_BYTES", 100)
    run()
    assert not cache.exists()


def test_what_was_used_longest_ago_goes_first(cache):
    for i, key in enumerate("abc"):
        user_cache.write_cache("openvino", key, bytes(100))
        os.utime(user_cache._cache_file("openvino", key), (i, i))
    assert user_cache.read_cache("openvino", "a") == bytes(100)  # used now
    user_cache.trim_cache("openvino", 250)
    kept = {key for key in "abc" if user_cache.read_cache("openvino", key) is not None}
    assert kept == {"a", "c"}
    user_cache.trim_cache("nothing of this kind", 0)


def test_bf16_with_its_times_in_float32_comes_back_whole(image_bundle, caplog):
    from revstep.engine.system.machine import has_bf16

    if not has_bf16():
        pytest.skip("this processor has no bf16")
    caplog.set_level(logging.INFO, "revstep")
    x = [
        revstep.load(image_bundle, backend="openvino", device="cpu", precision="bf16", threads=1)
        .sample(2, steps=3, seed=1)
        .x
        for _ in range(2)
    ]
    np.testing.assert_array_equal(x[0], x[1])
    assert "read from the cache" in caplog.records[-1].getMessage()
