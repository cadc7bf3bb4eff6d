"""A server in a process of its own, which ends whatever happens."""

import subprocess
import sys

import pytest

pytest.importorskip("fastapi")

from stepwise import SECONDS, until

from revstep.bench.load.client import Client
from revstep.bench.load.local import served_here
from revstep.bench.load.served import await_ready, served_model
from revstep.errors import BackendError

PARENT = """
import sys, time
from pathlib import Path
from revstep.bench.load.local import served_here
with served_here(Path(sys.argv[1]), ["--threads", "1"]) as (url, alive):
    print(url, flush=True)
    time.sleep(600.0)
"""


def listens(url):
    with Client(url) as client:
        try:
            return client.ask("GET", "/healthz", timeout_s=SECONDS)[0] == 200
        except OSError:
            return False


def test_it_serves_the_bundle_and_ends_with_the_block(tabular_bundle):
    class Wrong(Exception):  # noqa: N818
        pass

    def fails():
        with (
            served_here(tabular_bundle, ["--threads", "1"]) as (url, alive),
            Client(url) as client,
        ):
            await_ready(client, alive)
            assert served_model(client, None)["name"] == "tabular"
            raise Wrong(url, alive)

    with pytest.raises(Wrong) as caught:
        fails()
    url, alive = caught.value.args
    assert not alive()
    assert not listens(url)


def test_it_ends_when_its_parent_is_killed(tabular_bundle):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tabular_bundle)], stdout=subprocess.PIPE, text=True
    ) as parent:
        url = parent.stdout.readline().strip()
        assert listens(url)
        parent.kill()
    until(lambda: not listens(url), "the server's end")


def test_one_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(BackendError, match=r"ended with 2; it says: .*none\.revstep"),
        served_here(tmp_path / "none.revstep"),
    ):
        pass
