"""The TensorRT adapter: bound by name, every return code checked, every refusal explained."""

import dataclasses
import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fake_trt import Faults, fake_trt, plan  # noqa: E402
from toys import IMAGE, POLICY, TABULAR  # noqa: E402

from revstep.engine.backends.protocol import NetworkBuffers  # noqa: E402
from revstep.engine.backends.trt.denoiser import TrtDenoiser  # noqa: E402
from revstep.engine.backends.trt.library import (  # noqa: E402
    TrtLibrary,
    cause_of,
    trt_library,
)
from revstep.engine.backends.trt.plan import PlanFile, TrtPlan  # noqa: E402
from revstep.engine.errors import BackendError  # noqa: E402
from revstep.engine.spec.denoiser import Condition  # noqa: E402

COMMAND = "revstep compile x.revstep --target tensorrt --precision fp32 --batch 4"


def engine(spec, least, tuned, most, faults=None, **options):
    library = TrtLibrary("tensorrt", fake_trt(faults), "10.0.1", rtx=False)
    data = plan(spec, least, tuned, most, **options)
    return TrtPlan(data, library, label="k.plan", command=COMMAND)


def rows(spec, count, seed=0):
    """Tensors of one call, with every element different."""
    rng = np.random.default_rng(seed)
    conditions = {
        c.name: torch.from_numpy(
            rng.integers(0, 2, (count, *c.shape)).astype(c.interface)
            if c.interface != "float32"
            else rng.standard_normal((count, *c.shape)).astype(np.float32)
        )
        for c in spec.conditions
    }
    return NetworkBuffers(
        x=torch.from_numpy(rng.standard_normal((count, *spec.shape)).astype(np.float32)),
        t=torch.from_numpy(rng.uniform(0, 9, count).astype(np.float32)),
        conditions=conditions,
        out=torch.zeros((count, *spec.output_shape)),
    )


def expected(buffers):
    wide = (-1,) + (1,) * (buffers.x.dim() - 1)
    total = buffers.x + buffers.t.reshape(wide)
    for value in buffers.conditions.values():
        total = total + value.reshape(len(buffers.t), -1).sum(1).reshape(wide)
    return total


EVERY = dataclasses.replace(
    POLICY,
    conditions=(
        Condition(name="mask", dtype="bool", shape=(5,)),
        Condition(name="tokens", dtype="int32", shape=(2,)),
        Condition(name="label", dtype="int64"),
        Condition(name="prompt", dtype="float16", shape=(3,)),
        Condition(name="scale", dtype="bfloat16"),
    ),
)


@pytest.mark.parametrize("spec", [POLICY, TABULAR, EVERY], ids=["policy", "tabular", "every"])
def test_a_bound_engine_reads_and_writes_the_buffers_in_place(spec):
    denoiser = TrtDenoiser([engine(spec, 4, 4, 4)], spec, device="cpu")
    buffers = rows(spec, 4)
    call = denoiser.bind(buffers)
    call()
    torch.testing.assert_close(buffers.out, expected(buffers))
    buffers.x.mul_(2)
    buffers.t.add_(1)
    call()
    torch.testing.assert_close(buffers.out, expected(buffers))


def test_tensors_are_bound_by_name_in_any_order():
    backwards = engine(POLICY, 4, 4, 4)
    names = [backwards._cuda_engine.get_tensor_name(i) for i in range(4)]
    shuffled = engine(POLICY, 4, 4, 4, change=lambda tensors: [tensors[3], *tensors[:3]])
    assert names[-1] == "out"
    denoiser = TrtDenoiser([shuffled], POLICY, device="cpu")
    buffers = rows(POLICY, 4)
    denoiser.bind(buffers)()
    torch.testing.assert_close(buffers.out, expected(buffers))


