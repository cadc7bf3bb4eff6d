"""A service over HTTP, of a network that takes its steps when a test says so."""

import contextlib

import pytest

pytest.importorskip("fastapi")

from http_server import client_of
from stepwise import Stepwise

from revstep import Engine, Service


@pytest.fixture
def network():
    return Stepwise()


@pytest.fixture
def service(network):
    with Service(Engine(network)) as service:
        yield service
        network.release()


@pytest.fixture
def serve(network):
    """A function that serves services and gives a client; see ``client_of``."""
    with contextlib.ExitStack() as stack:
        yield lambda services, **options: stack.enter_context(client_of(services, **options))
        network.release()


@pytest.fixture
def client(serve, service):
    return serve({"toy": service})
