"""A denoiser on a device, called with numpy arrays."""

import numpy as np
from fake_trt import fake_trt, plan
from toys import POLICY, TWO_TIMES

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.denoiser import TrtDenoiser
from revstep.engine.backends.trt.library import TrtLibrary
from revstep.engine.backends.trt.plan import TrtPlan
from revstep.export.parity.host_denoiser import HostDenoiser


def test_numpy_arrays_go_through_the_device_and_back():
    library = TrtLibrary("tensorrt", fake_trt(), "10.0.1", rtx=False)
    engine = TrtPlan(plan(POLICY, 4, 4, 4), library, label="k.plan", command="fix it")
    denoiser = HostDenoiser(TrtDenoiser([engine], POLICY, device="cpu"))
    assert denoiser.spec.batch == (4, 4)
    buffers = NetworkBuffers.allocate(denoiser.spec, 4)
    call = denoiser.bind(buffers)
    rng = np.random.default_rng(1)
    for array in (buffers.x, buffers.t, buffers.conditions["observation"]):
        array[:] = rng.standard_normal(array.shape)
    call()
    added = buffers.t + buffers.conditions["observation"].sum(1)
    np.testing.assert_allclose(buffers.out, buffers.x + added[:, None, None], rtol=1e-5)


def test_a_second_time_goes_along():
    library = TrtLibrary("tensorrt", fake_trt(), "10.0.1", rtx=False)
    engine = TrtPlan(plan(TWO_TIMES, 2, 2, 2), library, label="k.plan", command="fix it")
    denoiser = HostDenoiser(TrtDenoiser([engine], TWO_TIMES, device="cpu"))
    buffers = NetworkBuffers.allocate(denoiser.spec, 2)
    call = denoiser.bind(buffers)
    buffers.x[:], buffers.t[:], buffers.second[:] = 1.0, [3.0, 4.0], [0.25, 0.5]
    buffers.conditions["label"][:] = [1, 2]
    call()
    np.testing.assert_allclose(buffers.out[:, 0], [5.25, 7.5])
