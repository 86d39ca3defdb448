# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users send is no evidence: a server whose users quote every failure there is stays healthy."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.life import engine_is_dead
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import HEAD, OWN, is_quoted, lives, parse_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import timeline
from hypothesis import assume, given, settings, strategies as st
from test_diagnosis_signatures import SAMPLES
from vllm_logs import READY, START

API = "(APIServer pid=1) "
NOW = "11-21 10:00:00"
PARAMS = "SamplingParams(n=1, temperature=0.7, stop=[], max_tokens=16, extra_args=None)"

# How each release logs what a user sends and gets, with request logging on: version -> the line around the words.
LOGGED: dict[str, t.Callable[[str], str]] = {
    "0.8, a prompt": lambda said: (
        f"INFO {NOW} [logger.py:39] Received request chatcmpl-1: prompt: {said!r}, params: {PARAMS}, prompt_token_ids: "
        "None, lora_request: None, prompt_adapter_request: None."
    ),
    "0.9, a prompt": lambda said: (
        f"INFO {NOW} [logger.py:43] Received request cmpl-1: prompt: {said!r}, params: {PARAMS}, prompt_token_ids: [1, "
        "2], prompt_embeds shape: None, lora_request: None, prompt_adapter_request: None."
    ),
    "0.10 to 0.13, a prompt": lambda said: (
        f"{API}INFO {NOW} [logger.py:40] Received request chatcmpl-1: prompt: {said!r}, params: {PARAMS}, "
        "prompt_token_ids: None, prompt_embeds shape: None, lora_request: None."
    ),
    "0.14 to 0.33, a prompt": lambda said: (
        f"{API}DEBUG {NOW} [entrypoints/logger.py:39] Request chatcmpl-1 details: prompt: {said!r}, prompt_token_ids: "
        "None, prompt_embeds shape: None."
    ),
    "0.14 to 0.33, what stops it": lambda said: (
        f"{API}INFO {NOW} [logger.py:49] Received request chatcmpl-1: params: {PARAMS.replace('[]', repr([said]))}, "
        "lora_request: LoRARequest(lora_name='a', lora_int_id=1)."
    ),
    "0.33, a body": lambda said: (
        f"{API}DEBUG {NOW} [request_logger.py:84] Request chatcmpl-1 JSON body: "
        f"{json.dumps({'messages': [{'role': 'user', 'content': said}]})}"
    ),
    "0.33, a body at a level of one's own": lambda said: (
        f"{API}ERROR {NOW} [request_logger.py:84] Request N/A JSON body: {json.dumps({'prompt': said})}"
    ),
    "0.33, a body cut short": lambda said: (
        f"{API}WARNING {NOW} [request_logger.py:84] Request N/A JSON body: {json.dumps({'prompt': said})[:-2]}"
    ),
    "0.10 to 0.32, an answer": lambda said: (
        f"{API}INFO {NOW} [logger.py:71] Generated response chatcmpl-1 (streaming complete): output: {said!r}, "
        "output_token_ids: None, finish_reason: streaming_complete"
    ),
    "0.33, an answer": lambda said: (
        f"{API}INFO {NOW} [request_logger.py:119] Generated response chatcmpl-1: output: {said!r}, finish_reason: stop"
    ),
    "0.8 to 0.33, a body that was answered": lambda said: (
        f"{API}INFO {NOW} [api_server.py:884] response_body={{{json.dumps({'text': said})}}}"
    ),
    "0.14 to 0.33, a stream that was answered": lambda said: (
        f"{API}INFO {NOW} [log_response.py:121] response_body={{streaming_complete: content={said!r}, chunks=7}}"
    ),
    "0.8 to 0.33, the number of a request": lambda said: f"{API}INFO {NOW} [async_llm.py:268] Added request {said}.",
    "0.10 to 0.33, a request that was given up": lambda said: (
        f"{API}INFO {NOW} [async_llm.py:494] Aborted request(s) a,{said},b."
    ),
    "uvicorn, a path": lambda said: f'{API}INFO:     10.0.0.1:5 - "GET /{said.split()[0]} HTTP/1.1" 404 Not Found',
    "JSON logging": lambda said: json.dumps(
        {"levelname": "INFO", "message": f"Received request c: prompt: {said!r}, params: x, lora_request: None."}
    ),
}
# The same in lines of errors: a request that failed, and what it held.
FAILED: dict[str, t.Callable[[str], str]] = {
    "0.8 to 0.33, a name of a model": lambda said: (
        f"{API}ERROR {NOW} [serving_chat.py:178] Error with model error=ErrorInfo(message='The model `{said}` does not "
        "exist.', type='NotFoundError', param=None, code=404)"
    ),
    "0.33, a body that is not valid": lambda said: (
        f"{API}ERROR {NOW} [validation.py:151] RequestValidationError caught. Request id: None\n"
        f"{API}ERROR {NOW} [validation.py:151] Traceback (most recent call last):\n"
        f"{API}ERROR {NOW} [validation.py:151] fastapi.exceptions.RequestValidationError: [{{'type': 'value_error', "
        f"'loc': ('body',), 'input': {{'messages': {said!r}}}}}]"
    ),
    "0.8 to 0.33, what pydantic shows": lambda said: (
        f"{API}pydantic_core._pydantic_core.ValidationError: 1 validation error for ChatCompletionRequest\n"
        f"{API}  Input should be valid [type=odd, input_value={said!r}, input_type=str]"
    ),
    "0.8 to 0.33, a call of a tool": lambda said: (
        f"{API}ERROR {NOW} [granite_tool_parser.py:84] Error in extracting tool call from response {json.dumps(said)}"
    ),
}
# Lines that are short, or that a broken line of is no JSON any more.
UNBROKEN = (
    "0.8 to 0.33, the number of a request",
    "0.10 to 0.33, a request that was given up",
    "uvicorn, a path",
    "JSON logging",
)
OTHERS = (
    "INFO 11-21 10:00:00 [a.py:1] vLLM API server version 0.26.0",
    "INFO:     Application startup complete.",
    "usage: vllm serve [-h]",
    "vllm.service: Main process exited, code=exited, status=1/FAILURE",
    "[shutdown] API server: shutdown triggered",
    "Exception in thread Thread-2 (process_input_sockets):",
    "Error: cannot open it",
)
WORDS = [line for lines in SAMPLES.values() for _version, line in lines] + list(OTHERS)
STATES = (ProcessState(), ProcessState(running=True), ProcessState(running=False, exit_status=143))
SERVING = f"{START}{READY}"


