"""A real Triton server, asked over HTTP: the bits are the engine's."""

import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import triton_server
from kserve import RefusedError, infer, tensors
from pages import run_page
from stepwise import until

import revstep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(triton_server.missing() is not None, reason=str(triton_server.missing())),
]

DOCS = Path(__file__).parents[3] / "docs"
STAND_IN = '''
import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """What Triton hands to a backend, run as the ONNX Runtime backend would: by name."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.outputs = [output["name"] for output in config["output"]]
        self.session = onnxruntime.InferenceSession(Path(__file__).parent / "model.onnx")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        feeds = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        found = self.session.run(self.outputs, feeds)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, found)]
        )
'''


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return triton_server.make_home(tmp_path_factory.mktemp("triton"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory, demo_bundle, image_bundle, policy_bundle):
    """The demo (in a fixed bucket, and not), a bundle with a decoder, and one by reference."""
    from revstep.serve.triton.repository import write_models
    from revstep.serve.triton.settings import Settings

    folder = tmp_path_factory.mktemp("models")
    fixed = Settings(deterministic=True, threads=1)
    write_models(demo_bundle, folder, name="demo", settings=fixed, network=False)
    free = Settings(threads=1, max_samples=8, max_queue=4)
    write_models(demo_bundle, folder, name="free", settings=free, network=False, reference=True)
    write_models(image_bundle, folder, name="image", settings=fixed, network=False)
    write_models(demo_bundle, folder, name="fashion", network=False, reference=True)
    for name, bundle in (("demo", demo_bundle), ("image", image_bundle), ("policy", policy_bundle)):
        _stand_in(write_models(bundle, folder.parent / f"{name}-networks", name=name), folder)
    return folder


def _stand_in(deployed, folder):
    """The network's model as written, but for the backend: this server has only Python's."""
    network = shutil.copytree(deployed.network, folder / deployed.network.name)
    config = network / "config.pbtxt"
    text = config.read_text()
    assert 'backend: "onnxruntime"' in text
    text = text.replace('backend: "onnxruntime"', 'backend: "python"')
    config.write_text(text.replace('default_model_filename: "model.onnx"\n', ""))
    (network / "1" / "model.py").write_text(STAND_IN)


@pytest.fixture(scope="module")
def url(home, repository, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "server.log"
    with triton_server.serving(home, repository, log) as (url, _):
        yield url


@pytest.fixture(scope="module")
def demo(demo_bundle):
    return revstep.load(demo_bundle, reproducible=True, threads=1, backend="onnxruntime")


@pytest.fixture(scope="module")
def labels(demo):
    (condition,) = demo.spec.conditions
    return condition.name


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_the_bits_are_the_engines(url, demo, labels, binary):
    asked = tensors(
        n=3, seed=[5, 2**64 - 1, 2**53 + 1], steps=7, sampler="unipc", guidance=1.3,
        **{f"conditions__{labels}": [1, 4, 9]},
    )  # fmt: skip
    found = infer(url, "demo", asked, binary=binary)
    wanted = demo.sample(
        3, seed=[5, 2**64 - 1, 2**53 + 1], steps=7, sampler="unipc", guidance=1.3,
        conditions={labels: [1, 4, 9]},
    )  # fmt: skip
    np.testing.assert_array_equal(found["samples"], wanted.x, strict=True)
    np.testing.assert_array_equal(found["seeds"], wanted.seeds, strict=True)
    assert found["calls"].tolist() == [wanted.calls]
    assert set(found) == {"samples", "seeds", "calls"}


def test_the_page_runs_and_prints_what_it_shows(url, tmp_path):
    page = tmp_path / "triton.md"
    text = (DOCS / "triton.md").read_text("utf-8")
    assert "http://127.0.0.1:8000/" in text
    page.write_text(text.replace("http://127.0.0.1:8000", url), "utf-8")
    assert run_page(page, tmp_path) == 1


def test_a_request_of_nothing_is_one_sample_of_a_drawn_seed(url, demo):
    found = infer(url, "demo", {})
    again = infer(url, "demo", {"seed": found["seeds"]})
    wanted = demo.sample(seed=int(found["seeds"][0]))
    np.testing.assert_array_equal(found["samples"], wanted.x)
    np.testing.assert_array_equal(again["samples"], wanted.x)


def test_every_input_reaches_the_engine(url, demo, labels):
    rng = np.random.default_rng(0)
    start = np.clip(rng.normal(size=(2, *demo.spec.shape)), -1, 1).astype(np.float32)
    noise = rng.normal(size=(2, *demo.spec.shape)).astype(np.float32)
    mask = np.zeros((1, 1, 1, demo.spec.shape[-1]), np.float32)
    mask[..., :9] = 1.0
    cases = [
        (
            {"n": 2, "seed": 1, "start": start, "strength": 0.5, "mask": mask, "steps": 6},
            {"start": start, "strength": 0.5, "mask": mask[0], "steps": 6},
        ),
        (
            {"seed": [1, 2], "known": start, "mask": mask, "noise": noise, "steps": 5},
            {"known": start, "mask": mask[0], "noise": noise, "steps": 5},
        ),
        (
            {"n": 2, "seed": 1, "sampler": "ddim", "sampler_options": '{"eta": 0.5}',
             "grid": "karras", "clip": False, "final": "first", "steps": 4, "priority": 3,
             "deadline_s": 60.0},
            {"sampler": revstep.samplers.DDIM(eta=0.5), "grid": "karras", "clip": False,
             "final": "first", "steps": 4},
        ),
        (
            {"n": 2, "seed": 1, "compat": "diffusers", "steps": 4, "guidance": [1.0, 2.0],
             f"conditions__{labels}": 3, f"null_conditions__{labels}": 4},
            {"compat": "diffusers", "steps": 4, "guidance": [1.0, 2.0],
             "conditions": {labels: 3}, "null_conditions": {labels: 4}},
        ),
    ]  # fmt: skip
    for asked, arguments in cases:
        wanted = demo.sample(2, seed=1, **arguments)
        found = infer(url, "demo", tensors(**asked))
        np.testing.assert_array_equal(found["samples"], wanted.x, strict=True)


def test_requests_of_one_instance_share_network_calls_and_keep_their_bits(url, demo, labels):
    def asked(i):
        return {
            "n": 1 + i % 3, "seed": 100 * i, "steps": 3 + i % 5, "guidance": 1.0 + i % 2,
            "sampler": ("ddim", "unipc", "dpmpp_2m", "ddpm")[i % 4],
        }  # fmt: skip

    def ask(i):
        inputs = tensors(**asked(i), **{f"conditions__{labels}": i % 10})
        return infer(url, "demo", inputs)["samples"]

    def seconds(threads):
        begun = time.monotonic()
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(ask, range(16)))
        took = time.monotonic() - begun
        for i, samples in enumerate(found):
            wanted = demo.sample(**asked(i), conditions={labels: i % 10})
            np.testing.assert_array_equal(samples, wanted.x, strict=True)
        return took

    # every call has 16 rows: together they fill them, in some round that others leave alone
    assert any(seconds(16) < seconds(1) / 2 for _ in range(3))


def test_a_decoder_runs_where_its_samples_are_asked_for(url, image_bundle):
    engine = revstep.load(image_bundle, reproducible=True, threads=1, backend="onnxruntime")
    wanted = engine.sample(2, seed=3, steps=4)
    asked = tensors(n=2, seed=3, steps=4)
    found = infer(url, "image", asked)
    np.testing.assert_array_equal(found["samples"], wanted.decoded, strict=True)
    np.testing.assert_array_equal(found["states"], wanted.x, strict=True)
    states = infer(url, "image", asked, outputs=("states",))
    assert set(states) == {"states"}
    np.testing.assert_array_equal(states["states"], wanted.x, strict=True)


def test_a_bundle_by_reference_in_a_free_bucket(url, demo_bundle):
    engine = revstep.load(demo_bundle, threads=1, backend="onnxruntime")
    found = infer(url, "free", tensors(seed=8, steps=5))
    np.testing.assert_array_equal(found["samples"], engine.sample(seed=8, steps=5).x, strict=True)


MISTAKES = [
    ({"steps": 0}, 400, "steps=0 is out of range; allowed: whole numbers, 1 to 1000"),
    ({"sampler": "dimm"}, 400, "unknown sampler 'dimm'; did you mean 'ddim'"),
    ({"seed": [1, 2], "n": 3}, 400, "got 2 seeds for 3 samples"),
    ({"n": 9}, 400, "a request for 9 samples is too large; this model takes 8 at most"),
    ({"n": 2**31 - 1}, 400, "too large"),
    ({"n": 0}, 400, "n=0 is out of range"),
    ({"strength": 0.5}, 400, "strength goes with start"),
    ({"guidance": 1e39}, 400, "guidance"),  # more than a float32 holds
    ({"sampler_options": "{"}, 400, "sampler_options must be a JSON object"),
    ({"sampler_options": '{"etta": 1}'}, 400, "no option etta; did you mean 'eta'"),
    ({"deadline_s": -1.0}, 400, "deadline_s=-1.0 is out of range"),
    ({"deadline_s": 1e-4, "steps": 500}, 503, "deadline"),
    ({"steps": [1, 2]}, 400, "Expected [1], got [2]"),  # Triton's own
    ({"step": 3}, 400, "unexpected inference input 'step'"),
]


@pytest.mark.parametrize(("wrong", "status", "message"), MISTAKES)
def test_a_wrong_request_is_refused_with_the_reason(url, wrong, status, message):
    with pytest.raises(RefusedError) as refused:
        infer(url, "free", tensors(**wrong))
    assert refused.value.status == status
    assert message in refused.value.message


def test_a_label_out_of_range_is_refused_with_the_reason(url, labels):
    with pytest.raises(RefusedError, match="holds 11; allowed: 0 to 10"):
        infer(url, "free", {f"conditions.{labels}": np.array([11])})


def test_a_full_queue_is_refused_and_the_others_are_answered(url):
    def ask(i):
        try:
            return len(infer(url, "free", tensors(n=8, seed=i, steps=30))["samples"])
        except RefusedError as refused:
            return refused

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    refused = [answer for answer in answers if answer != 8]
    assert refused
    assert {answer.status for answer in refused} == {503}
    assert all("4 requests wait already" in answer.message for answer in refused)
    assert answers.count(8) >= 4


@pytest.mark.parametrize("name", ["demo", "image", "policy"])
def test_the_networks_configuration_hands_on_what_the_graph_takes(url, name, request):
    bundle = revstep.Bundle.open(request.getfixturevalue(f"{name}_bundle"))
    spec, parity = bundle.spec, bundle.parity()
    asked = {
        spec.name: parity["x"],
        spec.time.name: parity["t"][:, None],
        **{c.name: parity[f"cond.{c.name}"] for c in spec.conditions},
    }
    for c in spec.conditions:
        if not c.shape:
            asked[c.name] = asked[c.name][:, None]
    rows = range(len(parity["x"]))
    parts = [{key: value[i : i + 1] for key, value in asked.items()} for i in rows]
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(lambda part: infer(url, f"{name}_network", part)["out"], parts))
    scale = np.sqrt(np.mean(parity["out"] ** 2))
    np.testing.assert_allclose(np.concatenate(found), parity["out"], atol=1e-4 * scale, rtol=0)
    config = httpx.get(f"{url}/v2/models/{name}_network/config").json()
    assert config["max_batch_size"] == spec.batch[1]


