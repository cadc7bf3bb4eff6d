"""Clients of the HTTP service: in threads, and of event streams."""

import json
import socket
import threading

import httpx
from stepwise import SECONDS


def events(lines):
    """Pairs of name and data, of the lines of a response as they come; comments are left out."""
    name, data = None, []
    for line in lines:
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and name is not None:
            yield name, json.loads("\n".join(data))
            name, data = None, []


def streamed(client, **body):
    """The events of a stream that is read to its end."""
    with client.stream("POST", "/v1/samples", json=body | {"stream": True}) as reply:
        assert reply.status_code == 200
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        return list(events(reply.iter_lines()))


def in_thread(call):
    """Runs a call in a thread; gives what waits for its result."""
    found = []

    def run():
        try:
            found.append(call())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result():
        thread.join(SECONDS)
        assert not thread.is_alive(), "a request without an answer"
        return found[0]

    return result


def connected(url):
    """A plain connection to a server, for who leaves it in ways that no client does."""
    url = httpx.URL(url)
    return socket.create_connection((url.host, url.port), SECONDS)


def send(connection, body, path="/v1/samples"):
    """Sends a request, and waits for nothing."""
    text = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{text}Content-Length: {len(body)}\r\n\r\n{body}".encode())
