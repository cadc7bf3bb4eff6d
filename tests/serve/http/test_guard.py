"""Tokens, bodies, hosts: who is let in."""

import hmac
import socket

import pytest
from serving import settle
from stepwise import SECONDS

from revstep.serve.http.limits import Limits
from revstep.serve.http.run import allowed_hosts
from revstep.serve.http.token_file import read_token

TOKEN = "a-token-of-this-test-alone"
GUARDED = [
    ("POST", "/v1/samples"),
    ("DELETE", "/v1/samples/x"),
    ("GET", "/v1/models"),
    ("GET", "/v1/stats"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/unknown"),
]


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xe9",
    ],
)
def test_without_the_token_nothing_is_told(serve, service, given):
    client = serve({"toy": service}, token=TOKEN)
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    for method, path in GUARDED:
        reply = client.request(method, path, headers=headers, json={} if method == "POST" else None)
        assert reply.status_code == 401, path
        assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert reply.json()["error"]["type"] == "Unauthorized"
        assert TOKEN not in reply.text
    assert settle(service, 0).steps == 0


def test_with_the_token_all_is_as_without_one(serve, service):
    client = serve({"toy": service}, token=TOKEN)
    client.headers["Authorization"] = f"bearer {TOKEN}"
    assert client.post("/v1/samples", json={}).status_code == 200
    for path in ("/v1/models", "/v1/stats", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 200


def test_probes_and_the_page_need_no_token(serve, service):
    client = serve({"toy": service}, token=TOKEN)
    for path in ("/healthz", "/readyz", "/", "/page.js", "/page.css"):
        assert client.get(path).status_code == 200, path


def test_the_description_says_what_needs_the_token(serve, service):
    client = serve({"toy": service}, token=TOKEN)
    found = client.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert found["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    assert found["security"] == [{"token": []}]
    free = {
        path for path, ways in found["paths"].items() for way in ways.values()
        if way.get("security") == []
    }  # fmt: skip
    assert free == {"/healthz", "/readyz"}
    assert "security" not in serve({"toy": service}).get("/openapi.json").json()


def test_tokens_are_compared_in_constant_time(serve, service, monkeypatch):
    asked = []

    def compare(given, right):
        asked.append((given, right))
        return False

    client = serve({"toy": service}, token=TOKEN)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    reply = client.get("/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 401
    assert asked == [(TOKEN.encode(), TOKEN.encode())]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_however_it_comes(serve, service, chunked):
    client = serve({"toy": service}, limits=Limits(body_bytes=2000))
    whole = b'{"steps": 3' + b" " * 1988 + b"}"
    json = {"Content-Type": "application/json"}
    for body, status in ((whole, 200), (whole + b" ", 413)):
        content = iter([body[:700], body[700:]]) if chunked else body
        reply = client.post("/v1/samples", content=content, headers=json)
        assert reply.status_code == status
    assert "2000 bytes" in reply.json()["error"]["message"]
    assert settle(service, 1).outcomes["completed"] == 1


def test_a_body_that_never_ends_is_cut(serve, service):
    client = serve({"toy": service}, limits=Limits(body_bytes=2000))
    head = b"POST /v1/samples HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    address = (client.base_url.host, client.base_url.port)
    with socket.create_connection(address, SECONDS) as connection:
        connection.sendall(head + b"Content-Type: application/json\r\n\r\n")
        sent = 0
        try:
            while sent < 1 << 26:
                connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
                sent += 1000
        except ConnectionError:
            pass  # the server has closed it; a timeout is none
        else:
            pytest.fail("the server read on")
    assert client.post("/v1/samples", json={}).status_code == 200


def test_on_loopback_a_foreign_host_is_refused(serve, service):
    """A page of elsewhere whose name points here could otherwise read what this server says."""
    client = serve({"toy": service}, allowed_hosts=allowed_hosts("127.0.0.1"))
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000", "[::1]"):
        assert client.get("/v1/models", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "localhost.evil.example", "[::2]", "127.0.0.1.nip.example:80"):
        reply = client.get("/v1/models", headers={"Host": host})
        assert reply.status_code == 400, host
        assert reply.json()["error"]["type"] == "WrongHost"


def test_elsewhere_any_host_is_answered():
    assert allowed_hosts("0.0.0.0") is None
    assert allowed_hosts("::") is None


def test_every_answer_has_the_headers_of_a_careful_server(serve, service):
    client = serve({"toy": service}, token=TOKEN)
    for path in ("/", "/healthz", "/v1/models", "/nowhere"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


def test_no_page_where_none_is_wanted(serve, service):
    client = serve({"toy": service}, page=False)
    assert client.get("/").status_code == 404
    assert client.get("/page.js").status_code == 404


@pytest.mark.parametrize("text", ["", "short", "with some spaces in it", "é" * 20, "a" * 15])
def test_a_token_file_that_holds_no_token_is_refused(tmp_path, text):
    file = tmp_path / "token"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="at least 16 ASCII characters"):
        read_token(file)


def test_a_token_file_of_no_text_is_refused_by_name(tmp_path):
    file = tmp_path / "token"
    file.write_bytes(bytes(range(128, 168)))
    with pytest.raises(ValueError, match=r"token holds no text: .* 16 ASCII characters"):
        read_token(file)


def test_a_token_file_is_read_without_the_end_of_its_line(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file) == TOKEN
