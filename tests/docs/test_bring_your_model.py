"""What docs/bring-your-model.md says of answers to noise and to data, asked of exact networks."""

import numpy as np
import pytest
import torch
from exact_module import ExactModule

from proofs.theory.mixture import Mixture
from revstep import DenoiserSpec, TimeInput
from revstep.schedules import FlowSchedule, VPSchedule

CENTRES = np.random.default_rng(0).uniform(-1.0, 1.0, (6, 8))
DATA = Mixture(np.full(6, 1 / 6), CENTRES, np.full(6, 0.05))
VP = VPSchedule()
SPREAD = DATA.draw(500, 1).std()
AVERAGE = CENTRES.mean(0).std()


def answer(prediction, x, index):
    """(correlation with the input, spread) of an exact network's output at a training index."""
    schedule = FlowSchedule() if prediction == "flow" else VP
    spec = DenoiserSpec(
        shape=(8,), schedule=schedule, prediction=prediction, time=TimeInput(fractions=True)
    )
    out = ExactModule(DATA, spec)(torch.tensor(x).float(), torch.full((len(x),), float(index)))
    return np.corrcoef(out.flatten(), x.flatten())[0, 1], float(out.std())


NOISE = np.random.default_rng(2).standard_normal((300, 8))
PAGE = {  # prediction -> (in noise: correlation, spread; in data: correlation or None, spread)
    "epsilon": (1.0, 1.0, None, 0.0),
    "flow": (1.0, 1.0, -1.0, SPREAD),
    "mean": (1.0, 1.0, 1.0, SPREAD),
    "sample": (0.0, AVERAGE, 1.0, SPREAD),
    "v_prediction": (0.0, AVERAGE, None, 0.0),
}


@pytest.mark.parametrize("prediction", PAGE)
def test_the_pages_table_of_answers_holds(prediction):
    in_noise, spread, in_data, data_spread = PAGE[prediction]
    found = answer(prediction, NOISE, 999)
    assert found == pytest.approx((in_noise, spread), abs=0.15)
    correlation, own = answer(prediction, DATA.draw(300, 3), 0)
    assert own == pytest.approx(data_spread, abs=0.15)
    if in_data is not None:
        assert correlation == pytest.approx(in_data, abs=0.1)


def test_a_score_points_against_the_noise():
    correlation, spread = answer("score", NOISE, 999)
    assert (correlation, spread) == pytest.approx((-1.0, 1.0), abs=0.15)
