"""Kernels compiled ahead of time: what the code may and may not hold, the files, the launch."""

import contextlib
import inspect
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
triton = pytest.importorskip("triton", reason="Triton is not installed")

from fake_cuda_core import FakeCore  # noqa: E402
from step_tensors import tensors_of  # noqa: E402

from revstep.kernels import noise, reference  # noqa: E402
from revstep.kernels.buffers import numpy_views  # noqa: E402
from revstep.kernels.gpu import aot, cubin  # noqa: E402
from suites.step import kernel_table  # noqa: E402

COMMITTED = Path(__file__).parents[3] / kernel_table.TABLE


@pytest.mark.parametrize("capability", aot.CAPABILITIES)
@pytest.mark.parametrize(
    "variant",
    [
        aot.Variant("begin_step"),
        aot.Variant("begin_step", two_times=True),
        aot.Variant(dtype="float16", history=1),
        aot.Variant(dtype="float32", history=3, x0=True, inpaint=True, learned=True),
        aot.Variant(dtype="float16", history=1, aligned=False),
    ],
    ids=lambda variant: variant.name,
)
def test_machine_code_spills_nothing_and_matches_the_committed_table(variant, capability):
    row = kernel_table.inspect_variant(variant, capability)
    assert row["spilled_bytes"] == 0
    assert row["shared_bytes"] == 0
    if variant.kernel == "fused_step" and variant.aligned:
        states = 1 + variant.history + (2 if variant.inpaint else 0)  # x, history, mask and known
        networks = 0 if variant.dtype != "float32" else 2 + variant.learned  # m's halves, v
        assert row["loads_128"] == states + networks
        copies = 0 if variant.dtype != "float32" else 2  # the network's two rows
        assert row["stores_128"] == 1 + variant.history + variant.x0 + copies
    table = json.loads(COMMITTED.read_text())
    if table["triton"] != triton.__version__:
        pytest.skip(f"the committed table is of Triton {table['triton']}")
    name = f"sm_{capability}"
    committed = [r for r in table["rows"] if (r["kernel"], r["target"]) == (variant.name, name)]
    assert committed == [row]


def test_the_committed_table_has_every_kernel_and_none_spills():
    table = json.loads(COMMITTED.read_text())
    assert len(table["rows"]) == len(kernel_table.VARIANTS) * len(aot.CAPABILITIES)
    assert not any(row["spilled_bytes"] or row["shared_bytes"] for row in table["rows"])


@pytest.mark.parametrize("capability", aot.CAPABILITIES)
def test_ptx_has_no_fused_multiply_add_and_no_approximation(capability):
    variant = aot.Variant(
        dtype="bfloat16", history=3, x0=True, inpaint=True, learned=True, calls=256
    )
    ptx = aot.compile_variant(variant, capability).ptx
    for word in ("fma", "approx", "ftz", "mad.f32", "mad.rn", "bar.sync", ".shared", "/step_ker"):
        assert word not in ptx, word
    assert "sqrt.rn.f32" in ptx


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels")
    aot.write_kernels(path, ["float16"], 64, capabilities=[90])
    return path


def test_written_folder_holds_portable_ptx_and_cubins(folder):
    index = cubin.read_index(folder)
    assert len(index["kernels"]) == 14
    for name, entry in index["kernels"].items():
        assert set(entry["files"]) == {"ptx", "sm_90"}, name
        ptx = (folder / entry["files"]["ptx"]).read_text()
        assert ".target sm_80\n" in ptx
        assert ".version 8.0\n" in ptx
        assert f".entry {entry['entry']}(" in ptx
        assert (folder / entry["files"]["sm_90"]).read_bytes()[:4] == b"\x7fELF"
    assert {p.name for p in folder.iterdir()} == {aot.INDEX} | {
        name for entry in index["kernels"].values() for name in entry["files"].values()
    }


def test_file_is_chosen_for_the_gpu():
    files = {"ptx": "p", "sm_80": "a", "sm_90": "h", "sm_120": "b"}
    chosen = [cubin.choose_file(files, c) for c in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 1))]
    assert chosen == ["a", "a", "h", "p", "p"]
    with pytest.raises(ValueError, match=r"compute capability 7\.5"):
        cubin.choose_file(files, (7, 5))


def test_index_of_another_format_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"kernels\.json is missing"):
        cubin.read_index(tmp_path)
    (tmp_path / aot.INDEX).write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has format 99"):
        cubin.read_index(tmp_path)
    (tmp_path / aot.INDEX).write_text("[")
    with pytest.raises(ValueError, match="is no index"):
        cubin.read_index(tmp_path)


@pytest.fixture
def device(make_step):
    buf = make_step(np.random.default_rng(0), D=64, dtype=np.float16, history=2)
    return tensors_of(buf)


def test_buckets_take_the_next_larger_compiled_history(folder, device):
    index = cubin.read_index(folder)
    variant, step = cubin.CubinStep._step_variant(device, index)
    assert (variant.name, step.constants["HISTORY"]) == ("fused_step-fp16-h3-c128", 3)
    index["kernels"] = {}
    with pytest.raises(ValueError, match="no compiled kernel for float16 outputs, 64 elements"):
        cubin.CubinStep._step_variant(device, index)
    with pytest.raises(ValueError, match="need a GPU"):
        cubin.CubinStep(device, folder)


