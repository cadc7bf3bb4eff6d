"""``revstep bench`` of a bundle with encoders and a decoder, as a user runs it."""

import json

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

SHORT = ("--runs", "8", "--noise", "0", "--cold", "0", "--steps", "2", "--sampler", "ddim")


def test_the_table_goes_from_prompts_to_pixels(cli, reading_bundle, tmp_path):
    file = tmp_path / "rows.jsonl"
    words = ("--batch", "2", "--guidance", "2", "--price", "1.5", "--output", file)
    result = cli("bench", reading_bundle, *words, *SHORT)
    assert result.exit_code == 0, result.stderr
    assert "latency of the loop, without encoders and decoder" in result.stdout
    assert "where a request's time goes: onnxruntime fp32 ddim-2 guidance 2" in result.stdout
    for part in ("encoder text", "loop", "decoder", "the rest", "whole request", "2+1"):
        assert part in result.stdout
    assert "whole requests of 2 prompts and a negative prompt for all: 8 runs" in result.stdout
    assert "p90 takes 43 more runs" in result.stdout
    (row,) = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(row["parts"]["times_s"]["request"]) == 8


def test_a_denoiser_alone_has_no_parts_nor_has_a_loop_that_is_asked_for(
    cli, tabular_bundle, reading_bundle
):
    for words in ((tabular_bundle,), (reading_bundle, "--loop-only")):
        result = cli("bench", *words, "--batch", "1", *SHORT, "--json")
        (row,) = json.loads(result.stdout)["rows"]
        assert "parts" not in row


def test_a_wrong_decoder_ends_the_grid_and_keeps_the_loop(cli, reading_bundle, monkeypatch):
    from revstep.engine.parts.decoder import LatentDecoder

    right = LatentDecoder.__call__
    monkeypatch.setattr(LatentDecoder, "__call__", lambda self, x: right(self, x) + 0.01)
    result = cli("bench", reading_bundle, "--batch", "1,2", *SHORT)
    assert result.exit_code != 0
    assert "ddim-2 batch 1" in result.stdout
    assert "ddim-2 batch 2" not in result.stdout
    assert "the decoder differs from the reference" in result.stderr


def test_ctrl_c_among_whole_requests_keeps_the_cell(cli, reading_bundle, monkeypatch):
    from revstep.bench.measure import parts

    def stops(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "run_rounds", stops)
    result = cli("bench", reading_bundle, "--batch", "1,2", *SHORT)
    assert result.exit_code == 130
    assert "ddim-2 batch 1" in result.stdout
    assert "1 of 2 cells" in result.stderr


def test_the_time_of_whole_requests_counts_for_the_grid_s(cli, reading_bundle, tabular_bundle):
    words = ("--batch", "1,2", "--seconds", "10", "--total", "39", "--cold", "0")
    result = cli("bench", reading_bundle, *words)
    assert result.exit_code == 2
    assert "2 cells of up to 20 s" in result.stderr
    assert "--seconds 9.75, or --total 40" in result.stderr
    words = (*words[:4], "--total", "19", "--cold", "0")
    for less in ((tabular_bundle,), (reading_bundle, "--loop-only")):
        assert "2 cells of up to 10 s" in cli("bench", *less, *words).stderr
