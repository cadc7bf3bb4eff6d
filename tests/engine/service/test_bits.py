"""Bits in any company: random mixes on ONNX Runtime and OpenVINO, beside the same requests alone.

``deterministic=True`` gives each request the bits that it has alone, and those of an engine that
was loaded ``reproducible``. Without it the bits of a sample depend on the rows of its calls, as
those of ``Engine.sample`` do: within TOLERANCE.
"""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from request_mixes import SAMPLERS, arrivals
from service_networks import NETWORKS, export_network
from serving import assert_same_bits, device_engine_of, engine_of, outcome, settle
from stepwise import until

import revstep
from revstep.engine.backends.ov import library
from revstep.errors import ProgramError

TOLERANCE = 1e-4  # of the largest value of a request's samples
REFUSALS = (ValueError, TypeError, ProgramError)
MIXES = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request):
    if request.param == "openvino" and not library.installed():
        pytest.skip("OpenVINO is not installed")
    return request.param


@pytest.fixture(params=sorted(NETWORKS))
def network(request):
    return request.param


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("service"), {}

    def bundle(name):
        if name not in made:
            made[name] = export_network(name, folder / f"{name}.revstep")
        return made[name]

    return bundle


@pytest.fixture(scope="module")
def engines(bundles):
    made = {}

    def engine(name, backend, **options):
        key = (name, backend, *sorted(options.items()))
        if key not in made:
            made[key] = revstep.load(
                bundles(name), backend=backend, device="cpu", threads=1, **options
            )
        return made[key]

    return engine


@pytest.fixture(scope="module")
def services(engines):
    made = {}

    def service(name, backend, **options):
        key = (name, backend, *sorted(options.items()))
        if key not in made:
            made[key] = revstep.Service(engines(name, backend), **options)
        return made[key]

    yield service
    for each in made.values():
        each.close()


def samplers_of(engine):
    """The samplers that run on this engine's schedule and prediction."""
    found = []
    for name in SAMPLERS:
        try:
            engine.sample(1, sampler=name, steps=2, seed=0)
        except ProgramError:
            continue
        found.append(name)
    return found


def alone(engine, arrival):
    """What the engine gives: samples, or the (type, text) of what refuses the request."""
    try:
        return engine.sample(**arrival.arguments).x
    except REFUSALS as error:
        return type(error), str(error)


def run_mix(service, mix, want):
    """Submits a mix as it says; gives {index: states} of those that were not cancelled."""
    before, jobs = sum(service.stats().outcomes.values()), {}
    for k, arrival in enumerate(mix):
        target = service.stats().steps + arrival.after
        until(lambda t=target: service.stats().steps >= t or not service.stats().running)
        earlier = list(jobs.values())
        if arrival.cancels is not None and arrival.cancels <= len(earlier):
            earlier[-arrival.cancels].cancel()
        if isinstance(want[k], tuple):
            with pytest.raises(want[k][0]) as refused:
                service.submit(**arrival.arguments, **arrival.own)
            assert str(refused.value) == want[k][1]
        else:
            jobs[k] = service.submit(**arrival.arguments, **arrival.own)
    found = {k: outcome(job) for k, job in jobs.items()}
    settle(service, before + len(jobs))
    assert {x for x in found.values() if isinstance(x, str)} <= {"CancelledError"}
    return {k: x for k, x in found.items() if not isinstance(x, str)}


@MIXES
@given(data=st.data())
def test_a_deterministic_service_gives_the_bits_of_a_reproducible_engine(
    services, engines, network, backend, data
):
    engine = engines(network, backend, reproducible=True)
    mix = data.draw(arrivals(engine.spec, samplers_of(engine)))
    want = [alone(engine, arrival) for arrival in mix]
    for k, x in run_mix(services(network, backend, deterministic=True), mix, want).items():
        assert_same_bits(x, want[k])


@MIXES
@given(data=st.data())
def test_with_fewer_rows_a_deterministic_services_bits_are_those_that_each_has_alone(
    services, engines, network, backend, data
):
    engine = engines(network, backend)
    mix = data.draw(arrivals(engine.spec, samplers_of(engine)))
    service = services(network, backend, deterministic=True, slots=5)
    found = run_mix(service, mix, [alone(engine, arrival) for arrival in mix])
    for k, x in found.items():
        assert_same_bits(x, outcome(service.submit(**mix[k].arguments)))


@MIXES
@given(data=st.data())
def test_without_deterministic_the_samples_are_the_engines_within_the_tolerance(
    services, engines, network, backend, data
):
    engine = engines(network, backend)
    mix = data.draw(arrivals(engine.spec, samplers_of(engine)))
    want = [alone(engine, arrival) for arrival in mix]
    for k, x in run_mix(services(network, backend), mix, want).items():
        assert np.abs(x - want[k]).max() <= TOLERANCE * max(1.0, np.abs(want[k]).max())


ROWS = dataclasses.replace(NETWORKS["conv"][1], shape=(2, 3), batch=(1, 16))


def rows_alone(x, t, conditions):
    """Element by element: a row's bits don't depend on its batch on any machine."""
    shift = 0.001 * t + 0.1 * conditions["label"] + conditions["seen"].sum(axis=1)
    return 0.9 * x + 0.02 * shift.reshape(-1, 1, 1).astype(np.float32)


@pytest.mark.parametrize("slots", [5, 16])
@MIXES
@given(data=st.data())
def test_a_device_with_steps_enqueued_ahead_gives_the_bits_that_each_has_alone(slots, data):
    engine = engine_of(rows_alone, ROWS)
    mix = data.draw(arrivals(ROWS, samplers_of(engine)))
    want = [alone(engine, arrival) for arrival in mix]
    with revstep.Service(device_engine_of(rows_alone, ROWS), slots=slots) as service:
        for k, x in run_mix(service, mix, want).items():
            assert_same_bits(x, want[k])