@pytest.fixture
def cuda_core(monkeypatch):
    """cuda.core and a GPU as far as launches go: the PTX runs in the emulator, on CPU tensors."""
    core = FakeCore()
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.core", core.module())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: core.capability)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(cubin, "_need_gpu", lambda device: None)
    return core


@pytest.mark.parametrize("capability", [(8, 9), (10, 0)])  # no machine code: the portable PTX
@pytest.mark.parametrize("x0", [False, True])
def test_launched_files_give_the_references_bits(
    folder, cuda_core, capability, x0, make_step, copy_step, assert_same_bits
):
    cuda_core.capability = capability
    buf = make_step(np.random.default_rng(4), B=3, D=64, dtype=np.float16, history=1, x0=x0)
    buf.counter[:] = 0
    want, device = copy_step(buf), tensors_of(buf)
    cuda_core.add(device)
    kernel = cubin.CubinStep(device, folder)
    kernel.warm_up()
    assert_same_bits(numpy_views(device), want)
    for _ in range(2):
        kernel.begin()
        kernel.step()
        reference.begin_step(want)
        reference.fused_step(want)
        assert_same_bits(numpy_views(device), want)
    assert [c["grid"] for c in cuda_core.launches] == [(1, 1)] * 3 + [(1, 3), (1, 1), (1, 3)]
    assert all(c["block"] == (128,) and c["shmem_size"] == 0 for c in cuda_core.launches)


@pytest.fixture(scope="module")
def two_times_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels")
    aot.write_kernels(path, ["float32"], 64, two_times=True, capabilities=[])
    return path


def test_launched_files_write_second_times(
    two_times_folder, folder, cuda_core, make_step, copy_step, assert_same_bits
):
    buf = make_step(np.random.default_rng(6), B=3, D=64, history=1, two_times=True)
    buf.counter[:] = 0
    want, device = copy_step(buf), tensors_of(buf)
    cuda_core.add(device)
    assert cubin.chosen_target(cubin.read_index(two_times_folder), (9, 0)) == "ptx"
    kernel = cubin.CubinStep(device, two_times_folder)
    kernel.warm_up()
    assert_same_bits(numpy_views(device), want)
    for _ in range(2):
        kernel.begin()
        kernel.step()
        reference.begin_step(want)
        reference.fused_step(want)
        assert_same_bits(numpy_views(device), want)
    half = make_step(np.random.default_rng(6), D=64, dtype=np.float16, history=1, two_times=True)
    with pytest.raises(ValueError, match=r"no compiled kernel begin_step-two_times; compile the"):
        cubin.CubinStep(tensors_of(half), folder)


def test_launched_noise_is_the_references(folder, cuda_core):
    seeds = np.array([0, (1 << 64) - 1, 3], np.uint64)
    want = np.empty((3, 600), np.float32)
    reference.normal_fill(want, seeds, 5, noise.STREAM_INITIAL)
    got, key = torch.empty(3, 600), torch.from_numpy(seeds.view(np.int64))
    cuda_core.tensors += [got, key]
    cubin.CubinNoise(folder)(got, key, 5, noise.STREAM_INITIAL)
    assert (got.numpy().view(np.uint32) == want.view(np.uint32)).all()


def test_machine_code_of_the_gpu_comes_before_the_ptx(folder, cuda_core, device):
    cuda_core.capability = (9, 0)
    cubin.CubinStep(device, folder)
    assert [name for kind, name, _ in cuda_core.loaded] == [
        "begin_step_kernel",
        "fused_step_kernel",
    ]
    assert all(kind == "cubin" and data[:4] == b"\x7fELF" for kind, _, data in cuda_core.loaded)


def test_a_kernel_that_the_driver_refuses_is_named(folder, cuda_core, device):
    cuda_core.fails = RuntimeError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
    with pytest.raises(ValueError, match=r"can't load .*begin_step\.ptx: CUDA_ERROR_UNSUPPORTED"):
        cubin.CubinStep(device, folder)


def test_kernels_of_another_source_are_stale(folder, tmp_path):
    index = json.loads((folder / aot.INDEX).read_text())
    (tmp_path / aot.INDEX).write_text(json.dumps({**index, "source_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="another revstep's source"):
        cubin.read_index(tmp_path)


def test_staleness_looks_at_every_file_that_kernels_are_made_of():
    from revstep.kernels.gpu import step as step_kernels

    jitted = [value.fn for value in vars(step_kernels).values() if hasattr(value, "arg_names")]
    assert len(jitted) >= 3
    assert {Path(inspect.getsourcefile(f)).name for f in jitted} <= set(aot.SOURCES)


@pytest.mark.parametrize("capability", [75, 91])
def test_a_gpu_that_triton_does_not_know_is_refused(tmp_path, capability):
    with pytest.raises(ValueError, match=f"sm_{capability}; allowed: sm_80, .*sm_121"):
        aot.write_kernels(tmp_path, ["float32"], 64, capabilities=[capability])


def test_cuda_core_has_what_the_launch_uses():
    core = pytest.importorskip("cuda.core", reason="cuda.core is not installed")
    config = core.LaunchConfig(grid=(3, 2), block=(128,), shmem_size=0)
    assert tuple(config.grid) == (3, 2, 1)
    code = core.ObjectCode.from_ptx(b"// not loaded here")
    assert code.code_type == "ptx"
    assert callable(code.get_kernel)
    assert callable(core.launch)
