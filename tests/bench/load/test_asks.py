"""What is asked for."""

import json

import numpy as np
import pytest

from revstep.bench.load.asks import Asks, asks_of_file, plain_asks
from revstep.errors import ArgumentError
from revstep.serve.http.npy import array_of_npy

LABEL = {"name": "label", "dtype": "int64", "shape": [], "null": 10.0, "min": 0, "max": 10}
SEEN = {
    "name": "seen",
    "dtype": "float32",
    "shape": [16, 8],
    "null": None,
    "min": None,
    "max": None,
}


def test_options_give_one_body_with_valid_conditions():
    model = {"name": "toy", "conditions": [LABEL, SEEN]}
    (body,) = plain_asks(model, n=3, sampler="ddim", steps=7, guidance=1.5).bodies
    seen = array_of_npy(body["conditions"].pop("seen")["npy"])
    assert seen.shape == (3, 16, 8)
    assert body == {
        "model": "toy", "n": 3, "output": "npy", "sampler": "ddim", "steps": 7, "guidance": 1.5,
        "conditions": {"label": [0, 1, 2]},
    }  # fmt: skip


def test_bodies_are_drawn_by_the_seed_each_with_one_of_its_own():
    asks = Asks([{"steps": 1}, {"steps": 2}, {"seed": 5}, {}], "here")
    drawn = [json.loads(text) for text in asks.drawn(400, 3)]
    assert asks.drawn(400, 3) == asks.drawn(400, 3) != asks.drawn(400, 4)
    steps = [body.get("steps") for body in drawn]
    assert 70 < steps.count(1) < 130
    seeds = [body["seed"] for body in drawn if body["seed"] != 5]
    assert len(set(seeds)) == len(seeds) == 400 - sum(body["seed"] == 5 for body in drawn)
    assert np.max(seeds) < 2**53


def test_a_file_has_a_body_a_line(tmp_path):
    file = tmp_path / "asks.jsonl"
    file.write_text('{"steps": 3}\n\n{"output": "png", "seed": 1}\n')
    assert asks_of_file(file, "toy").bodies == [
        {"output": "npy", "steps": 3, "model": "toy"},
        {"output": "png", "seed": 1, "model": "toy"},
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds 0 requests; it must hold 1 to 1000"),
        ('{"steps": 1}\n{"steps": ', ":2 is no JSON"),
        ("[1]", ":1 must be a JSON object"),
        ('{"stream": true}', ":1 has 'stream': leave it out"),
        ('{"id": "a"}', ":1 has 'id'"),
        ('{"model": "a"}', ":1 has 'model': leave it out, as --model"),
        ("{}\n" * 1001, "holds 1001 requests"),
    ],
)
def test_what_is_no_request_is_named_by_its_line(tmp_path, text, message):
    file = tmp_path / "asks.jsonl"
    file.write_text(text)
    with pytest.raises(ArgumentError) as caught:
        asks_of_file(file, "toy")
    assert message in str(caught.value)
