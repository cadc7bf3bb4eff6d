"""``CudaOptions`` takes what load and from_module took one by one, which they still take."""

import copy
import dataclasses
import pickle
import warnings

import pytest
from networks import gaussian_epsilon
from specs import spec_of

import revstep
from revstep import CudaOptions
from revstep.engine.open import bundle as opening
from revstep.engine.open.bundle import LoadCall

OPTIONS = {"graphs": False, "unroll": (3, 8), "warm_up": False, "max_program_rows": 64}


@pytest.fixture
def asked(monkeypatch):
    """What load asks the runtime for, on a CPU."""
    seen = []
    runner = opening._cpu_runtime

    def cpu_runner(options, name, **more):
        seen.append(options.cuda)
        cuda = dataclasses.replace(options.cuda, unroll=())
        return runner(options._replace(cuda=cuda), name, **more)

    monkeypatch.setattr(opening, "_cpu_runtime", cpu_runner)
    return seen


@pytest.fixture
def bundle(tabular_bundle):
    pytest.importorskip("onnxruntime")
    return tabular_bundle


def test_the_older_keywords_mean_the_same_and_name_the_new_way(bundle, asked):
    revstep.load(bundle, device="cpu", threads=1, cuda=CudaOptions(**OPTIONS))
    with pytest.warns(DeprecationWarning, match=r"cuda=revstep\.CudaOptions\(graphs=") as caught:
        revstep.load(bundle, device="cpu", threads=1, **OPTIONS)
    assert caught[0].filename == __file__
    assert asked == [CudaOptions(**OPTIONS)] * 2


def test_a_copy_asks_for_the_same_without_a_warning(bundle, asked):
    engine = revstep.load(bundle, device="cpu", threads=1, cuda=CudaOptions(**OPTIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.copy(engine)
        pickle.loads(pickle.dumps(engine))
    assert asked == [CudaOptions(**OPTIONS)] * 3


def test_a_call_sent_with_the_older_keywords_is_made_without_a_warning(bundle, asked):
    digest = revstep.Bundle.open(bundle).manifest["digest"]
    call = LoadCall(bundle, digest, {"device": "cpu", "threads": 1, **OPTIONS})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its user wrote no such call
        call()
    assert asked == [CudaOptions(**OPTIONS)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"graphs": 1}, TypeError, "graphs must be True or False; got int 1"),
        ({"tf32": None}, TypeError, "tf32 must be True or False; got None"),
        ({"kernels": "tritn"}, ValueError, "unknown kernels 'tritn'; did you mean 'triton'"),
        ({"unroll": 20}, TypeError, r"unroll must be run lengths, such as \(20,\); got int 20"),
        ({"unroll": (0,)}, ValueError, "unroll=0 is out of range; allowed: whole"),
        ({"unroll": (True,)}, TypeError, "unroll must be a whole number; got bool"),
        ({"max_program_rows": 2}, ValueError, "max_program_rows=2 is out of range"),
        ({"max_program_rows": True}, TypeError, "max_program_rows must be a whole number"),
    ],
)
def test_values_are_checked_when_it_is_made(options, error, message):
    with pytest.raises(error, match=message):
        CudaOptions(**options)


def test_it_is_a_value():
    made = CudaOptions(unroll=[3, 8])
    assert made.unroll == (3, 8)
    assert made == CudaOptions(unroll=(3, 8))
    assert pickle.loads(pickle.dumps(made)) == made == copy.deepcopy(made)
    assert len({made, CudaOptions(unroll=(3, 8))}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.graphs = False


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"graph": False}, TypeError, r"load has no argument graph; .*allowed: backend"),
        ({"thread": 1}, TypeError, "no argument thread; did you mean 'threads'"),
        ({"cuda": {"graphs": False}}, TypeError, "cuda must be a revstep.CudaOptions; got dict"),
        ({"cuda": CudaOptions(), "graphs": False}, TypeError, "graphs= beside cuda=: give all"),
        ({"cuda": CudaOptions(tf32=True)}, ValueError, "tf32 is of from_module"),
    ],
)
def test_load_refuses_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        revstep.load("no.revstep", **arguments)


def test_from_module_refuses_a_bundles_kernels():
    spec = spec_of(shape=(3,))
    with pytest.raises(ValueError, match="kernels='aot' is of load"):
        revstep.from_module(gaussian_epsilon(spec), spec, cuda=CudaOptions(kernels="aot"))


def test_from_module_takes_both(monkeypatch):
    torch = pytest.importorskip("torch")
    spec = spec_of(shape=(3,))
    module = torch.nn.Identity()
    with pytest.raises(ValueError, match="unroll needs a GPU"):
        revstep.from_module(module, spec, device="cpu", cuda=CudaOptions(unroll=(4,)))
    with pytest.warns(DeprecationWarning, match=r"from_module\(\.\.\., tf32=\) is now"):
        revstep.from_module(module, spec, device="cpu", tf32=True)
