"""Exports of several threads take turns, and a forked child has one of its own."""

import os
import signal
import threading

import pytest

from revstep.export.turns import Turns


def in_thread(run):
    done = threading.Event()
    threading.Thread(target=lambda: (run(), done.set()), daemon=True).start()
    return done


def test_another_thread_waits_and_the_same_may_go_in_again():
    turns = Turns()
    with turns, turns:
        waiting = in_thread(lambda: turns.__enter__())
        assert not waiting.wait(0.05)
    assert waiting.wait(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_need_not_wait_for_its_parents_export():
    turns, held, release = Turns(), threading.Event(), threading.Event()

    def export():
        with turns:
            held.set()
            release.wait(20)

    in_thread(export)
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends it, where it waits
        with turns:
            os._exit(7)
    release.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