@pytest.mark.parametrize("version", [*LOGGED, *FAILED])
def test_a_server_whose_users_quote_every_failure_is_healthy(version: str) -> None:
    logged = {**LOGGED, **FAILED}[version]
    for words in WORDS:
        log = f"{SERVING}{logged(words)}\n"
        for state in STATES:
            found = diagnose(log, state)
            assert (found.id, found.symptoms) == ("none", ()), words
            assert found.cause == "The server is up.", words
        assert not engine_is_dead(log), words
        assert timeline(log).current.name == "ready", words
        assert len(lives(parse_lines(log))) == 1, words


@pytest.mark.parametrize("version", LOGGED)
def test_what_users_say_is_left_out(version: str) -> None:
    (line,) = parse_lines(LOGGED[version]("CANARY of somebody"))
    assert "of somebody" not in line.text
    assert line.level in ("INFO", "DEBUG", "WARNING")
    assert line.goes_on is ("cut short" in version)


@pytest.mark.parametrize("version", [*LOGGED, *FAILED])
def test_a_death_is_told_whatever_users_said_of_it(version: str) -> None:
    """Neither that the server is ready nor that another one starts is theirs to say."""
    logged = {**LOGGED, **FAILED}[version]
    death = "(EngineCore pid=2) ERROR 11-21 10:00:01 [x.py:1] Worker proc VllmWorker-1 died unexpectedly, shutting down executor.\n"
    for words in OTHERS:
        log = f"{SERVING}{death}{logged(words)}\n"
        assert diagnose(log, ProcessState(running=True)).id == "worker-died", words
        assert engine_is_dead(log), words


