"""Figures that pages have in small tables and sentences, from planted rows."""

import json
import tomllib
from pathlib import Path

import pytest

from suites.checkpoints import table as checkpoints
from suites.precision import table as precision
from suites.service import table as service
from suites.service.sides import ALONE, IN_FLIGHT, WHOLE
from suites.sizes import measure as sizes
from suites.sizes import table as sizes_table
from suites.tables import NOTHING
from suites.verdicts import table as verdicts

ROOT = Path(__file__).resolve().parents[2]


def saturation(name, ratio):
    return {"part": "saturation", "name": name, "ratios": {WHOLE: {"ratio": ratio}}}


def load(name, ours, theirs):
    def side(value):
        return {"seconds": {} if value is None else {"p99": {"value": value}}}

    sides = {IN_FLIGHT: side(ours), WHOLE: side(theirs), ALONE: side(None)}
    return {"part": "load", "name": name, "sides": sides}


def test_the_readmes_sentence_spans_the_networks_at_its_load():
    rows = [
        saturation("a", 1.374), saturation("b", 1.57),
        load("a, 80%", 0.12, 0.3), load("a, 20%", 9.0, 1.0), load("b, 80%", 0.5, None),
        load("small b, 80%", 0.5, 1.0),
    ]  # fmt: skip
    text = service.worth_line(rows)
    assert "does 1.4 to 1.6 times as many a second" in text
    assert "p99 at 80% of their load is 0.4 to 0.5 of theirs (a, small b)." in text
    assert service.worth_line(rows[:2]) == NOTHING


def test_engines_of_one_build_are_apart_by_the_farthest_opening_of_equal_sides():
    equal = {"planted": 0.0, "each": [{"openings": [1.01, 0.964]}, {"openings": [1.02]}]}
    slower = {"planted": 0.05, "each": [{"openings": [1.09]}]}
    assert "up to 3.6% there" in verdicts.apart_line([equal, slower])
    assert verdicts.apart_line([slower]) == NOTHING


def times(network, error, version="2026.4.1"):
    machine = {"cpu": "CPU", "versions": {"openvino": version}, "commit": "abc", "time": "2026-01"}
    errors = {"all bf16": [error, 0.2], "times in float32": [0.004, 0.0041]}
    return {"part": "times", "network": network, "times": [0.0, 750.0], "errors": errors,
            "rows": 4, "machine": machine}  # fmt: skip


def test_errors_by_time_are_of_the_last_row_of_each_network():
    rows = [times("u", 0.9), {"network": "u", "converter": "c", "precision": "fp16"},
            times("u", 0.1)]  # fmt: skip
    text = precision.times_table(rows)
    assert "| time | 0 | 750 |" in text
    assert "| u, all bf16 | 0.1000 | 0.2000 |" in text
    assert "0.9000" not in text
    assert "OpenVINO 2026.4.1; 4 rows of noise; commit abc" in precision.times_line(rows)
    assert precision.converters_table(rows).count("| u | c |") == 1


def test_bf16_errs_at_a_long_time_unless_times_stay_in_float32():
    pytest.importorskip("openvino")
    from revstep.engine.system.machine import has_bf16
    from suites.precision.times import OURS, PLAIN, TIMES, measure

    if not has_bf16():
        pytest.skip("this processor has no bf16")
    errors = measure("small image network")["errors"]
    at = TIMES.index(750.0)
    assert errors[PLAIN][at] > 0.05
    assert max(errors[OURS]) < 0.01
    assert min(errors[OURS]) > 0.0


def test_networks_of_other_trainers_show_three_stages_and_nothing_else():
    stages = {"onnxruntime fp32": {"error": 1e-6}, "whole": {"error": 2.4e-5}}
    rows = [{"name": "azula, Karras denoiser", "stages": stages}, {"name": "other", "stages": {}}]
    text = checkpoints.trainers_table(rows)
    assert text.endswith("| azula, Karras denoiser | 1e-06 | no | 2e-05 |\n")


def test_sizes_are_of_files_and_parts_by_distribution_nvidias_as_one(tmp_path):
    for name, size in (("Big", 1000), ("nvidia-a", 300), ("cuda-b", 200)):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (tmp_path / f"{name}.bin").write_bytes(bytes(size))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{name}.bin,,{size}\n")
    found = sizes.sizes_in(tmp_path)
    assert found["parts"] == {"big": 1000, "nvidia": 500}
    assert found["bytes"] == sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert found["versions"] == {"big": "1.0", "nvidia-a": "1.0", "cuda-b": "1.0"}


def test_the_table_of_sizes_has_the_last_row_of_each_in_order():
    def row(extras, size, **versions):
        return {"extras": extras, "bytes": size, "parts": {"a": 9e6, "tiny": 1e3},
                "versions": versions}  # fmt: skip

    rows = [row("cuda,serve", 9e9, torch="2.13.0"), row("cpu,serve", 9e6), row("cpu,serve", 1e7)]
    lines = sizes_table.extras_table(rows).splitlines()[2:]
    assert lines[:2] == ["| `cpu,serve` | no | 10 | a 9 |", "| `cuda,serve` | 2.13.0 | 9,000 |  |"]
    assert lines[2] == "| `openvino,serve` |  | not measured yet |  |"
    assert sizes_table.extras_table([]) == NOTHING


def test_a_cpus_torch_is_no_size_of_cuda(monkeypatch, tmp_path, capsys):
    wheel, output = tmp_path / "x.whl", tmp_path / "rows.jsonl"
    wheel.touch()

    def measured(wheel, extras):
        return {"extras": extras, "bytes": 1, "versions": {"torch": "2.13.0+cpu"}}

    monkeypatch.setattr(sizes, "measure", measured)
    words = [str(wheel), "--only", "cuda,serve", "cpu,serve", "--output", str(output)]
    assert sizes.main(words) == 1
    assert [json.loads(row)["extras"] for row in output.read_text().splitlines()] == ["cpu,serve"]
    assert "a CPU build" in capsys.readouterr().err


def test_extras_whose_sizes_are_measured_are_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    assert {one for extras in sizes.EXTRAS for one in extras.split(",")} <= set(known)
