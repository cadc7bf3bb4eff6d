import json

import numpy as np
import pytest

import revstep


@pytest.fixture
def engine(image_bundle):
    return revstep.load(image_bundle)


def test_npy_holds_what_the_api_samples(cli, engine, image_bundle, tmp_path):
    out = tmp_path / "x.npy"
    result = cli(
        *("sample", image_bundle, "-o", out, "--class", "0-1", "-n", "4", "--steps", "3"),
        *("--seed", "0", "--guidance", "1.5", "--set", "eta=0.5"),
    )
    assert result.exit_code == 0, result.stderr
    expected = engine.sample(
        4,
        sampler=revstep.samplers.DDIM(eta=0.5),
        steps=3,
        seed=0,
        guidance=1.5,
        conditions={"label": [0, 0, 1, 1]},
    )
    array = np.load(out, allow_pickle=False)
    assert array.shape == (4, 3, 16, 16)
    np.testing.assert_array_equal(array, expected.numpy())


def test_the_time_grids_old_option_is_reported(cli, tabular_bundle, tmp_path):
    draw = ("sample", tabular_bundle, "-n", "1", "--steps", "2", "--seed", "0", "-o")
    new, old = tmp_path / "new.npy", tmp_path / "old.npy"
    assert cli(*draw, new, "--time-grid", "linspace").exit_code == 0
    result = cli(*draw, old, "--spacing", "linspace")
    assert result.exit_code == 0
    assert "WARNING: --spacing is now --time-grid\n" in result.stderr
    assert old.read_bytes() == new.read_bytes()
    both = cli(*draw, old, "--spacing", "linspace", "--time-grid", "trailing")
    assert both.exit_code == 2
    assert "--spacing is the old name of --time-grid" in both.stderr


@pytest.mark.parametrize("command", ["sample", "generate"])
def test_a_negative_prompt_without_guidance_is_refused(cli, tabular_bundle, tmp_path, command):
    result = cli(command, tabular_bundle, "-n", "1", "-o", tmp_path / "x", "--negative-prompt", "a")
    assert result.exit_code == 2
    assert "--negative-prompt changes nothing without guidance" in result.stderr
    assert not (tmp_path / "x").exists()


def test_where_a_run_ends_is_the_runs_own(cli, tabular_bundle, tmp_path):
    draw = ("sample", tabular_bundle, "-n", "2", "--steps", "4", "--seed", "0", "-o")
    ends = {}
    for final in ("clean", "first"):
        out = tmp_path / f"{final}.npy"
        assert cli(*draw, out, "--final", final).exit_code == 0
        ends[final] = np.load(out)
        expected = revstep.load(tabular_bundle).sample(2, steps=4, seed=0, final=final).x
        np.testing.assert_array_equal(ends[final], expected)
    assert not np.array_equal(ends["clean"], ends["first"])
    wrong = cli(*draw, tmp_path / "x.npy", "--final", "frist")
    assert wrong.exit_code == 2
    assert "did you mean 'first'" in wrong.stderr


def test_one_picture(cli, engine, image_bundle, tmp_path, pixels_of):
    out = tmp_path / "x.png"
    assert cli("sample", image_bundle, "-o", out, "--steps", "2", "--seed", "9").exit_code == 0
    expected = engine.sample(1, steps=2, seed=9).pil()[0]
    np.testing.assert_array_equal(pixels_of(out), np.asarray(expected))
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("name", ["run[red]", "b[/b]", ":smile:", "long" + "x" * 100])
def test_a_path_is_printed_as_it_is(process, tabular_bundle, tmp_path, name):
    (tmp_path / f"{name}.npy").parent.mkdir(exist_ok=True)
    result = process("sample", tabular_bundle, "-o", f"{name}.npy", "--steps", "1")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{name}.npy: 1 sample, ddim-1, seed ")
    assert len(result.stdout.splitlines()) == 1
    assert (tmp_path / f"{name}.npy").exists()


