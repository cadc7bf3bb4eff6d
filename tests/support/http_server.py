"""A real uvicorn server on loopback, in a thread of the test."""

import contextlib
import threading

import uvicorn
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
