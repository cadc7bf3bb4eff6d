"""The part of a graph that runs in float32 under bf16: what a row's scalars alone decide."""

import numpy as np
import pytest

from revstep.engine.backends.ov.library import core, installed, openvino
from revstep.engine.backends.ov.scalar_path import HEAD, split_scalar_path

if not installed():
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

ov = openvino()
op = ov.opset13

ROWS, WIDTH = 3, 8
TIMES = np.array([1, 257, 751], np.float32)
X = np.random.default_rng(0).standard_normal((ROWS, WIDTH)).astype(np.float32)
MIX = np.random.default_rng(1).standard_normal((WIDTH, WIDTH)).astype(np.float32)


def model(network):
    """A model of inputs x (3, 8) and t (3,)."""
    x, t = op.parameter([ROWS, WIDTH], np.float32), op.parameter([ROWS], np.float32)
    x.output(0).set_names({"x"})
    t.output(0).set_names({"t", "an inner name"})
    return ov.Model([network(x, t)], [x, t])


def names(part):
    return {name for port in part.inputs for name in port.get_names()}


def run(part, feeds):
    compiled = core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    given = [feeds[next(n for n in p.get_names() if n in feeds)] for p in compiled.inputs]
    return list(compiled(given).values())


def check(network, wires, body_has_time=False):
    """Both parts together compute what the model did; the wires are what the head gives."""
    [want] = run(model(network), {"x": X, "t": TIMES})
    head, body = split_scalar_path(model(network), frozenset({"t"}))
    assert ("t" in names(body)) == body_has_time
    assert {n for n in names(body) if n.startswith(HEAD)} == {f"{HEAD}{i}" for i in range(wires)}
    assert names(head) == {"t", "an inner name"}
    given = {f"{HEAD}{i}": out for i, out in enumerate(run(head, {"t": TIMES}))}
    [got] = run(body, {"x": X, "t": TIMES, **given})
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def column(t):
    return op.unsqueeze(t, op.constant(1))


def test_sinusoids_run_before_the_first_product():
    def network(x, t):
        waves = op.sin(op.multiply(column(t), np.float32(0.1)))
        return op.add(op.matmul(waves, MIX[:1], False, False), x)

    check(network, 1)


def test_a_time_that_is_an_index_is_looked_up_before():
    table = op.constant(np.repeat(np.arange(1000, dtype=np.float32)[:, None], WIDTH, 1))
    check(lambda x, t: op.add(op.gather(table, op.convert(t, "i64"), op.constant(0)), x), 1)


def test_a_time_that_is_broadcast_to_the_shape_of_x_is_its_own_still():
    def network(x, t):
        rows = op.gather(op.shape_of(x), op.constant([0]), op.constant(0))
        return op.add(op.matmul(column(op.cos(op.broadcast(t, rows))), MIX[:1], False, False), x)

    check(network, 1)


def test_a_time_that_the_rest_reads_too_is_given_to_both():
    def network(x, t):
        return op.add(
            op.multiply(x, column(op.sin(t))), op.matmul(column(t), MIX[:1], False, False)
        )

    check(network, 2)

    def direct(x, t):
        row = op.matmul(op.multiply(x, column(op.sin(t))), MIX, False, False)
        return op.add(row, op.reduce_sum(op.matmul(t, MIX[:ROWS], False, False), op.constant(0)))

    check(direct, 1, body_has_time=True)


def test_where_nothing_is_computed_of_times_alone_there_is_no_head():
    network = model(lambda x, t: op.add(x, op.matmul(t, MIX[:ROWS], False, False)))
    head, body = split_scalar_path(network, frozenset({"t"}))
    assert head is None
    assert names(body) == {"x", "t", "an inner name"}


def test_what_is_as_large_as_an_image_stays_where_it_is():
    def network(x, t):
        large = op.broadcast(column(op.sin(t)), op.constant([ROWS, 1 << 15]))
        return op.add(op.reduce_sum(large, op.constant(1), keep_dims=True), x)

    _, body = split_scalar_path(model(network), frozenset({"t"}))
    wire = next(p for p in body.inputs if any(n.startswith(HEAD) for n in p.get_names()))
    assert list(wire.get_shape()) == [ROWS, 1]
