"""Texts that go into a bundle name files, and no folder of the machine."""

import sys
from pathlib import Path

import numpy as np
import pytest

from revstep.export.targets.cpu.folders import without_folders

HOME = Path.home()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HOME}/work/x.revstep/g.onnx is damaged", "g.onnx is damaged"),
        (f"can't read {HOME}", "can't read ..."),
        (f'File "{np.__file__}", line 3, in f', 'File "__init__.py", line 3, in f'),
        (f"'{Path(sys.prefix).parent}/an other/g.onnx' (9)", "'g.onnx' (9)"),
        ("no such file: /usr/lib/my.so: cannot open", "no such file: my.so: cannot open"),
        ("/tmp/a/b.c:7,/usr/d/e.f", "b.c:7,e.f"),
        (r"D:\Users\somebody\g.onnx fails", "g.onnx fails"),
        ("node /layers/layers.0/Gemm fails", "node /layers/layers.0/Gemm fails"),
        ("see https://host/a/b, 3/4 of 5 / 6", "see https://host/a/b, 3/4 of 5 / 6"),
        ("", ""),
    ],
)
def test_a_path_keeps_its_last_name(text, told):
    assert without_folders(text) == told


def test_a_known_folder_may_hold_spaces(tmp_path):
    folder = tmp_path / "somebody else" / "a project"
    assert without_folders(f"in {folder}/x.revstep it fails", folder) == "in x.revstep it fails"
