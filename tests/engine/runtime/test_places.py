"""Places as bits, against sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from revstep.engine.runtime.places import Places

COUNT = 12


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_places_are_what_a_set_says(sizes, data):
    places, taken, held = Places(COUNT), set(), []
    for size in sizes:
        if size and len(taken) + size <= COUNT:
            found = places.lowest_free(size).tolist()
            assert found == sorted(set(range(COUNT)) - taken)[:size]
            places.take(np.array(found))
            taken |= set(found)
            held.append(np.array(found))
        elif held:
            gone = held.pop(data.draw(st.integers(0, len(held) - 1)))
            places.free(gone)
            taken -= set(gone.tolist())
        assert len(places) == len(taken)
        assert places.reach == max(taken, default=-1) + 1


@given(st.sets(st.integers(0, COUNT - 1), min_size=1), st.data())
def test_whoever_moves_below_has_as_many_places_there(taken, data):
    places = Places(COUNT)
    places.take(np.array(sorted(taken)))
    mine = np.array(sorted(data.draw(st.sets(st.sampled_from(sorted(taken)), min_size=1))))
    below = data.draw(st.integers(len(taken), COUNT))
    moved = places.move_below(mine, below)
    assert len(moved) == len(mine)
    assert moved.tolist() == sorted(moved.tolist())
    assert (moved < below).all()
    others = taken - set(mine.tolist())
    assert not others & set(moved.tolist())
    assert set(moved.tolist()) >= {place for place in mine.tolist() if place < below}
    assert len(places) == len(taken)
