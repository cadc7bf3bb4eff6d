"""Bulk generation: the same bits however a job is cut, killed and continued."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from stepwise import until
from winners import put_winner

import revstep
from revstep import Decoder
from revstep.errors import ArgumentError
from revstep.samplers import DDPM
from revstep.serve.bulk.files import array_of, arrow_table
from revstep.serve.bulk.generate import JOB, generate
from revstep.serve.bulk.plan import Plan, check_same, shard_size_for

LABELS = {"label": np.arange(4)}


@pytest.fixture(scope="module")
def engine(image_bundle):
    return revstep.load(image_bundle, threads=1, reproducible=True)


def plan_of(**fields):
    return Plan(**{"n": 23, "seed": 5, "sampler": "ddim", "steps": 3, "guidance": 1.5,
                   "conditions": LABELS, "format": "npy", "shard_size": 7, **fields})  # fmt: skip


def npy(folder):
    return np.concatenate([np.load(p) for p in sorted(folder.glob("part-*.npy"))])


def test_sample_i_has_seed_i_and_value_i_in_turn(engine, image_bundle, tmp_path):
    outcome = generate(engine, image_bundle, plan_of(), tmp_path)
    assert (outcome.files, outcome.written, outcome.samples) == (4, 4, 23)
    want = engine.sample(
        23, seed=5, steps=3, guidance=1.5, conditions={"label": np.arange(23) % 4}
    ).numpy()
    got = npy(tmp_path)
    assert got.shape == (23, 3, 16, 16)  # decoded
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def test_without_a_name_the_bundles_own_sampler_runs():
    assert plan_of(sampler=None).request(0, 2).sampler is None
    assert plan_of(sampler="ddpm").request(0, 2).sampler == DDPM()
    with pytest.raises(ValueError, match="options are a sampler's: name it"):
        plan_of(sampler=None, options={"eta": 0.5})


@pytest.mark.parametrize("shard_size", [1, 10, 23, 1000])
def test_bits_do_not_depend_on_where_the_shards_begin(engine, image_bundle, tmp_path, shard_size):
    generate(engine, image_bundle, plan_of(), tmp_path / "a")
    generate(engine, image_bundle, plan_of(shard_size=shard_size), tmp_path / "b")
    np.testing.assert_array_equal(npy(tmp_path / "a"), npy(tmp_path / "b"))


@pytest.mark.parametrize(
    ("shape", "size"), [((3, 16, 16), 1024), ((3, 512, 512), 80), ((3, 2048, 2048), 5)]
)
def test_files_of_large_samples_hold_fewer_of_them(engine, shape, size):
    spec = dataclasses.replace(engine.spec, decoder=Decoder(shape=shape))
    assert engine.fixed_rows == 16
    assert shard_size_for(SimpleNamespace(spec=spec, fixed_rows=16)) == size


def test_names_sort_as_the_samples_do():
    plan = Plan(n=100_002, shard_size=1)
    shards = plan.shards
    names = [plan.file_name(shards[k]) for k in (0, 9, 10, 99_999, 100_000, 100_001)]
    assert names == sorted(names)
    assert names[0] == "part-000000.parquet"


def test_parquet_is_read_without_us(engine, image_bundle, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pandas = pytest.importorskip("pandas")
    generate(engine, image_bundle, plan_of(format="parquet"), tmp_path)
    generate(engine, image_bundle, plan_of(), tmp_path / "npy")
    want = npy(tmp_path / "npy")

    table = parquet.read_table(tmp_path / "part-00000.parquet")
    assert str(table.schema.field("sample").type) == "fixed_size_list<element: float>[768]"
    assert json.loads(table.schema.field("sample").metadata[b"shape"]) == [3, 16, 16]
    flat = table["sample"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(flat.reshape(-1, 3, 16, 16), want[:7])
    np.testing.assert_array_equal(array_of(table["sample"], table.schema.field("sample")), want[:7])

    frame = pandas.concat(pandas.read_parquet(p) for p in sorted(tmp_path.glob("part-*.parquet")))
    np.testing.assert_array_equal(np.stack(frame["sample"]).reshape(want.shape), want)
    np.testing.assert_array_equal(frame["index"], np.arange(23))
    np.testing.assert_array_equal(frame["seed"], np.arange(5, 28, dtype=np.uint64))
    np.testing.assert_array_equal(frame["condition.label"], np.arange(23) % 4)


def test_the_folder_is_one_table_to_readers_of_folders(engine, image_bundle, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pandas = pytest.importorskip("pandas")
    generate(engine, image_bundle, plan_of(format="parquet"), tmp_path)
    np.testing.assert_array_equal(parquet.read_table(tmp_path)["index"], np.arange(23))
    np.testing.assert_array_equal(pandas.read_parquet(tmp_path)["seed"], np.arange(5, 28))


def test_columns_of_any_shape_keep_it():
    pytest.importorskip("pyarrow")
    values = {
        "a": np.arange(24, dtype=np.float32).reshape(4, 2, 3),
        "b": np.array([True, False, True, True]),
        "c": np.arange(4, dtype=np.uint64) + (1 << 63),
        "d": np.arange(4, dtype=np.int32).reshape(4, 1),
    }
    table = arrow_table(values)
    for name, value in values.items():
        got = array_of(table[name], table.schema.field(name))
        assert got.dtype == value.dtype
        np.testing.assert_array_equal(got, value)


def test_a_job_goes_on_where_it_was(engine, image_bundle, tmp_path):
    generate(engine, image_bundle, plan_of(), tmp_path / "whole")
    folder = tmp_path / "cut"

    def stop(done, total):
        if done >= 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(engine, image_bundle, plan_of(), folder, progress=stop)
    assert [p.name for p in folder.glob("part-*")] == ["part-00000.npy"]
    (folder / ".part-00001.npy.x.tmp").write_bytes(b"half a shard")  # as a kill leaves it
    first = (folder / "part-00000.npy").stat()
    told = []
    outcome = generate(
        engine, image_bundle, plan_of(), folder, progress=lambda d, t: told.append((d, t))
    )
    assert (outcome.files, outcome.written, outcome.samples) == (4, 3, 16)
    assert told == [(7, 23), (14, 23), (21, 23), (23, 23)]
    assert (folder / "part-00000.npy").stat().st_mtime_ns == first.st_mtime_ns
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*.tmp"))
    np.testing.assert_array_equal(npy(folder), npy(tmp_path / "whole"))
    again = generate(engine, image_bundle, plan_of(), folder)
    assert (again.written, again.samples) == (0, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n": 24}, r"n \(23 there, 24 here\)"),
        ({"seed": 6}, r"seed \(5 there, 6 here\)"),
        ({"steps": 4}, r"steps \(3 there, 4 here\)"),
        ({"sampler": "unipc"}, r"sampler \('ddim' there, 'unipc' here\)"),
        ({"options": {"eta": 1.0}}, r"options\.eta \(None there, 1\.0 here\)"),
        ({"shard_size": 8}, "shard_size"),
        ({"format": "parquet"}, "format"),
        ({"conditions": {"label": np.arange(3)}}, r"conditions\.label\.values \(4 there, 3 here\)"),
        ({"conditions": {"label": np.arange(4)[::-1]}}, r"conditions\.label\.sha256"),
    ],
)
def test_another_job_is_not_mixed_in(engine, image_bundle, tmp_path, changed, said):
    generate(engine, image_bundle, plan_of(), tmp_path)
    before = npy(tmp_path)
    with pytest.raises(ArgumentError, match=said):
        generate(engine, image_bundle, plan_of(**changed), tmp_path)
    np.testing.assert_array_equal(npy(tmp_path), before)


def test_another_bundle_or_runtime_is_not_mixed_in(engine, image_bundle, tmp_path):
    plan = plan_of()
    here = plan.identity(engine, image_bundle)
    there = json.loads(json.dumps(here))
    check_same(there, here, tmp_path)
    there["runtime"]["version"] = "0.1"
    name = next(iter(there["bundle"]["files"]))
    there["bundle"]["files"][name] = "0" * 64
    with pytest.raises(ArgumentError, match=r"runtime\.version \('0\.1' there") as refused:
        check_same(there, here, tmp_path)
    assert name in str(refused.value)


def test_another_processor_or_choice_of_graph_is_another_job(
    engine, image_bundle, copy_of, tmp_path, monkeypatch
):
    generate(engine, image_bundle, plan_of(), tmp_path / "job")
    compiled = copy_of(image_bundle)
    put_winner(compiled, 16, graph=compiled / "denoiser.fp32.onnx")
    chosen = revstep.load(compiled, reproducible=True)
    with pytest.raises(ArgumentError, match=r"bundle\.files\.engines/.*runtime\.chosen"):
        generate(chosen, compiled, plan_of(), tmp_path / "job")
    monkeypatch.setattr("revstep.serve.bulk.plan.processor", lambda: "another")
    with pytest.raises(ArgumentError, match=r"runtime\.processor \(.* there, 'another' here\)"):
        generate(engine, image_bundle, plan_of(), tmp_path / "job")


def test_a_drawn_seed_is_kept_for_the_rest_of_the_job(engine, image_bundle, tmp_path):
    plan = plan_of(seed=0)
    first = generate(engine, image_bundle, plan, tmp_path, draw_new_seed=True)
    os.remove(tmp_path / "part-00001.npy")
    again = generate(engine, image_bundle, plan, tmp_path, draw_new_seed=True)
    assert again.seed == first.seed
    assert again.written == 1
    other = generate(engine, image_bundle, plan, tmp_path / "other", draw_new_seed=True)
    assert other.seed != first.seed


def test_two_jobs_at_once_in_one_folder_are_refused(engine, image_bundle, tmp_path):
    def inside(done, total):
        with pytest.raises(ArgumentError, match="another process generates"):
            generate(engine, image_bundle, plan_of(), tmp_path)

    generate(engine, image_bundle, plan_of(), tmp_path, progress=inside)


def test_a_folder_that_cannot_be_locked_is_written_with_a_warning(
    engine, image_bundle, tmp_path, monkeypatch, caplog
):
    fcntl = pytest.importorskip("fcntl")

    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert generate(engine, image_bundle, plan_of(n=7), tmp_path).written == 1
    assert "can't be locked" in caplog.text


def test_seeds_go_round_at_the_end_of_their_range(engine, image_bundle, tmp_path):
    first = 2**64 - 9
    generate(engine, image_bundle, plan_of(seed=first), tmp_path)
    want = engine.sample(
        23, seed=[(first + i) % 2**64 for i in range(23)], steps=3, guidance=1.5,
        conditions={"label": np.arange(23) % 4},
    )  # fmt: skip
    np.testing.assert_array_equal(npy(tmp_path), want.numpy())


def test_files_of_nobody_knows_what_are_left_alone(engine, image_bundle, tmp_path):
    (tmp_path / "part-00000.npy").write_bytes(b"mine")
    with pytest.raises(ArgumentError, match=rf"part-00000\.npy and no {JOB}"):
        generate(engine, image_bundle, plan_of(), tmp_path)
    mine = tmp_path / ".notes.tmp"
    mine.write_text("mine")
    (tmp_path / JOB).write_text("{")
    with pytest.raises(ArgumentError, match="can't be read"):
        generate(engine, image_bundle, plan_of(), tmp_path)
    assert (tmp_path / "part-00000.npy").read_bytes() == b"mine"
    (tmp_path / "part-00000.npy").unlink()
    (tmp_path / JOB).unlink()
    for _ in range(2):  # begun, and gone on with
        generate(engine, image_bundle, plan_of(), tmp_path)
    assert mine.exists()


def test_what_cannot_be_is_refused_before_anything_is_written(engine, image_bundle, tmp_path):
    folder = tmp_path / "new"
    for changed, match in (
        ({"sampler": "dimm"}, "ddim"),
        ({"conditions": {"label": np.array([7])}}, "label"),
        ({"conditions": {"label": np.array([0] * 20 + [7])}}, "label"),  # of the last file alone
        ({"conditions": {}}, "guidance without conditions"),
        ({"grid": "karas"}, "karras"),
    ):
        with pytest.raises(ArgumentError, match=match):
            generate(engine, image_bundle, plan_of(**changed), folder)
    for changed in ({"n": 0}, {"shard_size": 0}, {"format": "csv"}, {"seed": -1}):
        with pytest.raises(ArgumentError):
            plan_of(**changed)
    loose = revstep.load(image_bundle, threads=1)
    with pytest.raises(ArgumentError, match="reproducible=True"):
        generate(loose, image_bundle, plan_of(), folder)
    assert not folder.exists()


def test_a_killed_command_goes_on(image_bundle, engine, tmp_path):
    folder = tmp_path / "job"
    command = [
        *(sys.executable, "-m", "revstep", "generate", str(image_bundle), "-n", "600"),
        *("--class", "0-3", "--steps", "60", "--seed", "9", "--threads", "1"),
        *("--shard-size", "10", "--format", "npy", "-o", str(folder)),
    ]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(list(folder.glob("part-*"))) >= 3 or running.poll() is not None)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    there = len(list(folder.glob("part-*")))
    assert 3 <= there < 60
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"600 samples in 60 files, {there} of them from before; seed 9" in done.stdout
    want = engine.sample(600, seed=9, steps=60, conditions={"label": np.arange(600) % 4}).numpy()
    np.testing.assert_array_equal(npy(folder), want)


def test_prompts_go_round_in_turn(reading_bundle, tmp_path):
    engine = revstep.load(reading_bundle, reproducible=True)
    prompts = ("red house", "a dog", "the moon")
    parquet = pytest.importorskip("pyarrow.parquet")
    plan = Plan(n=7, seed=5, steps=3, prompts=prompts, shard_size=4, guidance=2.0)
    generate(engine, reading_bundle, plan, tmp_path / "x")
    table = parquet.read_table(tmp_path / "x")
    assert table["prompt"].to_pylist() == [prompts[k % 3] for k in range(7)]
    want = engine.sample(
        7, seed=5, steps=3, guidance=2.0, prompt=[prompts[k % 3] for k in range(7)]
    )
    got = np.concatenate([array_of(table["sample"], table.schema.field("sample"))])
    np.testing.assert_array_equal(got, want.numpy())
