# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server is asked, and what comes of each answer and of none."""

from __future__ import annotations

import os
import socket
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.api import Api
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.http import HttpError, Server
from api_server import Handler, address, healthy, params

__all__ = ["address", "healthy"]


@pytest.fixture
def api(address: str) -> t.Callable[..., Api]:
    return lambda **said: Api(params(**{"url": address, **said}))


Make = t.Callable[..., Api]


def test_a_healthy_server_passes_every_check(api: Make) -> None:
    asking = api(served_model_name="gpt")
    assert [asking.ask(check).ok for check in ("health", "models", "completion")] == [True, True, True]
    assert Handler.asked == [
        ("GET", "/health", None),
        ("GET", "/v1/models", None),
        (
            "POST",
            "/v1/chat/completions",
            {
                "model": "gpt",
                "messages": [{"role": "user", "content": "Hello?"}],
                "max_tokens": 16,
                "temperature": 0,
            },
        ),
    ]


def test_the_first_of_several_names_is_asked_for(api: Make) -> None:
    Handler.answers["/v1/models"] = (200, {"data": [{"id": "other"}, {"id": "gpt"}]})
    asking = api(served_model_name=["gpt", "other"])
    assert [asking.ask(check).ok for check in ("models", "completion")] == [True, True]
    assert Handler.asked[-1][2]["model"] == "gpt"
    assert not api(served_model_name=["gpt", "missing"]).ask("models").ok


def test_the_first_model_listed_is_asked_when_none_is_named(api: Make) -> None:
    assert api().ask("completion").ok
    assert Handler.asked[-1][2]["model"] == "gpt"


def test_a_slash_at_the_end_of_the_address_does_not_matter(api: Make, address: str) -> None:
    assert api(url=f"{address}/").ask("health").ok
    assert Handler.asked == [("GET", "/health", None)]


@pytest.mark.parametrize(
    ("path", "check", "answer", "detail", "final"),
    [
        ("/health", "health", (503, None), "HTTP 503", False),
        ("/health", "health", (302, None), "HTTP 302", False),
        ("/v1/models", "models", (401, {"error": "Unauthorized"}), "HTTP 401: the server rejected the API key", True),
        ("/v1/models", "models", (200, "<html>"), "the answer is not a list of models", False),
        ("/v1/models", "models", (200, {"data": [{"id": "x"}]}), "serves x, not gpt: another server answers", True),
        ("/v1/chat/completions", "completion", (500, "oops"), "HTTP 500", False),
        (
            "/v1/chat/completions",
            "completion",
            (400, {"error": {"message": "no chat template"}}),
            "HTTP 400: no chat template",
            True,
        ),
    ],
)
def test_other_answers_fail_a_check(
    path: str, check: str, answer: tuple[int, t.Any], detail: str, final: bool, api: Make
) -> None:
    Handler.answers[path] = answer
    verdict = api(served_model_name="gpt").ask(check)
    assert (verdict.ok, verdict.final) == (False, final)
    assert verdict.detail.startswith(detail)


CHAT, EMBEDDINGS, SCORE = "/v1/chat/completions", "/v1/embeddings", "/score"
NO_CHAT = (400, {"error": {"message": "The model does not support Chat Completions API"}})
VECTOR = (200, {"data": [{"embedding": [0.1, -0.2, 0]}]})