@pytest.mark.parametrize("prefix", ["", "Nov 21 03:31:23 gpu-1 vllm[921]: ", "2026-11-21T03:31:23.000000001Z "])
@pytest.mark.parametrize("version", [name for name in LOGGED if name not in UNBROKEN])
@given(data=st.data())
@settings(max_examples=25)
def test_a_collector_that_breaks_a_long_line_tells_nothing_by_that(
    version: str, prefix: str, data: st.DataObject
) -> None:
    words = data.draw(st.sampled_from(WORDS)).replace("\n", " ")
    line = LOGGED[version](f"{'x' * data.draw(st.integers(0, 300))} {words} {words}")
    cuts = sorted(data.draw(st.lists(st.integers(150, max(151, len(line))), min_size=1, max_size=3)))
    parts = [line[a:b] for a, b in zip([0, *cuts], [*cuts, len(line)]) if b > a]
    # A user's words may look like the end of such a line, or, right after a break, like the beginning of another.
    assume(all(parse_lines("".join(parts[: n + 1]))[0].goes_on for n in range(len(parts) - 1)))
    assume(not any(HEAD.match(part) or OWN.match(part) for part in parts[1:]))
    whole = "".join(f"{prefix}{text}\n" for text in [*SERVING.splitlines(), *parts])
    assert diagnose(whole, ProcessState(running=True)).id == "none"
    assert not engine_is_dead(whole)


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore pid=2) ERROR 11-21 10:00:01 [core.py:1] EngineCore encountered a fatal error.",
        "Fatal Python error: Segmentation fault",
        "Traceback (most recent call last):\nvllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    ],
)
def test_what_a_process_writes_after_a_broken_line_counts(line: str) -> None:
    broken = LOGGED["0.10 to 0.13, a prompt"]("x" * 300)[:400]
    found = diagnose(f"{SERVING}{broken}\n{'x' * 100}', params: y\n{line}\n", ProcessState(running=True))
    assert found.failed and found.final


@pytest.mark.parametrize(
    ("text", "word", "quoted"),
    [
        ("ValueError: odd", "odd", False),
        ("ValueError('odd')", "odd", True),
        ('{"a": "it\'s odd"}', "odd", True),
        ("couldn't open what's odd", "odd", False),
        ("the model `odd` is not there", "odd", True),
        ("input_value='a \\' odd', b", "odd", True),
        ("'a' and odd and 'b'", "odd", False),
        ("input_value='cut odd", "odd", True),
        ("'odd'", "'odd'", False),
    ],
)
def test_what_stands_in_quotation_marks(text: str, word: str, quoted: bool) -> None:
    assert is_quoted(text, text.index(word)) is quoted


# --- a failed request, and a server that dies later ------------------------------------------------------------------

FAILED_REQUEST = "Traceback (most recent call last):\nMemoryError: a picture of a user\n"
ENGINE = "(EngineCore pid=2) ERROR 11-21 {} [core.py:1] "


def test_what_breaks_a_server_that_serves_on_counts_however_long_ago() -> None:
    lost = "(Worker pid=3) ERROR 11-21 10:00:00 [w.py:1] RuntimeError: GPU is lost. Reboot the system.\n"
    work = f"{API}INFO 11-21 10:00:00 [a.py:1] at work\n{API}INFO 11-21 23:00:00 [a.py:1] at work\n"
    assert diagnose(SERVING + lost + work, ProcessState(running=True)).id == "gpu-fault"


@pytest.mark.parametrize(
    ("hour", "id"), [("10:05:00", "host-memory"), ("23:00:00", "engine-dead")], ids=["at once", "in the evening"]
)
def test_what_failed_long_before_is_not_what_a_server_died_of(hour: str, id: str) -> None:
    error = "".join(f"{API}ERROR 11-21 10:00:00 [s.py:1] {line}\n" for line in FAILED_REQUEST.splitlines())
    work = f"{API}INFO 11-21 10:00:00 [a.py:1] at work\n{API}INFO 11-21 {hour} [a.py:1] at work\n"
    said = ("EngineCore encountered a fatal error.", "Traceback (most recent call last):", "ZorkError: odd")
    death = "".join(f"{ENGINE.format(hour)}{line}\n" for line in said)
    found = diagnose(SERVING + error + work + death)
    assert found.id == id
    assert id == "host-memory" or "ZorkError: odd" in found.cause
    assert "picture" not in found.cause
    gone = diagnose(SERVING + error + work, ProcessState(running=False, exit_status=1))
    assert gone.id == ("host-memory" if id == "host-memory" else "unknown")
