"""A bundle is written whole or not at all."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from damage import disk_full, snapshot
from toys import build

from revstep.engine.bundle import writer
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.writer import writing_bundle
from revstep.engine.errors import ExportError
from revstep.export import export_module

TESTS = Path(__file__).parents[2]


def fill(work, old):
    """Writes another bundle's files into a working directory."""
    for file in old.iterdir():
        (work / file.name).write_bytes(file.read_bytes())


def test_the_bundle_appears_when_the_block_ends(tabular_bundle, tmp_path):
    target = tmp_path / "deep" / "x.revstep"
    with writing_bundle(target) as work:
        fill(work, tabular_bundle)
        assert not target.exists()
    assert snapshot(target) == snapshot(tabular_bundle)
    assert [p.name for p in target.parent.iterdir()] == ["x.revstep"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_bundle_is_replaced(tabular_bundle, policy_bundle, copy_of, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(writer, "_exchange", lambda one, other: False)
    target = copy_of(policy_bundle)
    with writing_bundle(target, overwrite=True) as work:
        fill(work, tabular_bundle)
        assert snapshot(target) == snapshot(policy_bundle)
    assert snapshot(target) == snapshot(tabular_bundle)
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def fail_in_the_middle(target, error):
    with writing_bundle(target, overwrite=True) as work:
        (work / "half").write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_bundle_and_nothing_else(policy_bundle, copy_of, error):
    target = copy_of(policy_bundle)
    with pytest.raises(type(error)):
        fail_in_the_middle(target, error)
    assert snapshot(target) == snapshot(policy_bundle)
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_a_linked_target_keeps_its_link(tabular_bundle, policy_bundle, copy_of, tmp_path):
    real = copy_of(policy_bundle)
    link = tmp_path / "current.revstep"
    link.symlink_to(real)
    with writing_bundle(link, overwrite=True) as work:
        fill(work, tabular_bundle)
    assert link.is_symlink()
    assert snapshot(real) == snapshot(tabular_bundle)


def test_what_is_no_bundle_is_never_replaced(tmp_path):
    directory = tmp_path / "photos"
    directory.mkdir()
    (directory / "one.jpg").write_text("dear")
    with (
        pytest.raises(ExportError, match="is no bundle"),
        writing_bundle(directory, overwrite=True),
    ):
        pass
    (directory / "manifest.json").write_text('{"name": "a web app"}')
    with (
        pytest.raises(ExportError, match="not a bundle's"),
        writing_bundle(directory, overwrite=True),
    ):
        pass
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ExportError, match="is a file"), writing_bundle(file, overwrite=True):
        pass
    assert (directory / "one.jpg").read_text() == "dear"


def test_a_damaged_bundle_may_be_replaced(tabular_bundle, copy_of):
    target = copy_of(tabular_bundle)
    text = (target / "manifest.json").read_text()
    (target / "manifest.json").write_text(text[: len(text) // 2])
    with writing_bundle(target, overwrite=True) as work:
        fill(work, tabular_bundle)
    assert Bundle.open(target).precisions == ("fp32",)


def test_a_target_that_appears_meanwhile_is_kept(tabular_bundle, policy_bundle, copy_of, tmp_path):
    target = tmp_path / "x.revstep"

    def meanwhile():
        with writing_bundle(target) as work:
            fill(work, tabular_bundle)
            copy_of(policy_bundle, target.name)

    with pytest.raises(ExportError, match="exists"):
        meanwhile()
    assert snapshot(target) == snapshot(policy_bundle)


@pytest.mark.parametrize("where", ["parity", "graph", "manifest", "sync"])
def test_a_full_disk_is_said_and_leaves_the_old_bundle(tabular_bundle, copy_of, monkeypatch, where):
    import torch

    target = copy_of(tabular_bundle)
    if where == "parity":
        monkeypatch.setattr(np, "savez", disk_full)
    elif where == "graph":
        monkeypatch.setattr(torch.onnx.ONNXProgram, "save", disk_full)
    elif where == "manifest":
        monkeypatch.setattr(os, "replace", disk_full)
    else:
        monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(ExportError, match=r"full; .*is as it was: free some space"):
        export_module(*build("tabular")[:2], target, overwrite=True)
    assert snapshot(target) == snapshot(tabular_bundle)
    assert [p.name for p in target.parent.iterdir()] == [target.name]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 8 kB; skips where none can be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if made.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk_leaves_nothing(tiny_disk):
    with pytest.raises(ExportError, match=r"full; .*was not written: free some space"):
        export_module(*build("tabular")[:2], tiny_disk / "x.revstep")
    assert list(tiny_disk.iterdir()) == []


@pytest.mark.parametrize("stage", ["exporting the graph", "writing the bundle"])
@pytest.mark.skipif(os.name != "posix", reason="kills a process by signal")
def test_a_killed_export_leaves_the_old_bundle_and_the_next_cleans_up(
    tabular_bundle, copy_of, stage
):
    target = copy_of(tabular_bundle)
    program = textwrap.dedent("""
        import sys, time
        sys.path.insert(0, sys.argv[1])
        import torch
        from toys import build
        from revstep.export import export_module

        def progress(description, done, total):
            if description == sys.argv[3]:
                print("here", flush=True)
                time.sleep(60)

        torch.set_num_threads(1)
        export_module(*build("tabular")[:2], sys.argv[2], overwrite=True, progress=progress)
    """)
    command = [sys.executable, "-c", program, str(TESTS / "support"), str(target), stage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert snapshot(target) == snapshot(tabular_bundle)
    Bundle.open(target)
    left = [p for p in target.parent.iterdir() if p != target]
    assert [p.suffix for p in left] == [".partial"]
    with writing_bundle(target, overwrite=True) as work:
        fill(work, tabular_bundle)
    assert [p for p in target.parent.iterdir() if p != target] == []
