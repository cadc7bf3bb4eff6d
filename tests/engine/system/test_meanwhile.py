import threading

import pytest

from revstep.engine.system.meanwhile import meanwhile, to_do


def test_the_work_is_done_by_another_thread_while_the_block_runs():
    begun, who = threading.Event(), []

    def work():
        who.append(threading.get_ident())
        begun.set()

    with to_do(work), meanwhile():
        assert begun.wait(10)  # before the block ends
    assert who != [threading.get_ident()]


def test_the_work_has_ended_when_the_block_has_and_is_done_once():
    done, gate = [], threading.Event()

    def work():
        assert gate.wait(10)
        done.append(1)

    with to_do(work):
        with meanwhile():
            gate.set()
        assert done == [1]
        with meanwhile():
            pass
    assert done == [1]


def test_the_works_error_is_no_error_of_the_block():
    def work():
        raise ImportError("it comes again where it is needed")

    with to_do(work), meanwhile():
        pass


def test_the_blocks_error_waits_for_the_work():
    done = []
    with pytest.raises(KeyError), to_do(lambda: done.append(1)), meanwhile():
        raise KeyError("graph")
    assert done == [1]


def test_without_work_no_thread_is_made():
    before = threading.active_count()
    with meanwhile():
        assert threading.active_count() == before


def test_work_is_of_its_own_thread_and_ends_with_its_block():
    done = []
    with to_do(lambda: done.append(1)):
        other = threading.Thread(target=lambda: meanwhile().__enter__())
        other.start()
        other.join()
        assert done == []
    with meanwhile():
        pass
    assert done == []
