"""Whole requests beside the networks that they run: the same work, right before it is timed."""

import logging

import numpy as np
import pytest

import revstep
from revstep.bench.measure import part_inputs
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import Work
from revstep.bench.measure.part_inputs import Asked
from revstep.bench.measure.parts import measure_parts, parts_of, rest_of
from revstep.bench.measure.rounds import Budget
from revstep.engine.bundle.reader import Bundle
from revstep.errors import ParityError

pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

SHORT = Budget(runs=8, noise=0.0, warm_up=0.0)


def work_of(path, **cell):
    return Work.of(Bundle.open(path), Cell(sampler="ddim", **cell), revstep.load(path, threads=1))


def networks_seen(monkeypatch, work):
    """What each network beside the denoiser is called with from now on: (name, rows)."""
    seen, engine = [], work.engine

    def watched(name, run):
        def call(given):
            rows = next(iter(given.values())) if isinstance(given, dict) else given
            seen.append((name, len(rows)))
            return run(given)

        return call

    networks = engine._encoder.encoders._networks
    for name, run in list(networks.items()):
        monkeypatch.setitem(networks, name, watched(f"encoder.{name}", run))
    if engine.decoder is not None:
        monkeypatch.setattr(engine, "_decoder", watched("decoder", engine.decoder))
    return seen


@pytest.mark.parametrize(
    ("name", "guidance", "keys"),
    [
        ("reading_bundle", 2.0, ["encoder.text", "decoder", "picture_encoder"]),
        ("reading_bundle", 1.0, ["encoder.text", "decoder", "picture_encoder"]),
        ("observing_bundle", 1.0, ["encoder.observation"]),
    ],
)
def test_a_request_runs_each_network_on_the_rows_that_it_is_timed_with(
    name, guidance, keys, request, monkeypatch
):
    work = work_of(request.getfixturevalue(name), steps=2, batch=3, guidance=guidance)
    asked = Asked.of(work)
    seen = networks_seen(monkeypatch, work)
    work.engine.sample(3, **asked.arguments, seed=0)
    in_request = list(seen)
    parts = parts_of(work, asked)
    assert [part.key for part in parts] == keys
    seen.clear()
    for part in parts:
        part.run()
    assert in_request == seen
    assert in_request == [
        (part.key, rows) for part in parts if part.key != "picture_encoder" for rows in part.rows
    ]
    text = guidance != 1.0 and name == "reading_bundle"
    assert parts[0].rows == ((3, 1) if text else (3,))


def test_a_row_has_the_whole_the_loop_each_part_and_their_raw_times(reading_bundle):
    found = measure_parts(work_of(reading_bundle, steps=2, batch=2, guidance=2.0), SHORT, price=1.0)
    names = ["request", "loop", "encoder.text", "decoder", "picture_encoder"]
    assert list(found["times"]) == list(found["times_s"]) == names
    assert all(len(times) == 8 for times in found["times_s"].values())
    assert set(found["times"]["request"]["percentiles"]) == {"p50"}
    assert found["rows"] == {"encoder.text": [2, 1], "decoder": [2], "picture_encoder": [2]}
    assert found["asked"] == {"prompts": 2, "negative_prompts": 1, "inputs": []}
    assert all(0 <= each["error"] <= each["bound"] for each in found["correct"].values())
    median = found["times"]["request"]["median_s"]
    assert found["cost"]["per_thousand_samples"] == pytest.approx(1000 * median / 2 / 3600)


def test_raw_inputs_are_those_of_the_reference(observing_bundle):
    work = work_of(observing_bundle, steps=2, batch=5)
    asked = Asked.of(work)
    assert asked.said == {"prompts": 0, "negative_prompts": 0, "inputs": ["image", "state"]}
    image = work.bundle.parity()["encoder.observation.in.image"]
    np.testing.assert_array_equal(asked.arguments["inputs"]["image"][:4], image)
    np.testing.assert_array_equal(asked.arguments["inputs"]["image"][4], image[0])
    assert "context" not in asked.arguments["conditions"]


def test_without_a_tokenizer_the_request_has_tokens(reading_bundle, monkeypatch):
    monkeypatch.setattr(part_inputs, "find_spec", lambda name: None)
    work = work_of(reading_bundle, steps=2, batch=2, guidance=2.0)
    asked = Asked.of(work)
    assert asked.said == {"prompts": 0, "negative_prompts": 0, "inputs": ["tokens"]}
    seen = networks_seen(monkeypatch, work)
    work.engine.sample(2, **asked.arguments, seed=0)
    assert seen == [("encoder.text", 2), ("encoder.text", 1), ("decoder", 2)]


def test_prompts_are_not_cut(reading_bundle, caplog):
    work = work_of(reading_bundle, steps=2)
    with caplog.at_level(logging.WARNING, logger="revstep"):
        work.engine.sample(1, **Asked.of(work).arguments, seed=0)
    assert not [record for record in caplog.records if "was cut" in record.getMessage()]


@pytest.mark.parametrize("key", ["decoder", "encoder.text", "picture_encoder"])
def test_a_wrong_part_is_not_timed(reading_bundle, monkeypatch, key):
    work = work_of(reading_bundle, steps=2)
    engine, begun = work.engine, []
    decode, encode, latents = engine.decoder, engine.encode, engine.encode_pictures
    if key == "decoder":
        monkeypatch.setattr(engine, "_decoder", lambda x: decode(x) + 0.01)
    elif key == "encoder.text":
        wrong = lambda given: {k: v + 0.01 for k, v in encode(given).items()}  # noqa: E731
        monkeypatch.setattr(engine, "encode", wrong)
    else:
        monkeypatch.setattr(engine, "encode_pictures", lambda x: latents(x) + 0.01)
    monkeypatch.setattr(engine, "sample", lambda *_, **__: begun.append(1))
    with pytest.raises(ParityError, match=rf"the {key} differs .* is not timed"):
        measure_parts(work, SHORT)
    assert not begun


def test_the_rest_is_what_a_request_takes_beyond_its_parts_round_by_round():
    times = {
        "request": [10.0, 30.0, 12.0], "loop": [6.0, 20.0, 7.0], "decoder": [3.0, 9.0, 3.0],
        "picture_encoder": [50.0, 50.0, 50.0],
    }  # fmt: skip
    assert rest_of(times) == 1.0
