"""The step's kernels in a bundle: compiled for real, listed, hashed, replaced, refused."""

import json
import os
import sys

import pytest
from damage import disk_full, edit_manifest, export_anew, flip, rehash, snapshot

from revstep.engine.bundle.kernels import KernelFiles
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BundleError, CompileError
from revstep.export import compile_bundle, compile_kernels
from revstep.kernels.gpu import aot, cubin

triton = pytest.importorskip("triton", reason="Triton is not installed")


@pytest.fixture
def quick(monkeypatch):
    """Compiles nothing: code of the right form, at once."""

    def compiled(variant, capability):
        text = f"// {variant.name} sm_{capability}"
        return aot.Code(f"{variant.kernel}_kernel", text, text.encode(), 0, 2)

    monkeypatch.setattr(aot, "compile_variant", compiled)


def test_kernels_are_in_the_bundle_listed_and_hashed(built):
    files = KernelFiles.of(Bundle.open(built))
    files.check()
    assert files.targets == ("sm_80",)
    assert str(files) == "14 kernels for sm_80 and as portable PTX"
    index = cubin.read_index(files.folder)
    assert index["triton"] == triton.__version__
    assert len(index["kernels"]) == 14
    for entry in index["kernels"].values():
        ptx = (files.folder / entry["files"]["ptx"]).read_text()
        assert f".entry {entry['entry']}(" in ptx
        assert (files.folder / entry["files"]["sm_80"]).read_bytes()[:4] == b"\x7fELF"
    on_disk = {p.relative_to(built).as_posix() for p in (built / "kernels").rglob("*.*")}
    assert on_disk == set(files.names)
    assert files.bytes == sum((built / name).stat().st_size for name in files.names)


@pytest.mark.parametrize(
    ("kind", "present", "absent"),
    [
        ("policy", ["fused_step-fp32-h1-c128", "fused_step-fp32-h3-x0-inpaint-c128"], "learned"),
        ("image", ["fused_step-fp32-h1-learned-c256", "normal_fill-c128"], "-fp16"),
        ("tabular", ["fused_step-fp32-h1-tail-c128", "normal_fill-tail-c128"], "learned"),
    ],
)
def test_variants_are_those_that_the_spec_can_use(
    kind, present, absent, request, copy_of, quick, monkeypatch
):
    path = copy_of(request.getfixturevalue(f"{kind}_bundle"))
    calls = []
    files = compile_kernels(path, progress=lambda *args: calls.append(args))
    names = set(cubin.read_index(files.folder)["kernels"])
    assert names >= {"begin_step", *present}
    assert not any(absent in name for name in names)
    assert files.targets == ("sm_80", "sm_90", "sm_100", "sm_120")
    assert [done for _, done, _ in calls] == list(range(len(names) + 1))


def test_a_second_compile_changes_nothing(built, copy_of):
    path = copy_of(built)
    before, calls = snapshot(path), []
    compile_kernels(path, gpus=("sm_80",), progress=lambda *args: calls.append(args))
    assert snapshot(path) == before
    assert calls == [("in the bundle", 1, 1)]


def test_other_gpus_replace_the_kernels_and_their_files(built, copy_of, quick):
    path = copy_of(built)
    files = compile_kernels(path, gpus=("sm_120", "SM90", "sm_90"))
    assert files.targets == ("sm_90", "sm_120")
    assert [p.name for p in (path / "kernels").iterdir()] == [files.folder.name]
    Bundle.open(path)


def test_kernels_and_networks_stay_beside_each_other(built, copy_of, quick):
    path = copy_of(built)
    compile_bundle(path, threads=1)
    compile_kernels(path)
    compile_bundle(path, threads=1)
    opened = Bundle.open(path)
    assert [entry.target for entry in opened.compiled] == ["onnxruntime"]
    assert KernelFiles.of(opened).targets == ("sm_80", "sm_90", "sm_100", "sm_120")


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "empty"])
@pytest.mark.parametrize("name", ["begin_step.ptx", "begin_step.sm_80.cubin", "kernels.json"])
def test_a_damaged_file_is_refused_with_the_command_that_fixes_it(
    built, copy_of, quick, damage, name
):
    path = copy_of(built)
    (file,) = path.rglob(name)
    if damage == "flipped":
        flip(file, 100)
    elif damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1] if damage == "cut" else b"")
    command = f"revstep compile {path} --kernels --gpu sm_80"
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert str(file) in str(caught.value)
    assert str(caught.value).endswith(command)
    if damage == "flipped":  # a size that is right is found out before any GPU gets the code
        with pytest.raises(BundleError, match="content was changed"):
            KernelFiles.of(Bundle.open(path, verify=False)).check()
    compile_kernels(path, gpus=("sm_80",))
    KernelFiles.of(Bundle.open(path)).check()


