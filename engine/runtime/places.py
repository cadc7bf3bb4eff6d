"""``Places``: which of a few numbered places are taken, as the bits of one integer."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Places:
    """Places 0 to ``count`` - 1; its length is the number of those taken.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._all = (1 << count) - 1
        self._taken = 0

    def __len__(self) -> int:
        return self._taken.bit_count()

    @property
    def reach(self) -> int:
        """One more than the highest place taken."""
        return self._taken.bit_length()

    def lowest_free(self, count: int) -> NDArray[np.intp]:
        """The first ``count`` free places, ascending; so many are free."""
        free, found = self._all & ~self._taken, np.empty(count, np.intp)
        for k in range(count):
            lowest = free & -free
            found[k] = lowest.bit_length() - 1
            free ^= lowest
        return found

    def take(self, places: NDArray[np.intp]) -> None:
        """Takes free places."""
        self._taken |= _bits(places.tolist())

    def free(self, places: NDArray[np.intp]) -> None:
        """Frees taken places."""
        self._taken &= ~_bits(places.tolist())

    def move_below(self, places: NDArray[np.intp], below: int) -> NDArray[np.intp]:
        """As many places, those at ``below`` and beyond exchanged for the first free ones.

        So many are free below. Ascending.
        """
        far = places >= below
        count = int(far.sum())
        if not count:
            return places
        self.free(places[far])
        new = self.lowest_free(count)
        self.take(new)
        return np.sort(np.concatenate([places[~far], new]))


def _bits(places: Iterable[int]) -> int:
    bits = 0
    for place in places:
        bits |= 1 << place
    return bits
