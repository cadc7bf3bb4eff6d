"""What machine this is, from what Linux says of its first processor."""

import pytest

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