def test_a_static_engine_comes_before_a_dynamic_one():
    engines = [engine(POLICY, 1, 4, 16), engine(POLICY, 8, 8, 8), engine(POLICY, 1, 1, 1)]
    denoiser = TrtDenoiser(engines, POLICY, device="cpu")
    assert denoiser.rows == ((1, 1), (8, 8), (1, 16))
    assert denoiser.dtype == torch.float32
    for count in (1, 5, 8, 16):
        buffers = rows(POLICY, count)
        denoiser.bind(buffers)()
        torch.testing.assert_close(buffers.out, expected(buffers))
    assert [denoiser._plan_for(n).rows for n in (1, 5, 8)] == [(1, 1), (1, 16), (8, 8)]


def test_a_batch_outside_the_profiles_names_the_command_and_leaves_the_engine_usable():
    denoiser = TrtDenoiser(
        [engine(POLICY, 1, 4, 8), engine(POLICY, 12, 12, 12)], POLICY, device="cpu"
    )
    with pytest.raises(
        BackendError, match=r"takes 16 rows.*take 12, 1 to 8.*compile x.revstep.*--batch 16$"
    ):
        denoiser.bind(rows(POLICY, 16))
    buffers = rows(POLICY, 12)
    denoiser.bind(buffers)()
    torch.testing.assert_close(buffers.out, expected(buffers))


def test_unequal_rows_are_refused():  # TensorRT would broadcast, or read past the end
    denoiser = TrtDenoiser([engine(POLICY, 1, 4, 8)], POLICY, device="cpu")
    good = rows(POLICY, 4)
    for change in ({"x": good.x[:1]}, {"conditions": {"observation": torch.zeros(2, 4)}},
                   {"out": good.out[:3]}):  # fmt: skip
        bad = dataclasses.replace(good, **change)
        with pytest.raises(ValueError, match=r"rows, the times have 4"):
            denoiser.bind(bad)


def test_wrong_dtypes_and_layouts_are_refused():
    denoiser = TrtDenoiser([engine(POLICY, 1, 4, 8)], POLICY, device="cpu")
    good = rows(POLICY, 4)
    with pytest.raises(ValueError, match="'actions' is float16; the plan takes float32"):
        denoiser.bind(dataclasses.replace(good, x=good.x.half()))
    turned = torch.zeros(2, 8, 4).permute(2, 1, 0)
    with pytest.raises(ValueError, match="contiguous"):
        denoiser.bind(dataclasses.replace(good, x=turned))


@pytest.mark.parametrize(
    ("call", "says", "message"),
    [
        ("create_execution_context", "Error Code 2: OutOfMemory (Requested size was 9 bytes.)",
         "memory is too small.*smaller batch"),
        ("set_input_shape", "Static dimension mismatch", "refuses 'actions'.*Static dimension"),
        ("infer_shapes", "no shape", "lacks the shapes of x"),
        ("set_tensor_address", "not aligned", "refuses the memory of 'actions'.*not aligned"),
    ],
)  # fmt: skip
def test_every_return_code_of_a_binding_is_checked(call, says, message):
    faults = Faults()
    denoiser = TrtDenoiser([engine(POLICY, 1, 4, 8, faults)], POLICY, device="cpu")
    faults.call, faults.says = call, says
    with pytest.raises(BackendError, match=message):
        denoiser.bind(rows(POLICY, 4))
    faults.call = ""
    buffers = rows(POLICY, 4)
    denoiser.bind(buffers)()
    torch.testing.assert_close(buffers.out, expected(buffers))


def test_a_failed_run_is_an_error_and_the_next_run_works():
    faults = Faults()
    denoiser = TrtDenoiser([engine(POLICY, 1, 4, 8, faults)], POLICY, device="cpu")
    buffers = rows(POLICY, 4)
    call = denoiser.bind(buffers)
    faults.call, faults.says = "execute_async_v3", "Error Code 1: Cuda Runtime (out of memory)"
    with pytest.raises(BackendError, match=r"failed to run 4 rows.*memory is too small"):
        call()
    faults.call = ""
    call()
    torch.testing.assert_close(buffers.out, expected(buffers))