def test_kernels_of_another_revstep_are_refused_by_name(built, copy_of):
    path = copy_of(built)
    files = KernelFiles.of(Bundle.open(path))
    index = json.loads((files.folder / aot.INDEX).read_text())
    index["source_sha256"] = "0" * 64
    (files.folder / aot.INDEX).write_text(json.dumps(index))
    rehash(path, f"kernels/{files.folder.name}/{aot.INDEX}")
    stale = KernelFiles.of(Bundle.open(path))
    with pytest.raises(BundleError, match=rf"another revstep.*revstep compile {path} --kernels"):
        stale.check()


def test_a_path_that_leaves_the_bundle_is_refused(built, copy_of):
    path = copy_of(built)
    (name,) = [n for n in Bundle.open(path).manifest["files"] if n.endswith("begin_step.ptx")]
    edit_manifest(path, lambda m: m["files"].update({"kernels/../../x": m["files"][name]}))
    with pytest.raises(BundleError, match="plain relative path"):
        Bundle.open(path)


def test_a_kill_before_the_manifest_leaves_the_bundle_and_is_cleaned_up(
    built, copy_of, quick, monkeypatch
):
    path = copy_of(built)
    before = snapshot(path)

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("revstep.engine.bundle.record.write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            compile_kernels(path, gpus=("sm_90",))
    KernelFiles.of(Bundle.open(path)).check()
    assert {k: v for k, v in snapshot(path).items() if k in before} == before
    (path / "kernels" / f".{'a' * 32}.partial").mkdir()
    (path / "kernels" / "notes.txt").write_text("mine")
    files = compile_kernels(path, gpus=("sm_120",))
    names = {p.name for p in (path / "kernels").iterdir()}
    assert names == {files.folder.name, "notes.txt"}


def test_a_full_disk_leaves_the_bundle(built, copy_of, quick, monkeypatch):
    path = copy_of(built)
    before = snapshot(path)
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(CompileError, match=r"No space left.*unchanged"):
        compile_kernels(path, gpus=("sm_90",))
    after = snapshot(path)
    assert {name: after[name] for name in before} == before
    Bundle.open(path)


def test_a_bundle_exported_anew_meanwhile_is_not_touched(built, copy_of, quick):
    path = copy_of(built)

    def meanwhile(name, done, total):
        if done == 0:
            export_anew(path)

    with pytest.raises(CompileError, match="exported anew"):
        compile_kernels(path, gpus=("sm_90",), progress=meanwhile)
    assert KernelFiles.of(Bundle.open(path)).targets == ("sm_80",)


def test_without_triton_it_says_what_to_install(policy_bundle, copy_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(CompileError, match=r"pip install 'revstep\[triton\]' \(Linux\)"):
        compile_kernels(copy_of(policy_bundle))


def test_a_failing_triton_is_named(policy_bundle, copy_of, monkeypatch):
    def fails(variant, capability):
        raise RuntimeError("ptxas is missing")

    path = copy_of(policy_bundle)
    before = snapshot(path)
    monkeypatch.setattr(aot, "compile_variant", fails)
    with pytest.raises(CompileError, match=r"Triton .* can't compile: ptxas is missing"):
        compile_kernels(path)
    assert snapshot(path) == before


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ("H200", "written sm_<compute capability>"),
        ("sm_75", "GPUs before sm_80"),
        ("sm_91", "allowed: sm_80,"),
    ],
)
def test_gpus_that_cannot_be_compiled_for_are_refused(policy_bundle, copy_of, gpu, message):
    with pytest.raises(ValueError, match=message):
        compile_kernels(copy_of(policy_bundle), gpus=("sm_80", gpu))
