"""How many threads a process may use, on made-up cgroups and processors."""

import os
from pathlib import Path

import pytest
from groups import files, process

from revstep.engine.system import cores

V2 = [("/", "cg", "cgroup2 cgroup rw,nsdelegate")]
V1 = [
    ("/", "cg/cpuset", "cgroup cgroup rw,cpuset"),
    ("/", "cg/cpu", "cgroup cgroup rw,cpu,cpuacct"),
]


@pytest.mark.parametrize(
    ("text", "quota"),
    [("max 100000", None), ("150000 100000", 1.5), ("50000 100000", 0.5), ("400000 50000", 8.0)],
)
def test_a_quota_of_version_2(tmp_path, text, quota):
    files(tmp_path / "cg", cpu__max=text)
    assert cores.cpu_quota(process(tmp_path, "0::/\n", V2)) == quota


def test_the_lowest_limit_on_the_way_up_holds(tmp_path):
    files(tmp_path / "cg" / "pod" / "box", cpu__max="max 100000")
    files(tmp_path / "cg" / "pod", cpu__max="200000 100000")
    files(tmp_path / "cg", cpu__max="800000 100000")
    files(tmp_path, cpu__max="1 100000")  # above the mount: none of the process's
    assert cores.cpu_quota(process(tmp_path, "0::/pod/box\n", V2)) == 2.0


@pytest.mark.parametrize(("quota", "limit"), [("-1", None), ("250000", 2.5)])
def test_a_quota_of_version_1(tmp_path, quota, limit):
    folder = tmp_path / "cg" / "cpu" / "job"
    files(folder, cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    files(tmp_path / "cg" / "cpuset" / "job", cpu__cfs_quota_us="1", cpu__cfs_period_us="100000")
    groups = "3:cpuset:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/a:b\n0::/\n"
    assert cores.cpu_quota(process(tmp_path, groups, V1)) == limit


def test_a_container_whose_group_has_the_hosts_path_reads_its_own_mount(tmp_path):
    files(tmp_path / "cg" / "cpu", cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    mounts = [("/docker/0123", "cg/cpu", "cgroup cgroup rw,cpu,cpuacct")]
    for group in ("/docker/0123", "/elsewhere"):
        proc = process(tmp_path, f"2:cpu,cpuacct:{group}\n", mounts)
        assert cores.cpu_quota(proc) == 3.0
        (proc / "cgroup").unlink()
        (proc / "mountinfo").unlink()
        proc.rmdir()


def test_a_system_without_cgroups_has_no_quota(tmp_path):
    assert cores.cpu_quota(tmp_path) is None


def test_processors_of_one_core_count_once(tmp_path):
    for cpu, siblings in {0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}.items():
        files(tmp_path / f"cpu{cpu}" / "topology", thread_siblings_list=siblings)
    assert cores._physical_cores([0, 4], tmp_path) == 1
    assert cores._physical_cores([0, 1, 4, 5], tmp_path) == 2
    assert cores._physical_cores([0, 1, 7], tmp_path) == 3  # nothing is known of 7
    assert cores._physical_cores([], tmp_path) == 1


@pytest.mark.parametrize(
    ("quota", "threads", "cpus"), [(None, 4, 8), (2.9, 2, 2), (0.2, 1, 1), (6.0, 4, 6)]
)
def test_threads_are_one_a_core_within_mask_and_quota(monkeypatch, quota, threads, cpus):
    monkeypatch.setattr(cores, "allowed_cpus", lambda: frozenset(range(8)))
    monkeypatch.setattr(cores, "_physical_cores", lambda cpus, folder: len(cpus) // 2)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.usable_threads() == threads
    assert cores.usable_cpus() == cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity masks")
def test_load_starts_no_thread_beyond_the_affinity_mask(tabular_bundle):
    pytest.importorskip("onnxruntime")
    import subprocess
    import sys

    code = f"""
import os
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
import revstep
before = len(os.listdir("/proc/self/task"))
engine = revstep.load({str(tabular_bundle)!r}, device="cpu")
engine.sample(1, steps=2, seed=0)
print(len(os.listdir("/proc/self/task")) - before, engine.describe()["threads"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "1"], done.stderr


def test_every_session_has_the_number_that_is_described(tabular_bundle, monkeypatch):
    pytest.importorskip("onnxruntime")
    import revstep
    from revstep.engine.backends import onnx_cpu as ort_session

    monkeypatch.setattr(ort_session, "usable_threads", lambda: 3)
    engine = revstep.load(tabular_bundle, device="cpu")
    with engine._runtime._denoiser._session as session:
        assert session.get_session_options().intra_op_num_threads == 3
    assert engine.describe()["threads"] == 3
    assert revstep.load(tabular_bundle, device="cpu", threads=2).describe()["threads"] == 2


def test_real_files_are_read():
    quota = cores.cpu_quota()
    assert quota is None or quota > 0
    assert 1 <= cores.usable_threads() <= cores.usable_cpus() <= (os.cpu_count() or 1)
    assert Path("/proc/self").exists() or quota is None