@pytest.mark.parametrize(
    ("call", "says", "message"),
    [
        ("Runtime", "CUDA initialization failure with error: 35", "no NVIDIA driver"),
        ("deserialize_cuda_engine",
         "Error Code 6: API Usage Error (The engine plan file is not compatible with this version "
         "of TensorRT, expecting library version 10.16.1 got 10.0.1, please rebuild.)",
         f"another TensorRT than the installed.*run: {COMMAND}"),
        ("deserialize_cuda_engine",
         "The engine plan file is generated on an incompatible device, expecting compute 9.0 got "
         "compute 8.9, please rebuild.", f"another GPU.*run: {COMMAND}"),
        ("deserialize_cuda_engine",
         "Error Code 1: Serialization (Serialization assertion plan.header.size == blobSize "
         "failed.)", f"cut short or damaged.*run: {COMMAND}"),
        ("deserialize_cuda_engine", "Error Code 2: OutOfMemory", "memory is too small"),
        ("deserialize_cuda_engine", "a new kind of failure", f"run: {COMMAND}.*new kind"),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_load_says_why_and_what_fixes_it(call, says, message):
    with pytest.raises(BackendError, match=message):
        engine(POLICY, 4, 4, 4, Faults(call, says))


def test_the_driver_is_blamed_last():
    without = "(cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"
    assert cause_of(without).name == "driver"
    assert cause_of(f"Serialization assertion header.magicTag failed | {without}").name == "damaged"
    assert cause_of("Serialization assertion stdVersionRead failed").name == "version"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors[:1] + tensors[2:], "has the inputs actions, observation"),
        (lambda tensors: [["actions", "INPUT", [4, 8, 3], "FLOAT"], *tensors[1:]],
         r"'actions' is float32 \(8, 3\) per row; the spec says a float \(8, 2\)"),
        (lambda tensors: [tensors[0], ["k", "INPUT", [4], "INT64"], *tensors[2:]],
         "'k' is int64"),
        (lambda tensors: [tensors[0], ["k", "INPUT", [2], "FLOAT"], *tensors[2:]],
         "inputs of 2 ranges of rows"),
        (lambda tensors: [*tensors, ["more", "OUTPUT", [4, 8, 2], "FLOAT"]], "has 2 outputs"),
    ],
)  # fmt: skip
def test_an_engine_of_another_network_is_refused(change, message):
    with pytest.raises(BackendError, match=message):
        TrtDenoiser([engine(POLICY, 4, 4, 4, change=change)], POLICY, device="cpu")


def test_an_output_of_another_shape_is_refused_when_bound():
    spec = dataclasses.replace(IMAGE, learned_variance=False)
    denoiser = TrtDenoiser([engine(IMAGE, 4, 4, 4)], spec, device="cpu")
    with pytest.raises(BackendError, match=r"gives \(4, 6, 8, 8\) where the spec says"):
        denoiser.bind(rows(spec, 4))


def test_capturable_asks_every_live_binding():
    faults = Faults()
    denoiser = TrtDenoiser([engine(POLICY, 1, 4, 8, faults)], POLICY, device="cpu")
    call = denoiser.bind(rows(POLICY, 4))
    assert denoiser.capturable is None
    faults.call = "is_stream_capturable"
    assert "can't be captured" in denoiser.capturable
    del call
    assert denoiser.capturable is None


def test_a_plan_file_is_hashed_before_tensorrt_sees_it(tmp_path):
    file = tmp_path / "k.plan"
    data = bytes(range(256)) * 8
    good = PlanFile(file, COMMAND, hashlib.sha256(data).hexdigest())
    with pytest.raises(BackendError, match=f"can't be read.*run: {COMMAND}"):
        good.read()
    flipped = data[:100] + bytes([data[100] ^ 1]) + data[101:]
    for damaged in (data[:-1], flipped, b"", b"\x00\xff not a plan"):
        file.write_bytes(damaged)
        with pytest.raises(BackendError, match=f"sha256.*cut short or changed.*run: {COMMAND}"):
            good.read()
    file.write_bytes(data)
    assert good.read() == data


def test_a_missing_package_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r"pip install 'revstep\[tensorrt\]'"):
        trt_library("tensorrt")
    with pytest.raises(ValueError, match="unknown TensorRT package 'trt'; did you mean 'tensorrt'"):
        trt_library("trt")
