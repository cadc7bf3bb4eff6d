"""A WSGI app that loads before gunicorn forks: the workers share the weights' memory.

BUNDLE=... gunicorn --preload --workers 2 --threads 8 gunicorn_app:app

``--preload`` imports this file once, in the parent. A forked service begins anew in each worker,
with no request; ``threads=1`` keeps the loaded graph as it is (with more threads a child opens it
again: docs/processes.md). Each worker's 8 threads are 8 requests that share network calls.
"""

import io
import os
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any

import revstep
from revstep.errors import DeadlineError, QueueFullError

service = revstep.Service(revstep.load(os.environ["BUNDLE"], threads=1))


def picture(label: int, seed: int | None) -> bytes:
    """A PNG of one sample."""
    job = service.submit(1, seed=seed, conditions={"class_labels": label}, deadline_s=30.0)
    png = io.BytesIO()
    job.result().pil()[0].save(png, "png")
    return png.getvalue()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """GET /?label=7&seed=3."""
    query = dict(urllib.parse.parse_qsl(environ["QUERY_STRING"]))
    try:
        seed = int(query["seed"]) if "seed" in query else None
        status, kind, body = "200 OK", "image/png", picture(int(query.get("label", 0)), seed)
    except ValueError as error:  # revstep's ArgumentError is one
        status, kind, body = "422 Unprocessable Content", "text/plain", str(error).encode()
    except (QueueFullError, DeadlineError) as error:
        status, kind, body = "503 Service Unavailable", "text/plain", str(error).encode()
    start_response(
        status,
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("X-Worker", str(os.getpid())),
        ],
    )
    return [body]
