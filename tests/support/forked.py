"""Source of a function that forks, for tests that run code in a process of its own."""

CHILD = """
import os, sys, threading, time
import revstep

def child(work, leave=os._exit, seconds=10.0):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            code = 0
        except revstep.errors.BackendError as error:
            print("refused:", error, flush=True)
            code = 7
        except BaseException as error:
            print(repr(error), flush=True)
            code = 3
        leave(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return str(os.waitstatus_to_exitcode(status))
        time.sleep(0.01)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "HANGS"
"""
"""``child`` gives how a forked one ended: "0", its exit code or signal, or "HANGS"."""
