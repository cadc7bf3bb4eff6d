"""What killed writers left is removed by the next one; what a living one writes never is."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
fcntl = pytest.importorskip("fcntl")

from damage import snapshot  # noqa: E402

from revstep.engine.bundle import leftovers  # noqa: E402
from revstep.engine.bundle.reader import Bundle  # noqa: E402
from revstep.engine.bundle.writer import writing_bundle  # noqa: E402
from revstep.engine.errors import ExportError  # noqa: E402
from revstep.export import compile_bundle  # noqa: E402


def fill(work, old):
    for file in old.iterdir():
        (work / file.name).write_bytes(file.read_bytes())


def write(target, bundle):
    with writing_bundle(target, overwrite=True) as work:
        fill(work, bundle)


@pytest.fixture(scope="module")
def dead():
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left(tmp_path, owner, suffix="partial"):
    folder = tmp_path / f".x.revstep.{owner}-0123abcd.{suffix}"
    folder.mkdir()
    (folder / "data").write_text("d")
    return folder


def owners(dead):
    """The part of a folder's name that names its owner -> whether that one is dead."""
    host, me = leftovers._host(), os.getpid()
    return {
        f"{host}-{dead}": True,
        f"{host}-{dead}-12345": True,
        f"{host}-{me}": False,
        f"{host}-{me}-{leftovers._started(me)}": False,
        f"{host}-{me}-0": False,
        f"{host}-{me}-1": True,  # this process's number, but another start
        f"{host}-1": False,
        f"elsewhere-{dead}-12345": False,
    }


def test_only_what_a_dead_process_of_this_host_left_is_removed(tabular_bundle, tmp_path, dead):
    found = {left(tmp_path, owner): gone for owner, gone in owners(dead).items()}
    mine = tmp_path / ".x.revstep.notes"
    mine.mkdir()
    write(tmp_path / "x.revstep", tabular_bundle)
    assert {folder: not folder.exists() for folder in found} == found
    assert mine.exists()


def test_another_hosts_folder_is_removed_when_it_was_left_alone_for_a_day(
    tabular_bundle, tmp_path, dead, monkeypatch
):
    folder = left(tmp_path, f"elsewhere-{dead}-12345")
    write(tmp_path / "x.revstep", tabular_bundle)
    assert folder.exists()
    monkeypatch.setattr(leftovers.time, "time", lambda now=time.time: now() + 25 * 3600)
    write(tmp_path / "x.revstep", tabular_bundle)
    assert not folder.exists()


HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("here", flush=True)
sys.stdin.read()
"""


def test_what_is_locked_is_not_removed_whoever_made_it(tabular_bundle, tmp_path, dead):
    """A writer in another container: its number means nothing here, its lock does."""
    folder = left(tmp_path, f"{leftovers._host()}-{dead}-12345")
    command, pipe = [sys.executable, "-c", HOLD, str(folder)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as owner:
        assert owner.stdout.readline() == "here\n"
        write(tmp_path / "x.revstep", tabular_bundle)
        assert folder.exists()
        owner.communicate()
    write(tmp_path / "x.revstep", tabular_bundle)
    assert not folder.exists()


def test_a_disk_without_locks_goes_by_the_processes(tabular_bundle, tmp_path, dead, monkeypatch):
    def no_locks(handle, how):
        raise OSError(9, "Bad file descriptor")  # what NFS says of a folder

    found = {left(tmp_path, owner): gone for owner, gone in owners(dead).items()}
    monkeypatch.setattr(fcntl, "flock", no_locks)
    write(tmp_path / "x.revstep", tabular_bundle)
    assert {folder: not folder.exists() for folder in found} == found


def test_two_writers_of_one_target_leave_each_other_alone(tabular_bundle, tmp_path):
    with writing_bundle(tmp_path / "x.revstep", overwrite=True) as one:
        fill(one, tabular_bundle)
        write(tmp_path / "x.revstep", tabular_bundle)
        assert snapshot(one) == snapshot(tabular_bundle)
    assert snapshot(tmp_path / "x.revstep") == snapshot(tabular_bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["x.revstep"]


def test_an_old_bundle_moved_aside_by_a_dead_run_comes_back(policy_bundle, tmp_path, dead):
    old = tmp_path / f".x.revstep.{leftovers._host()}-{dead}-77-0123abcd.old"
    shutil.copytree(policy_bundle, old)
    target = tmp_path / "x.revstep"
    with pytest.raises(ExportError, match="exists"), writing_bundle(target):
        pass
    assert not old.exists()
    assert snapshot(target) == snapshot(policy_bundle)


PROGRAM = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    {imports}

    def stop(*arguments):
        print("here", flush=True)
        time.sleep(60)

    {work}
""")


def killed(tmp_path, imports, work, *arguments):
    """Runs the program until it calls ``stop``, and kills it there."""
    program = PROGRAM.format(imports=imports, work=work)
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
        process.wait()


def kill_a_writer(tmp_path, target):
    killed(
        tmp_path,
        "from revstep.engine.bundle.writer import writing_bundle",
        "with writing_bundle(sys.argv[1], overwrite=True) as work: "
        "(work / 'half').write_text('half'); stop()",
        target,
    )
    return [p for p in target.parent.iterdir() if p.suffix == ".partial"]


def test_the_next_export_removes_what_a_killed_one_left(tabular_bundle, tmp_path):
    target = tmp_path / "x.revstep"
    (partial,) = kill_a_writer(tmp_path, target)
    assert (partial / "half").exists()
    write(target, tabular_bundle)
    assert [p.name for p in tmp_path.iterdir()] == ["x.revstep"]


def test_the_next_compile_removes_what_killed_ones_left(tabular_bundle, copy_of, tmp_path):
    target = copy_of(tabular_bundle)
    assert len(kill_a_writer(tmp_path, target)) == 1
    killed(
        tmp_path,
        "from revstep.export import compile_bundle\nimport os",
        "os.replace = stop; compile_bundle(sys.argv[1], threads=1)",
        target,
    )
    assert len(list(target.glob(".manifest.json.*"))) == 1
    compile_bundle(target, threads=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [target.name]
    assert sorted(p.name for p in target.iterdir()) == sorted(
        p.name for p in tabular_bundle.iterdir()
    )
    assert len(Bundle.open(target).compiled) == 1