@pytest.mark.parametrize(
    ("answers", "said", "asked", "instead", "detail"),
    [
        pytest.param({}, {}, [CHAT], "", "We need to", id="a server that completes is asked for nothing else"),
        pytest.param(
            {CHAT: NO_CHAT, EMBEDDINGS: VECTOR},
            {},
            [CHAT, EMBEDDINGS],
            "embedding",
            "an embedding of 3 numbers",
            id="a server that embeds",
        ),
        pytest.param(
            {CHAT: (404, {"detail": "Not Found"}), EMBEDDINGS: (404, {}), SCORE: (200, {"data": [{"score": 0.5}]})},
            {},
            [CHAT, EMBEDDINGS, SCORE],
            "score",
            "a score of 0.5",
            id="a reranker",
        ),
        pytest.param(
            {EMBEDDINGS: VECTOR}, {"runner": "pooling"}, [EMBEDDINGS], "embedding", "an embedding", id="known to pool"
        ),
        pytest.param(
            {CHAT: NO_CHAT, EMBEDDINGS: VECTOR},
            {"runner": "generate"},
            [CHAT],
            "",
            "HTTP 400: The model does not support",
            id="known to generate",
        ),
        pytest.param(
            {CHAT: (400, {"error": {"message": "no chat template"}})},
            {},
            [CHAT, EMBEDDINGS, SCORE],
            "",
            "HTTP 400: no chat template",
            id="a server that completes, and not in a chat",
        ),
        pytest.param({CHAT: (500, "oops")}, {}, [CHAT], "", "HTTP 500", id="a server that fails"),
        pytest.param(
            {CHAT: NO_CHAT, EMBEDDINGS: (200, {"data": [{"embedding": [None, None]}]})},
            {},
            [CHAT, EMBEDDINGS],
            "embedding",
            "the embedding has no direction: [None, None]",
            id="a server that embeds nonsense",
        ),
        pytest.param(
            {CHAT: NO_CHAT, EMBEDDINGS: VECTOR},
            {"checks": ["completion"]},
            [CHAT],
            "",
            "HTTP 400: The model",
            id="somebody said what to ask",
        ),
    ],
)
def test_a_server_is_asked_for_what_it_does(
    answers: dict[str, t.Any], said: dict[str, t.Any], asked: list[str], instead: str, detail: str, api: Make
) -> None:
    Handler.answers.update(answers)
    asking = api(served_model_name="gpt", **{"checks": None, **said})
    verdict = asking.ask("completion")
    assert verdict.detail.startswith(detail)
    assert ([path for _method, path, _body in Handler.asked], verdict.instead) == (asked, instead)
    Handler.asked.clear()
    assert asking.ask("completion") == verdict
    # What it does is known by now; what nobody answered is asked again.
    assert len(Handler.asked) == (1 if verdict.ok or instead else len(asked))


@pytest.mark.parametrize(
    ("check", "body", "detail"),
    [
        ("embedding", {"data": [{"embedding": [0, 0.0]}]}, "the embedding has no direction"),
        ("embedding", {"data": [{"embedding": []}]}, "the embedding has no direction"),
        ("embedding", {"data": [{"embedding": [1, True]}]}, "the embedding has no direction"),
        ("embedding", {"data": [{"embedding": "AACAPw=="}]}, "the answer is not an embedding"),
        ("embedding", {"data": []}, "the answer is not an embedding"),
        ("embedding", "<html>", "the answer is not an embedding"),
        ("score", {"data": [{"score": None}]}, "the score is not a number"),
        ("score", {"data": [{"score": "high"}]}, "the score is not a number"),
        ("score", {"results": []}, "the answer is not a score"),
    ],
)
def test_a_number_that_is_none_fails_a_check(check: str, body: t.Any, detail: str, api: Make) -> None:
    Handler.answers.update({EMBEDDINGS: (200, body), SCORE: (200, body)})
    verdict = api(checks=[check]).ask(check)
    assert not verdict.ok and verdict.detail.startswith(detail)


