"""An engine of a bundle goes to other processes as its load() call; others say what to do."""

import copy
import multiprocessing
import pickle
import shutil

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon
from specs import spec_of

import revstep
from revstep.errors import BundleError

RUN = {"steps": 3, "seed": 5}


@pytest.fixture
def bundle(copy_of, tabular_bundle):
    pytest.importorskip("onnxruntime")
    return copy_of(tabular_bundle)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_is_loaded_again_as_the_engine_was(bundle, way, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    engine = revstep.load(bundle.name, device="cpu", threads=1, reproducible=True, verify=False)
    engine.sample(1, **RUN)  # what it keeps is not sent
    monkeypatch.chdir(bundle)  # its path was relative
    again = way(engine)
    assert again is not engine
    described = {k: v for k, v in engine.describe().items() if k != "bundle"}
    assert {k: v for k, v in again.describe().items() if k != "bundle"} == described
    assert again.describe()["bundle"] == str(bundle)
    np.testing.assert_array_equal(again.sample(2, **RUN).x, engine.sample(2, **RUN).x)
    assert way(again).describe() == again.describe()


def test_what_is_sent_is_small(bundle):
    assert len(pickle.dumps(revstep.load(bundle, device="cpu", threads=1))) < 1000


def test_a_spawned_worker_samples_the_same(bundle):
    engine = revstep.load(bundle, device="cpu", threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got = pool.apply_async(engine.sample, (2,), RUN).get(timeout=60).x
    np.testing.assert_array_equal(got, engine.sample(2, **RUN).x)


def test_another_bundle_at_the_path_is_refused(bundle, policy_bundle):
    engine = revstep.load(bundle, device="cpu", threads=1)
    sent = pickle.dumps(engine)
    shutil.rmtree(bundle)
    with pytest.raises(BundleError, match="does not exist"):
        pickle.loads(sent)
    shutil.copytree(policy_bundle, bundle)
    with pytest.raises(BundleError, match=r"was changed since.*load\(\) it again"):
        pickle.loads(sent)
    with pytest.raises(BundleError, match="was changed since"):
        copy.deepcopy(engine)


def test_a_compiled_form_that_was_added_is_a_change(bundle):
    from revstep.export import compile_bundle

    sent = pickle.dumps(revstep.load(bundle, device="cpu", threads=1))
    compile_bundle(bundle, threads=1)
    with pytest.raises(BundleError, match="was changed since"):
        pickle.loads(sent)


def _of_a_module(spec):
    torch = pytest.importorskip("torch")
    return revstep.from_module(torch.nn.Identity(), spec, device="cpu")


@pytest.mark.parametrize(
    "make",
    [lambda spec: revstep.Engine(NumpyDenoiser(spec, gaussian_epsilon(spec))), _of_a_module],
)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_other_engines_say_what_to_do_instead(make, way):
    spec = spec_of(shape=(3,))
    with pytest.raises(TypeError, match=r"call from_module in the other process.*load its bundle"):
        way(make(spec))
