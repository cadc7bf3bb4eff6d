"""Made-up cgroups of a process: its folder in /proc, and the files of its groups."""


def process(tmp_path, cgroup, mounts):
    """A /proc/self with those groups, and with mounts below ``tmp_path``."""
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup)
    lines = [
        f"{30 + k} 24 0:{k} {root} {tmp_path / point} rw,relatime shared:9 - {kind}"
        for k, (root, point, kind) in enumerate(mounts)
    ]
    (proc / "mountinfo").write_text("\n".join(["22 1 0:20 / / rw - ext4 /dev/vda rw", *lines]))
    return proc


def files(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")