def test_a_server_without_the_onnx_backend_reads_the_networks_configuration(
    home, demo_bundle, tmp_path
):
    from revstep.serve.triton.repository import write_models

    write_models(demo_bundle, tmp_path / "models", name="demo")
    options = ("--model-control-mode=explicit", "--disable-auto-complete-config")
    with triton_server.serving(
        home, tmp_path / "models", tmp_path / "log", *options, ready=False
    ) as (url, _):
        answer = httpx.post(f"{url}/v2/repository/models/demo_network/load", json={}, timeout=60)
        assert answer.status_code == 400
        # it has parsed and checked the configuration when it looks for the library
        assert "unable to find backend library for backend 'onnxruntime'" in answer.json()["error"]


@pytest.mark.parametrize("how", ["unload", "sigterm"])
def test_a_model_that_goes_answers_what_it_has(home, demo_bundle, tmp_path, how):
    from revstep.serve.triton.repository import write_models
    from revstep.serve.triton.settings import Settings

    settings = Settings(threads=1)
    write_models(demo_bundle, tmp_path / "models", name="demo", settings=settings, network=False)
    log = tmp_path / "log"
    options = ("--model-control-mode=explicit", "--load-model=demo")
    with triton_server.serving(home, tmp_path / "models", log, *options) as (url, server):
        with ThreadPoolExecutor(8) as pool:
            jobs = [
                pool.submit(infer, url, "demo", tensors(n=2, seed=i, steps=60)) for i in range(8)
            ]
            until(lambda: _taken(url) == 8)
            if how == "unload":
                answer = httpx.post(f"{url}/v2/repository/models/demo/unload", json={}, timeout=60)
                assert answer.status_code == 200, answer.text
            else:
                server.send_signal(signal.SIGTERM)
            assert all(job.result()["samples"].shape[0] == 2 for job in jobs)
        if how == "sigterm":
            assert server.wait(60) == 0


