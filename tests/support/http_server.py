"""A real uvicorn server on loopback, in a thread of the test."""

import base64
import contextlib
import threading

import httpx
import numpy as np
import uvicorn
from serving import settle
from stepwise import SECONDS, until


@contextlib.contextmanager
def serving(app, **options):
    """Serves ``app``; gives its URL once it listens, and ends it after the block."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", access_log=False,
        timeout_graceful_shutdown=5, lifespan="on", **options,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "the server")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(SECONDS)
        listening.close()
        assert not thread.is_alive(), "the server did not end"


@contextlib.contextmanager
def client_of(services, **options):
    """A client of an app over ``services``; at the end nothing of its requests may be left."""
    from revstep.serve.http.app import create_app

    app = create_app(services, **options)
    with serving(app) as url, httpx.Client(base_url=url, timeout=SECONDS) as client:
        yield client
        for service in app.state.models.services().values():
            settle(service)


def values_of(reply):
    """The samples of a JSON reply, as its documentation says."""
    found = np.frombuffer(base64.b64decode(reply["data"]), "<f4").reshape(reply["shape"])
    return found.astype(np.float32)
