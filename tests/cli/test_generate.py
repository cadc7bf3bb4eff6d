"""revstep generate, as a user runs it; tests/serve/bulk has what it does."""

import json


def test_the_command_refuses_in_words(cli, image_bundle, tmp_path):
    result = cli("generate", image_bundle, "-n", "4", "-o", tmp_path / "x", "--workers", "2")
    assert result.exit_code == 2
    assert "--workers goes with --ray" in result.stderr
    result = cli("generate", image_bundle, "-n", "4", "-o", tmp_path / "x", "--class", "0-9")
    assert result.exit_code == 2
    assert "label" in result.stderr
    assert not (tmp_path / "x").exists()


def test_the_command_prints_json(cli, image_bundle, tmp_path):
    result = cli(
        *("generate", image_bundle, "-n", "5", "--steps", "2", "--seed", "1", "--json"),
        *("--format", "npy", "-o", tmp_path / "x"),
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["n"], found["files"], found["drawn"], found["seed"]) == (5, 1, 5, 1)