def test_what_is_no_picture_goes_to_an_array_by_default(cli, tabular_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = cli("sample", tabular_bundle, "--steps", "1", "-n", "2")
    assert result.exit_code == 0, result.stderr
    assert "no pictures, so they go to samples.npy" in result.stderr
    assert result.stdout.startswith("samples.npy: 2 samples")
    assert np.load("samples.npy").shape == (2, 6)


def test_pictures_go_to_a_png_by_default(cli, image_bundle, tmp_path, monkeypatch):
    pytest.importorskip("PIL")
    monkeypatch.chdir(tmp_path)
    assert cli("sample", image_bundle, "--steps", "1").exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["samples.png"]


@pytest.mark.parametrize(
    ("shape", "value_range"), [((4, 8, 8), (-1.0, 1.0)), ((3, 8, 8), None), ((8, 8), (0.0, 1.0))]
)
def test_what_pil_cannot_show_is_refused_before_the_run(tmp_path, shape, value_range):
    from revstep.commands.pictures import Target
    from revstep.engine.runtime.samples import images_from

    with pytest.raises(ValueError, match="images need"):
        images_from(np.zeros((1, *shape), np.float32), value_range)
    with pytest.raises(ValueError, match=r"no pictures.*-o samples\.npy"):
        Target(tmp_path / "x.png", count=1, grid=False, shape=shape, value_range=value_range)


def test_several_pictures_are_numbered(cli, image_bundle, tmp_path):
    pytest.importorskip("PIL")
    result = cli("sample", image_bundle, "-o", tmp_path / "x.png", "-n", "3", "--steps", "1")
    assert result.exit_code == 0, result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-000.png", "x-001.png", "x-002.png"]


def test_a_grid_has_one_condition_value_a_row(cli, engine, image_bundle, tmp_path, pixels_of):
    out = tmp_path / "x.png"
    result = cli(
        *("sample", image_bundle, "-o", out, "--class", "1,3", "-n", "6", "--grid"),
        *("--steps", "2", "--seed", "0"),
    )
    assert result.exit_code == 0, result.stderr
    grid = pixels_of(out)
    assert grid.shape == (2 * (16 + 2) + 2, 3 * (16 + 2) + 2, 3)
    labels = [1, 1, 1, 3, 3, 3]
    fourth = engine.sample(6, steps=2, seed=0, conditions={"label": labels}).pil()[3]
    np.testing.assert_array_equal(grid[20:36, 2:18], np.asarray(fourth))
    assert (grid[:2] == 255).all()


def test_conditions_from_numbers_and_files_agree(cli, policy_bundle, tmp_path):
    np.save(tmp_path / "seen.npy", np.array([0.5, -1.0, 2.0, 0.0]))
    for name, value in (("a", "0.5,-1,2,0"), ("b", tmp_path / "seen.npy")):
        result = cli(
            *("sample", policy_bundle, "-o", tmp_path / f"{name}.npy", "-n", "2"),
            *("--condition", f"observation={value}", "--steps", "3", "--seed", "1"),
        )
        assert result.exit_code == 0, result.stderr
    a, b = (np.load(tmp_path / f"{name}.npy") for name in "ab")
    assert a.shape == (2, 8, 2)
    np.testing.assert_array_equal(a, b)
    engine = revstep.load(policy_bundle)
    other = engine.sample(2, steps=3, seed=1, conditions={"observation": np.zeros(4, np.float32)})
    assert not np.array_equal(a, other.numpy())


def test_image_to_image_from_an_array(cli, tabular_bundle, tmp_path):
    start = np.linspace(-1, 1, 6, dtype=np.float32)
    np.save(tmp_path / "start.npy", start)
    result = cli(
        *("sample", tabular_bundle, "-o", tmp_path / "x.npy", "--start", tmp_path / "start.npy"),
        *("--strength", "0.5", "--steps", "4", "--seed", "2", "-n", "3", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    expected = revstep.load(tabular_bundle).sample(3, steps=4, seed=2, start=start, strength=0.5)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected.numpy())
    assert json.loads(result.stdout)["network_calls"] == 2


def test_image_to_image_from_a_picture(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    from revstep.commands.input_files import read_state

    pixels = np.array([[0, 255, 51], [102, 204, 0]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    found = read_state(tmp_path / "p.png", "--start", (1, 2, 3), (-1.0, 1.0))
    expected = [[[-1.0, 1.0, -0.6], [-0.2, 0.6, -1.0]]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="3 x 2 pixels; this denoiser takes 8 x 8"):
        read_state(tmp_path / "p.png", "--start", (1, 8, 8), (-1.0, 1.0))


def test_inpainting_from_arrays_and_pictures(cli, image_bundle, tabular_bundle, tmp_path):
    rng = np.random.default_rng(0)
    known, mask = rng.uniform(-1, 1, 6).astype(np.float32), np.array([1, 0, 1, 0, 0, 1])
    np.save(tmp_path / "known.npy", known)
    np.save(tmp_path / "mask.npy", mask)
    result = cli(
        *("sample", tabular_bundle, "-o", tmp_path / "x.npy", "--known", tmp_path / "known.npy"),
        *("--mask", tmp_path / "mask.npy", "--sampler", "repaint", "--set", "jump_length=2"),
        *("--set", "repeats=2", "--steps", "6", "--seed", "2", "-n", "3"),
    )
    assert result.exit_code == 0, result.stderr
    sampler = revstep.samplers.RePaint(jump_length=2, repeats=2)
    expected = revstep.load(tabular_bundle).sample(
        3, sampler=sampler, steps=6, seed=2, mask=mask, known=known
    )
    got = np.load(tmp_path / "x.npy")
    np.testing.assert_array_equal(got, expected.numpy())
    np.testing.assert_array_equal(got[:, mask == 1], np.tile(known[mask == 1], (3, 1)))

    Image = pytest.importorskip("PIL.Image")
    from revstep.commands.input_files import read_mask

    Image.fromarray(np.array([[0, 255, 51], [102, 204, 0]], np.uint8)).save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png", "--mask", (3, 2, 3))
    np.testing.assert_allclose(found, [[[0.0, 1.0, 0.2], [0.4, 0.8, 0.0]]], atol=1e-6)
    with pytest.raises(ValueError, match="3 x 2 pixels; this denoiser takes 8 x 8"):
        read_mask(tmp_path / "m.png", "--mask", (3, 8, 8))
    with pytest.raises(ValueError, match=r"--mask must be a .npy file that broadcasts to \(6,\)"):
        read_mask(tmp_path / "m.png", "--mask", (6,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mask", "m.npy"), "--mask needs the pixels that it keeps: pass --known, or --start"),
        (("--known", "m.npy"), "--known goes with --mask"),
        (("--sampler", "ddim", "--set", "eta=much"), "eta must be a number; got str 'much'"),
        (
            ("--sampler", "dpmpp_2m", "--set", "lower_order_final=maybe"),
            "must be True or False; got str",
        ),
        (("--sampler", "repaint", "--set", "repeats=2.5"), "repeats must be a whole number"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(cli, tmp_path, arguments, message):
    result = cli("sample", tmp_path / "none.revstep", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_json_reports_files_seeds_and_engine(cli, tabular_bundle, tmp_path):
    out = tmp_path / "x.npy"
    result = cli(
        *("sample", tabular_bundle, "-o", out, "-n", "2", "--seed", str(2**64 - 1)),
        *("--steps", "3", "--sampler", "dpmpp_2m", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["files"] == [str(out)]
    assert report["seeds"] == [2**64 - 1, 0]
    assert (report["n"], report["shape"]) == (2, [6])
    assert (report["sampler"], report["steps"]) == ("dpmpp_2m", 3)
    assert report["engine"]["backend"] == "onnxruntime"
