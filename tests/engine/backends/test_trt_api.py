"""Every name that the TensorRT code uses is one that the real libraries have."""

import json
import shutil
import subprocess

import pytest
import trt_api

# What only some TensorRTs have. The code asks with hasattr or for TensorRT-RTX before it uses them.
ONLY_RTX = (
    ("", "ComputeCapability"),
    ("", "CudaGraphStrategy"),
    ("", "DynamicShapesKernelSpecializationStrategy"),
    ("", "EngineInvalidityDiagnostics"),
    ("", "EngineValidity"),
    ("CudaGraphStrategy", "DISABLED"),
    ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("EngineValidity", "INVALID"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("IExecutionContext", "is_stream_capturable"),
    ("IRuntimeCache", "deserialize"),
    ("IRuntimeCache", "serialize"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "cuda_graph_strategy"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ("IRuntimeConfig", "set_runtime_cache"),
    ("Runtime", "engine_header_size"),
    ("Runtime", "get_engine_validity"),
)
GUARDED = {
    ("ICudaEngine", "create_runtime_config"): {"10.16", "11.4", "rtx"},
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"): {"10.0", "10.16"},
    **{key: {"rtx"} for key in ONLY_RTX},
}


def short(version):
    """``tensorrt 10.16.1.11`` as ``10.16``, ``tensorrt_rtx 1.7.1`` as ``rtx``."""
    name, number = version.split()
    return "rtx" if name == "tensorrt_rtx" else ".".join(number.split(".")[:2])


def committed():
    return {short(k): v for k, v in json.loads(trt_api.API.read_text()).items()}


def test_every_used_name_is_in_every_tensorrt_or_guarded():
    apis = committed()
    assert set(apis) == {"10.0", "10.16", "11.4", "rtx"}
    missing = []
    for (owner, name), source in trt_api.used_names().items():
        have = {version for version, api in apis.items() if name in api.get(owner, ())}
        if have != GUARDED.get((owner, name), set(apis)):
            missing.append(f"{source}: {owner}.{name} is only in {sorted(have)}")
    assert not missing, "\n".join(missing)


def test_no_guard_outlives_its_use():
    assert set(GUARDED) <= set(trt_api.used_names())


def test_the_collector_sees_the_calls_that_matter():
    used = set(trt_api.used_names())
    assert {
        ("IExecutionContext", "execute_async_v3"),
        ("IExecutionContext", "set_tensor_address"),
        ("Runtime", "deserialize_cuda_engine"),
        ("Builder", "build_serialized_network"),
        ("IProgressMonitor", "step_complete"),
        ("ILogger", "log"),
        ("MemoryPoolType", "WORKSPACE"),
    } <= used


def test_a_name_that_no_tensorrt_has_is_noticed(tmp_path):
    source = tmp_path / "x.py"
    source.write_text("def f(self, trt):\n    self._runtime.load_it()\n    trt.Builder.make(1)\n")
    used = trt_api.used_names([source])
    assert set(used) == {("Runtime", "load_it"), ("", "Builder"), ("Builder", "make")}
    assert "load_it" not in committed()["11.4"]["Runtime"]


@pytest.mark.slow
@pytest.mark.tensorrt
def test_the_committed_names_are_those_of_the_real_bindings(tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc for the stub libraries")
    apis = {short(k): v for k, v in json.loads(trt_api.API.read_text()).items()}
    classes = trt_api.classes_used()
    for version in trt_api.WHEELS:
        try:
            found = trt_api.wheel_api(version, classes, tmp_path)
        except subprocess.CalledProcessError as error:
            if "pip" not in error.cmd:
                raise
            pytest.skip(f"pip can't download tensorrt-cu12-bindings {version} for this Python")
        assert found == apis[short(f"tensorrt {version}")]


@pytest.mark.tensorrt
def test_the_installed_tensorrt_rtx_has_every_used_name():
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)
    api = trt_api.list_api("tensorrt_rtx", trt_api.classes_used())
    only_elsewhere = {key for key, have in GUARDED.items() if "rtx" not in have}
    used = set(trt_api.used_names()) - only_elsewhere
    assert not [key for key in used if key[1] not in api.get(key[0], ())]
