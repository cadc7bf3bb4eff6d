"""What machine this is, from what Linux says of its first processor."""

import pytest
from groups import files, process

from revstep.engine.system import machine

EPYC = {"model name": "AMD EPYC", "flags": "fpu sse2 avx2 fma avx512f avx512_bf16"}
GRAVITON = {"Features": "fp asimd bf16 sve"}


@pytest.fixture
def cpuinfo(monkeypatch):
    return lambda fields: monkeypatch.setattr(machine, "_cpuinfo", lambda: fields)


def test_a_processor_is_its_name_and_its_features(cpuinfo):
    cpuinfo(EPYC)
    assert machine.processor() == "AMD EPYC sse2 avx2 fma avx512f avx512_bf16"


@pytest.mark.parametrize(
    ("fields", "has"),
    [
        (EPYC, True),
        (GRAVITON, True),
        ({"flags": "amx_tile amx_bf16"}, True),
        ({"flags": "sse2 avx512f avx512_fp16 amx_int8"}, False),
        ({}, False),
    ],
)
def test_bf16_is_a_feature_of_the_processor(cpuinfo, fields, has):
    cpuinfo(fields)
    assert machine.has_bf16() is has


def test_this_machine_has_a_name():
    assert machine.processor()


V2 = [("/", "cg", "cgroup2 cgroup rw,nsdelegate")]
V1 = [
    ("/", "cg/cpu", "cgroup cgroup rw,cpu,cpuacct"),
    ("/", "cg/memory", "cgroup cgroup rw,memory"),
]
NONE_V1 = "9223372036854771712"  # what version 1 writes where there is no limit
GIB = 1 << 30


@pytest.mark.parametrize(("text", "limit"), [("max", None), (str(4 * GIB), 4 * GIB)])
def test_a_memory_limit_of_version_2(tmp_path, text, limit):
    files(tmp_path / "cg", memory__max=text)
    assert machine.memory_limit(process(tmp_path, "0::/\n", V2)) == limit


def test_the_lowest_memory_limit_on_the_way_up_holds(tmp_path):
    files(tmp_path / "cg" / "pod" / "box", memory__max="max")
    files(tmp_path / "cg" / "pod", memory__max=str(2 * GIB))
    files(tmp_path / "cg", memory__max=str(8 * GIB))
    files(tmp_path, memory__max="1")  # above the mount: none of the process's
    assert machine.memory_limit(process(tmp_path, "0::/pod/box\n", V2)) == 2 * GIB


def test_a_memory_limit_of_version_1(tmp_path):
    files(tmp_path / "cg" / "memory" / "job", memory__limit_in_bytes=str(3 * GIB))
    files(tmp_path / "cg" / "memory", memory__limit_in_bytes=NONE_V1)
    files(tmp_path / "cg" / "cpu" / "other", memory__limit_in_bytes="1")
    groups = "3:memory:/job\n2:cpu,cpuacct:/other\n0::/\n"
    assert machine.memory_limit(process(tmp_path, groups, V1)) == 3 * GIB


@pytest.mark.parametrize(
    ("limit", "may_use"), [(None, 16 * GIB), (int(NONE_V1), 16 * GIB), (2 * GIB, 2 * GIB)]
)
def test_a_process_may_use_its_containers_memory_at_most(monkeypatch, limit, may_use):
    monkeypatch.setattr(machine.os, "sysconf", {"SC_PHYS_PAGES": 4 << 20, "SC_PAGE_SIZE": 4096}.get)
    monkeypatch.setattr(machine, "memory_limit", lambda: limit)
    assert machine.memory_bytes() == may_use


def test_a_system_without_cgroups_limits_no_memory(tmp_path):
    assert machine.memory_limit(tmp_path) is None


def test_this_machines_memory_is_read():
    there = machine.memory_bytes()
    assert there is None or there > 1 << 20
