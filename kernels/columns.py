"""Columns of the sampler table: one row is 32 float32 (128 bytes).

A row holds every number of one sampler step (the affine pass of `revstep.kernels.reference`).
This file is the one home of the column numbers; the C++ and Triton kernels repeat them, and a
test compares.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

COLUMNS: Final = 32  # one row = two cache lines, eight 16-byte loads

TIME: Final = 0  # time given to the network
C_IN: Final = 1  # scaling of the network's input
P_X: Final = 2  # x0 = p_x x + p_m m
P_M: Final = 3
LO: Final = 4  # clip of x0; -inf, inf: off
HI: Final = 5
C_X: Final = 6  # x' = c_x x + c_m m + c_0 x0 + h_1 q_1 + h_2 q_2 + h_3 q_3 + s z
C_M: Final = 7
C_0: Final = 8
H_1: Final = 9
H_2: Final = 10
H_3: Final = 11
S: Final = 12
W: Final = 13  # guidance weight of the row
K_X: Final = 14  # q = k_x x + k_m m + k_0 x0 + kh_1 q_1 + kh_2 q_2 + kh_3 q_3
K_M: Final = 15
K_0: Final = 16
KH_1: Final = 17
KH_2: Final = 18
KH_3: Final = 19
STORE: Final = 20  # which history q goes to, 0..2, or -1: nothing is stored
SLOT = STORE  # the old name
NOISE: Final = 21  # noise index, an integer below 2**24 (exact in float32)
LOG_BETA: Final = 22  # learned variance: log of its two ends
LOG_BETA_TILDE: Final = 23
KNOWN_ALPHA: Final = 24  # inpainting: alpha, sigma at the next time (both 0: none)
KNOWN_SIGMA: Final = 25
ACTIVE: Final = 26  # 1, or 0 for the identity row
TIME_2: Final = 27  # second time given to a network of two times

NAMES: Final[tuple[str, ...]] = (
    "time", "c_in", "p_x", "p_m", "lo", "hi", "c_x", "c_m", "c_0", "h_1", "h_2", "h_3", "s", "w",
    "k_x", "k_m", "k_0", "kh_1", "kh_2", "kh_3", "store", "noise", "log_beta", "log_beta_tilde",
    "known_alpha", "known_sigma", "active", "time_2", "spare_28", "spare_29", "spare_30",
    "spare_31",
)  # fmt: skip

NOISE_LIMIT: Final = 1 << 24  # noise indices are exact in float32 below this


def identity_row(time: float, c_in: float, time_2: float = 0.0) -> NDArray[np.float32]:
    """The row after a program's last: it leaves state, history and flags untouched.

    Args:
        time: Time still given to the network for a finished sample (any valid one).
        c_in: Input scaling that the last active row's network input is written with.
        time_2: Second time still given to a network of two times.

    Returns:
        float32 [32]: c_x = 1, clip off, nothing stored, active 0.
    """
    row = np.zeros(COLUMNS, np.float32)
    row[TIME], row[C_IN], row[C_X], row[TIME_2] = time, c_in, 1.0, time_2
    row[LO], row[HI], row[STORE] = -np.inf, np.inf, -1.0
    return row