def _taken(url):
    """Requests that the model was given."""
    (found,) = httpx.get(f"{url}/v2/models/demo/stats").json()["model_stats"]
    return found["execution_count"]


def test_a_wrong_setting_is_named_when_the_model_loads(home, demo_bundle, tmp_path):
    from revstep.serve.triton.repository import write_models

    deployed = write_models(demo_bundle, tmp_path / "models", name="demo", network=False)
    config = deployed.sampling / "config.pbtxt"
    config.write_text(config.read_text().replace("revstep.max_queue", "revstep.max_quue"))
    options = ("--model-control-mode=explicit",)
    with triton_server.serving(
        home, tmp_path / "models", tmp_path / "log", *options, ready=False
    ) as (url, _):
        answer = httpx.post(f"{url}/v2/repository/models/demo/load", json={}, timeout=60)
        assert answer.status_code == 400
        assert "did you mean 'revstep.max_queue'" in answer.json()["error"]


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy here is 1")
def test_a_triton_that_misreads_numpy_2_is_told_apart(demo_bundle, tmp_path):
    from revstep.serve.triton.repository import write_models

    home = triton_server.make_home(tmp_path / "home", old_numpy=False)
    write_models(demo_bundle, tmp_path / "models", name="demo", network=False)
    options = ("--model-control-mode=explicit",)
    with triton_server.serving(
        home, tmp_path / "models", tmp_path / "log", *options, ready=False
    ) as (url, _):
        answer = httpx.post(f"{url}/v2/repository/models/demo/load", json={}, timeout=60)
        assert answer.status_code == 400
        assert "built for NumPy 1" in answer.json()["error"]
