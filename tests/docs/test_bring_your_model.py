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
PAGE = {  # prediction -> (in noise: correlation, spread; in data: correlation, or None: small)
    "epsilon": (1.0, 1.0, None),
    "flow": (1.0, 1.0, -1.0),
    "mean": (1.0, 1.0, 1.0),
    "sample": (0.0, AVERAGE, 1.0),
    "v_prediction": (0.0, AVERAGE, None),
}


@pytest.mark.parametrize("prediction", PAGE)
def test_the_pages_table_of_answers_holds(prediction):
    in_noise, spread, in_data = PAGE[prediction]
    assert answer(prediction, NOISE, 999) == pytest.approx((in_noise, spread), abs=0.15)
    correlation, own = answer(prediction, DATA.draw(300, 3), 0)
    if in_data is None:
        assert own < SPREAD / 2
    else:
        assert (correlation, own) == pytest.approx((in_data, SPREAD), abs=0.1)


def test_a_score_points_against_the_noise():
    correlation, spread = answer("score", NOISE, 999)
    assert (correlation, spread) == pytest.approx((-1.0, 1.0), abs=0.15)
