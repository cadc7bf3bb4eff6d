"""The model that a server has: looked up before any load."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

from revstep.bench.load.client import LOOK_S, Client, error_of
from revstep.engine.errors import ArgumentError, BackendError
from revstep.engine.nearest import unknown_names

Model = dict[str, Any]
MODELS, STATS = "/v1/models", "/v1/stats"
READY_S = 600.0  # that loading and the warm-up may take
KNOWN = ("name", "slots", "conditions", "limits", "default_steps")


def served_model(client: Client, name: str | None) -> Model:
    """One of a server's models, as ``/v1/models`` describes it.

    Args:
        client: Of the server.
        name: Its name; None: the only one.

    Raises:
        ArgumentError: Nothing listens there, it is no revstep service, asks for a token, isn't
            ready, or has no such model.
    """
    models = _models(client)
    names = [str(model["name"]) for model in models]
    if name is None:
        if len(names) != 1:
            raise ArgumentError(
                f"{client.url} has {len(names)} models: name one with --model, of "
                f"{', '.join(names)}", "model",
            )  # fmt: skip
        return models[0]
    if name not in names:
        raise ArgumentError(unknown_names(f"{client.url} has no model", [name], names), "model")
    return models[names.index(name)]


def _models(client: Client) -> list[Model]:
    url = client.url
    try:
        status, answer = client.ask("GET", MODELS, timeout_s=LOOK_S)
    except TimeoutError:
        raise ArgumentError(f"{url} doesn't answer in {LOOK_S:g} s", "target") from None
    except OSError as error:
        raise ArgumentError(
            f"nothing listens at {url} ({error.strerror or error}): start `revstep serve`, or give "
            "a bundle, which is then served here", "target",
        ) from None  # fmt: skip
    except http.client.HTTPException as error:
        raise ArgumentError(f"{url} speaks no HTTP ({type(error).__name__})", "target") from None
    if status == 401:
        raise ArgumentError(f"{url} asks for a token: --token-file", "token_file")
    try:
        models = json.loads(answer)["models"]
        known = bool(models) and all(key in model for model in models for key in KNOWN)
    except (ValueError, TypeError, KeyError):
        models, known = None, False
    if status == 200 and models == []:
        raise ArgumentError(f"{url} isn't ready: no model is loaded yet", "target")
    if status != 200 or not known:
        raise ArgumentError(f"{url} is no revstep service: {MODELS} gives {status}", "target")
    return list(models)


def await_ready(
    client: Client,
    alive: Callable[[], bool],
    limit_s: float = READY_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Waits until a server that was just started takes requests.

    Args:
        client: Of the server.
        alive: Whether its process lives.
        limit_s: How long.
        clock: Gives seconds.

    Raises:
        BackendError: It ended, failed, or takes longer.
    """
    until, said = clock() + limit_s, ""
    while clock() < until and alive():
        try:
            status, answer = client.ask("GET", "/readyz", timeout_s=LOOK_S)
        except (OSError, http.client.HTTPException) as error:
            said = str(error)
        else:
            if status == 200:
                return
            said = error_of(answer)[1]
            if "could not be loaded" in said:
                break
        time.sleep(0.05)
    raise BackendError(f"the server takes no requests: {said or 'it ended'}")


def await_idle(client: Client, model: str, limit_s: float = 30.0) -> bool:
    """Waits until nothing runs or waits on a model, so that a load begins with an empty queue.

    Returns:
        Whether it is; others may ask the same server.
    """
    until = time.monotonic() + limit_s
    while True:
        try:
            status, answer = client.ask("GET", STATS, timeout_s=LOOK_S)
            stats = json.loads(answer)[model] if status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            stats = {}
        if stats and not stats["running"] and not stats["queued"]:
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
