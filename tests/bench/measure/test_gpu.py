"""The GPU that a cell runs on, by the driver's tool as it answers where there is one."""

import os
import subprocess
import types

import pytest

from revstep.bench.measure import memory
from revstep.bench.measure.gpu import clocks_of, own_bytes, uuid_of

torch = pytest.importorskip("torch")

UUIDS = ("11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555")


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    """CUDA's GPUs, in an order of its own."""
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace(uuid=UUIDS[i])
    )


def answers(text, asked):
    def run(words, **options):
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, stdout=text)

    return run


def test_the_tool_is_asked_of_the_gpu_that_runs_and_no_other():
    asked = []
    run = answers("1200, 1980, 0x0000000000000004\n", asked)
    assert clocks_of(1, run) == (1200.0, 1980.0, 4)
    own_bytes(0, run)
    names = [words[words.index("-i") + 1] for words in asked]
    assert names == [f"GPU-{UUIDS[1]}", f"GPU-{UUIDS[0]}"]


def test_the_memory_of_this_process_is_told_from_that_of_others():
    text = f"1, 70000\n{os.getpid()}, 512\n"
    assert own_bytes(0, answers(text, [])) == 512 << 20


@pytest.mark.parametrize("text", ["", "1, 70000\n", "PID, [N/A]\n", "No devices\n"])
def test_what_the_driver_does_not_count_is_none(text):
    text = text.replace("PID", str(os.getpid()))  # in an id, workers would differ
    assert own_bytes(0, answers(text, [])) is None


def test_a_driver_without_its_tool_or_a_gpu_without_clocks_says_nothing():
    def missing(*_, **__):
        raise FileNotFoundError

    assert clocks_of(0, missing) is None
    assert clocks_of(0, answers("[N/A], [N/A], [N/A]\n", [])) is None


def test_a_torch_that_knows_no_uuid_asks_nothing(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace())
    asked = []
    assert uuid_of(0) is None
    assert clocks_of(0, answers("1, 2, 0x0\n", asked)) is None
    assert not asked


@pytest.mark.parametrize(
    ("own", "bytes_", "whose"), [(600, 700, "process"), (None, 1100, "all"), (10, 1100, "all")]
)
def test_a_peak_is_of_this_process_or_says_that_it_is_of_all(monkeypatch, own, bytes_, whose):
    seen = []
    sizes = {"memory_reserved": 400, "max_memory_reserved": 500, "mem_get_info": (9000, 10000)}
    for name, value in sizes.items():
        monkeypatch.setattr(torch.cuda, name, lambda i, v=value: seen.append(i) or v)
    monkeypatch.setattr(memory, "own_bytes", lambda i: own)
    found = memory.peaks(1)
    assert (found["device_bytes"], found["device_of"]) == (bytes_, whose)
    assert set(seen) == {1}