@pytest.mark.parametrize("source", ["api_key", "api_key_file"])
def test_the_key_is_sent(source: str, api: Make, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("CANARY\n")
    api(**{source: "CANARY" if source == "api_key" else str(tmp_path / "key")}).ask("health")
    assert Handler.headers_seen == ["Bearer CANARY"]


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_key_is_none(content: str, api: Make, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    api(api_key_file=str(tmp_path / "key")).ask("health")
    assert Handler.headers_seen == [None]


@pytest.mark.parametrize("key", ["CANARY b", "CANARY\nb", "CANÄRY"])
def test_a_key_that_no_client_can_send_is_refused_and_not_repeated(key: str, api: Make) -> None:
    with pytest.raises(VllmError) as caught:
        api(api_key=key)
    assert str(caught.value).startswith("The API key contains a space, a newline or a non-ASCII character")
    assert "CAN" not in str(caught.value)


def test_a_key_that_cannot_be_read_is_told(api: Make, tmp_path: Path) -> None:
    with pytest.raises(VllmError) as caught:
        api(api_key_file=f"{tmp_path}/none")
    assert caught.value.reason == "secret-missing"
    assert str(caught.value).startswith(f"Cannot read the API key from {tmp_path}/none: [Errno 2] No such file")


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1", "ftp://h", "http://", ""])
def test_an_address_that_is_none_is_told(url: str, api: Make) -> None:
    with pytest.raises(VllmError, match="^url must be an address such as http://127.0.0.1:8000; got "):
        api(url=url)


def test_nothing_listens(api: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    verdict = api(url=f"http://127.0.0.1:{port}").ask("health")
    assert verdict.detail == "connection refused: nothing listens there yet"


def test_a_hung_server_is_not_waited_for_longer_than_a_request_may_take(api: Make) -> None:
    Handler.answers["/health"] = (200, "hang")
    began = time.monotonic()
    assert api(request_timeout=0.2).ask("health").detail == "no answer in time"
    assert time.monotonic() - began < 5


def test_a_request_does_not_outlast_the_wait(api: Make) -> None:
    assert api(timeout=3, request_timeout=120).patience == 3
    assert api(timeout=300, request_timeout=120).patience == 120
    assert api(timeout=0, request_timeout=120).patience == 120


def test_a_connection_that_is_closed_at_once_is_a_server_that_is_not_there_yet(api: Make) -> None:
    """What the proxy of Docker does as long as nothing listens in the container."""

    def hang_up(server: socket.socket) -> None:
        server.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        verdict = api(url=f"http://127.0.0.1:{server.getsockname()[1]}").ask("health")
        thread.join()
    assert verdict.detail == "the connection was closed without an answer: nothing listens behind the port yet"


def test_a_proxy_from_the_environment_is_not_asked(api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert api().ask("health").ok


@pytest.mark.parametrize(
    ("error", "why", "final"),
    [
        (HttpError("tls", "certificate verify failed: self-signed certificate"),
         "TLS: certificate verify failed: self-signed certificate", True),
        (HttpError("invalid", "Port could not be cast to integer value as 'x'"), "Port could not be cast", True),
        (HttpError("unreachable", "[Errno -2] Name or service not known"), "[Errno -2] Name or service not known", False),
        (HttpError("unreachable", "[Errno 113] No route to host"), "[Errno 113] No route to host", False),
        (HttpError("closed", "[Errno 104] Connection reset by peer"), "the connection was closed without an answer", False),
        (HttpError("cut", "the connection was closed within the answer, after 20 bytes"), "the connection was closed within", False),
        (HttpError("refused", "[Errno 111] Connection refused"), "connection refused: nothing listens there yet", False),
        (HttpError("missing", "[Errno 2] No such file or directory"), "there is no such socket yet", False),
        (HttpError("permission", "[Errno 13] Permission denied"), "this user may not open the socket: run with become", False),
        (HttpError("timeout", "timed out"), "no answer in time", False),
        (HttpError("too-large", "the answer is larger than 9 bytes"), "the answer is larger than 9 bytes", False),
        (HttpError("no-http", "no HTTP: b'SSH-2.0'"), "no HTTP: b'SSH-2.0'", False),
    ],
    ids=lambda value: value.kind if isinstance(value, HttpError) else "",
)  # fmt: skip
def test_why_there_is_no_answer(
    error: HttpError, why: str, final: bool, api: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: t.Any, **_said: t.Any) -> t.NoReturn:
        raise error

    monkeypatch.setattr(Server, "request", fail)
    verdict = api().ask("health")
    assert verdict.detail.startswith(why)
    assert (verdict.ok, verdict.final) == (False, final)


@pytest.mark.parametrize("kind", ["a FIFO", "a device"])
def test_a_key_is_a_file(kind: str, api: Make, tmp_path: Path) -> None:
    path = tmp_path / "key"
    os.mkfifo(path) if kind == "a FIFO" else path.symlink_to("/dev/zero")
    with pytest.raises(VllmError, match=f"^Cannot read the API key from {path}: it is not a file. Check api_key_file"):
        api(api_key_file=str(path))
