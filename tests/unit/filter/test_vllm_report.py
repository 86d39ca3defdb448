# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report says of a host, in which order, and that nothing of a host's texts is read as Markdown or HTML."""

from __future__ import annotations

import html.parser
import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_report import vllm_report
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout import vllm_rollout
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout_report import vllm_rollout_report
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout_verdict import vllm_rollout_verdict
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_status_report import vllm_status_report
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import KEPT
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report import ROW, seconds

Row = dict[str, t.Any]

OLD: Row = {"state": "running", "served_model_name": "old", "image": "i:1"}
NEW: Row = {"state": "running", "served_model_name": "new", "image": "i:2", "superseded": True}
SPEC: Row = {"name": "x", "served_model_name": ["new", "alias"]}
LOOK: Row = {"pending": True, "actions": ["start vllm-x"], "server": OLD, "spec": SPEC,
             "diff": {"before": {"state": "started", "image": "i:1"}, "after": {"image": "i:2"}}}  # fmt: skip
PHASES = [{"name": "load", "seconds": 30.0}, {"name": "compile", "seconds": 9.5}, {"name": "wait", "seconds": None}]
HEALTH: Row = {"healthy": True, "elapsed": 40.0, "phases": PHASES}
DONE: Row = {"changed": True, "actions": ["start vllm-x"], "server": NEW, "health": HEALTH, "message": "new answers.", "away_seconds": 42.0,
             "fallback": {"rung": 1, "rungs": 2, "causes": ["oom"], "change": {"engine": {"seed": 1}}}}  # fmt: skip
DIAGNOSIS: Row = {"id": "oom", "cause": "Too large.", "remedy": "Buy more.", "evidence": "<b>| OutOfMemory"}
SICK: Row = {**DONE, "failed": True, "reason": "oom", "server": OLD, "message": "It is not healthy. Old is back.", "away_seconds": 95.0,
             "health": {"healthy": False, "elapsed": 8.0, "diagnosis": DIAGNOSIS}}  # fmt: skip
GOOD: Row = {"healthy": True, "tokens_per_second": 80.5}


def rollout(waves: int = 2, **hosts: Row) -> Row:
    """The report on a rollout, whose waves were judged one after the other until one stopped it."""
    variables: Row = {
        name: {"__rollout_planned": LOOK, "vllm_hardware_class": "h100", **seen} for name, seen in hosts.items()
    }
    plan = vllm_rollout(list(hosts), variables, {"canaries": [], "waves": waves})
    verdicts: list[Row] = []
    for _wave in plan["waves"] if plan["ok"] else ():
        verdicts = vllm_rollout_verdict(plan, variables, verdicts)
        if verdicts[-1]["stops"]:
            break
    variables["localhost"] = {"__rollout_plan": plan, "__rollout_verdicts": verdicts}
    return vllm_rollout_report(list(hosts), variables)


CHANGED: Row = {"__rollout_done": DONE, "__rollout_soak": GOOD}
BACK: Row = {
    **CHANGED,
    "__rollout_undone": {"failed": False, "server": OLD, "message": "old is serving again.", "away_seconds": 7.0},
}
FAILED: Row = {"__rollout_done": SICK, "__rollout_undone": {}}


def row_of(found: Row, name: str) -> Row:
    return t.cast(Row, next(row for row in found["rows"] if row["host"] == name))


def test_a_host_that_changed_has_all_that_is_known_of_it() -> None:
    row = row_of(rollout(a=CHANGED), "a")
    assert set(row) == set(ROW)
    assert {key: row[key] for key in row if row[key] not in ("", None, [], {})} == {
        "host": "a",
        "hardware_class": "h100",
        "status": "changed",
        "wave": "wave 1 of 1",
        "message": "new answers.",
        "before": "old (i:1)",
        "after": "new (i:2)",
        "changes": ["image: i:1 -> i:2"],
        "image": "i:2",
        "fallback": 'fallback 1 of 2, because of oom: {"engine": {"seed": 1}}',
        "phases": PHASES[:2],
        "start_seconds": 40.0,
        "downtime_seconds": 42.0,
        "tokens_per_second": 80.5,
    }


def test_what_needs_attention_comes_first_and_fails_the_run() -> None:
    down = {"__rollout_planned": {"unreachable": True, "msg": "No route."}}
    found = rollout(a=down, b=CHANGED)
    assert [(row["host"], row["status"]) for row in found["rows"]] == [("a", "unreachable"), ("b", "not reached")]
    assert found["failed"] == {"a": "unreachable: No route."}
    assert found["lines"][1:] == ["a  unreachable: No route."]


@pytest.mark.parametrize(
    ("differs", "message"),
    [
        pytest.param(
            {"__rollout_undone": {}},
            "It was not restored, since the drain failed: drain a ended with exit status 3.",
            id="before the role",
        ),
        pytest.param(
            {}, "old is serving again. It was not undrained: drain a ended with exit status 3.", id="after the role"
        ),
        pytest.param(
            {"__rollout_undone": {"failed": True, "message": "Old is not healthy."}},
            "Old is not healthy.",
            id="in the role",
        ),
    ],
)
def test_a_hook_that_fails_as_a_host_is_put_back_fails_the_host(differs: Row, message: str) -> None:
    failure = {"cmd": ["drain", "a"], "rc": 3, "msg": "non-zero return code"}
    found = rollout(a={**BACK, "__rollout_undo_failure": failure, **differs}, b=FAILED)
    row = next(row for row in found["rows"] if row["host"] == "a")
    assert (row["status"], row["message"]) == ("failed", message)


def test_the_same_trouble_of_several_hosts_is_one_line() -> None:
    down, full = ({"__rollout_planned": {"unreachable": True, "msg": text}} for text in ("No route.", "Timed out."))
    found = rollout(a=down, b=full, c=down)
    assert found["lines"][1:] == ["a, c  unreachable: No route.", "b  unreachable: Timed out."]


def test_a_wave_that_failed_tells_what_became_of_each_host() -> None:
    found = rollout(a=BACK, b=FAILED, c=CHANGED)
    statuses = {row["host"]: (row["status"], row["message"]) for row in found["rows"]}
    assert statuses == {
        "b": ("failed", "It is not healthy. Old is back."),
        "a": ("put back", "old is serving again."),
        "c": ("not reached", ""),
    }
    assert row_of(found, "a")["after"] == "old (i:1)"
    assert [wave.get("message", "")[:10] for wave in found["waves"]] == ["Wave 1 of ", ""]


@pytest.mark.parametrize(
    ("undone", "message"),
    [
        pytest.param({}, "It was not restored.", id="its drain failed"),
        pytest.param({"failed": True, "message": "Docker is gone."}, "Docker is gone.", id="it failed"),
        pytest.param({"unreachable": True, "msg": "No route."}, "No route.", id="the host was lost"),
    ],
)
def test_what_is_not_put_back_has_failed(undone: Row, message: str) -> None:
    row = row_of(rollout(a={**BACK, "__rollout_undone": undone}, b=FAILED), "a")
    assert (row["status"], row["message"]) == ("failed", message)


@pytest.mark.parametrize(
    ("host", "start", "downtime", "tokens"),
    [
        pytest.param(BACK, 40.0, 49.0, None, id="put back: both changes count, and the rate is that of another server"),
        pytest.param(FAILED, None, 95.0, None, id="a start that failed took no time, and the old server was away"),
        pytest.param(
            {**BACK, "__rollout_undone": {"failed": True, "message": "x"}}, 40.0, None, None, id="nothing serves again"
        ),
    ],
)
def test_what_a_change_cost_that_did_not_last(
    host: Row, start: float | None, downtime: float | None, tokens: None
) -> None:
    row = row_of(rollout(a=host, b=FAILED), "a")
    assert (row["start_seconds"], row["downtime_seconds"], row["tokens_per_second"]) == (start, downtime, tokens)


def test_a_soak_that_failed_has_its_diagnosis_and_no_lines_of_the_log() -> None:
    msg = "x exited. Buy more.\n  GET /health\nIt was checking.\n  GET /health"
    soak = {"healthy": False, "msg": msg, "diagnosis": {**DIAGNOSIS, "cause": "x exited."}}
    found = rollout(a={**BACK, "__rollout_soak": soak})
    assert row_of(found, "a")["message"] == "not healthy any more: x exited. Buy more. old is serving again."
    text = vllm_report(found, "md")
    assert "  - diagnosis: oom\n  - evidence: \\<b" in text
    assert ("remedy" in text, "GET" in text) == (False, False)


@pytest.mark.parametrize(
    ("committed", "message"),
    [
        pytest.param({"changed": True}, "new answers.", id="committed"),
        pytest.param({}, f"new answers.{KEPT}", id="not yet"),
        pytest.param(
            {"failed": True, "msg": "Docker is gone."},
            f"new answers.{KEPT} But committing the change failed: Docker is gone. The next run commits it.",
            id="the commit failed",
        ),
    ],
)
def test_the_message_of_a_changed_host_knows_of_its_commit(committed: Row, message: str) -> None:
    done = {**DONE, "message": f"new answers.{KEPT}"}
    found = rollout(a={**CHANGED, "__rollout_done": done, **({"__rollout_committed": committed} if committed else {})})
    assert row_of(found, "a")["message"] == message


def test_a_start_is_measured_from_its_beginning() -> None:
    """In a wave all servers are started before the first one is waited for."""
    server = {**NEW, "started_at": "2026-11-27T21:00:00Z"}
    health = {**HEALTH, "healthy_at": "2026-11-27T21:00:52.340+00:00"}
    found = rollout(a={**CHANGED, "__rollout_done": {**DONE, "server": server, "health": health}})
    assert row_of(found, "a")["start_seconds"] == 52.3


def test_a_host_that_was_only_verified_is_unchanged() -> None:
    verified = {**DONE, "changed": False, "actions": [], "away_seconds": None, "server": {**NEW, "superseded": False}}
    row = row_of(rollout(a={"__rollout_done": verified}), "a")
    assert (row["status"], row["start_seconds"], row["downtime_seconds"]) == ("unchanged", None, None)


def test_what_was_restored_under_another_name_is_what_serves() -> None:
    other = {**OLD, "container_name": "vllm-other"}
    look = {**LOOK, "actions": ["stop vllm-other (it has port 8000)", "start vllm-x"], "server": {"state": "absent"}}
    sick = {**SICK, "server": {"state": "absent"}, "restored": [other]}
    row = row_of(rollout(a={"__rollout_planned": look, "__rollout_done": sick}), "a")
    assert (row["before"], row["after"]) == ("vllm-other", "old (i:1)")


def test_a_host_that_could_not_be_put_back_has_failed() -> None:
    lost = {**CHANGED, "__rollout_undone": {"failed": True, "message": "Docker is gone."}}
    row = row_of(rollout(a=lost, b=FAILED), "a")
    assert (row["status"], row["message"]) == ("failed", "Docker is gone.")


def test_a_rollout_has_the_names_that_clients_use_as_its_title() -> None:
    assert rollout(a=CHANGED)["title"] == "Rollout of new"


class Texts(html.parser.HTMLParser):
    """The tags of a page that are open at the end, all tags that were seen, and its texts."""

    EMPTY = ("meta", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: t.Any) -> None:
        self.tags.add(tag)
        assert not {name for name, _value in attrs} & {"src", "href", "onclick"}
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_needs_nothing_else_and_shows_texts_as_they_are() -> None:
    page = Texts(vllm_report(rollout(a=FAILED, b=BACK, **{"<i>": CHANGED}), "html"))
    assert page.open == []
    assert page.tags & {"b", "link", "img", "script"} == {"b"}
    assert {"<i>", "<b>| OutOfMemory", "Buy more.", "loading weights", "49 s"} <= set(page.texts)


def test_a_page_of_many_hosts_can_be_searched() -> None:
    page = Texts(vllm_report(rollout(50, **{f"host{number}": CHANGED for number in range(300)}), "html"))
    assert "script" in page.tags
    assert sum(text.startswith("host") and text[4:].isdigit() for text in page.texts) == 300


def test_markdown_has_a_line_for_each_host_and_no_markup_of_theirs() -> None:
    text = vllm_report(rollout(1, a=FAILED, **{"b|c": CHANGED}), "md")
    assert "  - evidence: \\<b\\>\\| OutOfMemory" in text
    assert "| b\\|c | h100 | not reached | wave 2 of 2 |" in text
    assert text.index("## Needs attention") < text.index("**a**: failed, wave 1 of 2") < text.index("## Hosts")


def test_json_has_everything() -> None:
    found = rollout(a=CHANGED)
    assert json.loads(vllm_report(found, "json")) == {**found, "counts": {"changed": 1}}


@pytest.mark.parametrize("arguments", [({}, "pdf"), ("text", "md")])
def test_a_format_that_there_is_not_is_refused(arguments: tuple[t.Any, str]) -> None:
    with pytest.raises(AnsibleFilterError, match="must be"):
        vllm_report(*arguments)


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0, "0 s"), (599.4, "599 s"), (600, "10 min")])
def test_times_are_for_people(value: float | None, text: str) -> None:
    assert seconds(value) == text


# --- what is there ----------------------------------------------------------------------------------------------------

GPU: Row = {"memory_total_mib": 81920, "memory_free_mib": 20480}
SERVER: Row = {"name": "x", "running": True, "served_model_name": "new", "port": 8000}
FACTS: Row = {"status": "ok", "hardware_class": "h100", "gpus": [GPU, GPU], "servers": [SERVER]}
RIGHT: Row = {"pending": False, "actions": [], "health": HEALTH, "server": {**NEW, "superseded": False},
              "message": "new answers."}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "look", "status", "message"),
    [
        pytest.param(FACTS, None, "serving", "", id="nobody says what is wanted"),
        pytest.param(FACTS, RIGHT, "serving", "new answers.", id="as wanted"),
        pytest.param(
            FACTS,
            {**RIGHT, "server": {**RIGHT["server"], "restarts": 2, "started_at": "2026-11-21T08:00:00.1Z"}},
            "serving",
            "new answers. It ended and was started again 2 times, last at 2026-11-21 08:00 UTC.",
            id="as wanted, and nobody noticed that it died",
        ),
        pytest.param({**FACTS, "servers": []}, None, "idle", "", id="no server"),
        pytest.param(
            {**FACTS, "servers": [{**SERVER, "running": False}]}, None, "stopped", "Not running: x.", id="it stopped"
        ),
        pytest.param(
            {**FACTS, "servers": [SERVER, {**SERVER, "running": False}]}, None, "serving", "", id="it keeps another one"
        ),
        pytest.param(
            {**FACTS, "status": "no_driver", "message": "No driver."}, None, "unhealthy", "No driver.", id="GPUs"
        ),
        pytest.param(
            FACTS, LOOK, "drifted", "It differs from what is wanted: image: i:1 -> i:2.", id="somebody changed it"
        ),
        pytest.param(
            FACTS,
            {**RIGHT, "pending": True, "health": {}, "server": {"container_name": "vllm-x", "state": "restarting"}},
            "unhealthy",
            "vllm-x is restarting; ansible-playbook gpufleet.vllm.diagnose -l a says why.",
            id="it crashes again and again",
        ),
        pytest.param(
            FACTS,
            {**RIGHT, "pending": True, "server": NEW},
            "drifted",
            "It has a change that was not committed. Run the same rollout or deployment again: it is verified, then committed or put back.",
            id="a rollout was killed",
        ),
        pytest.param(
            FACTS,
            {**RIGHT, "pending": True, "health": {"healthy": False, "msg": "Hangs."}},
            "unhealthy",
            "Hangs.",
            id="sick",
        ),
        pytest.param(
            FACTS, {"failed": True, "reason": "x", "message": "No such flag."}, "refused", "No such flag.", id="refused"
        ),
    ],
)
def test_a_host_has_a_status(facts: Row, look: Row | None, status: str, message: str) -> None:
    seen = {"__status_gathered": facts, **({} if look is None else {"__status_planned": look})}
    row = vllm_status_report(["a"], {"a": seen})["rows"][0]
    assert (row["status"], row["message"]) == (status, message)
    assert (row["gpus"], row["hardware_class"]) == ("2 x h100, 120.0 of 160.0 GiB in use", "h100")


def test_how_often_a_server_was_started_again_is_a_column() -> None:
    def page(restarts: int) -> str:
        look = {**RIGHT, "server": {**RIGHT["server"], "restarts": restarts}}
        return vllm_report(
            vllm_status_report(["a"], {"a": {"__status_gathered": FACTS, "__status_planned": look}}), "md"
        )

    assert ("restarts" in page(0), "restarts" in page(1)) == (False, True)


def test_a_host_that_is_down_is_a_line_of_the_answer() -> None:
    hosts = {"a": {"__status_gathered": FACTS}, "b": {"__status_gathered": {"unreachable": True, "msg": "No route."}}}
    found = vllm_status_report(["a", "b"], hosts)
    assert found["lines"] == ["1 of 2 hosts has a server; 1 needs attention.", "b  unreachable: No route."]
    assert found["hosts"]["b"] == {"status": "unreachable", "message": "No route.", "gpus": []}
    assert "new on port 8000" in vllm_report(found, "md")


@pytest.mark.parametrize(
    ("caches", "said"),
    [
        pytest.param({"from": "canary", "note": ""}, "canary", id="those of the canary"),
        pytest.param({"from": None, "note": "It has\nits own."}, "none: It has its own.", id="none, and why"),
        pytest.param(None, "", id="there were none"),
    ],
)
def test_whose_compile_caches_a_server_started_with_is_told(caches: Row | None, said: str) -> None:
    found = rollout(a={**CHANGED, "__rollout_done": {**DONE, "caches": caches}})
    assert row_of(found, "a")["caches"] == said
    assert ("caches of" in vllm_report(found, "md")) is bool(said)
    assert said in vllm_report(found, "html")
    sick = rollout(a={**FAILED, "__rollout_done": {**SICK, "caches": caches}})
    assert ("caches of: " + said in vllm_report(sick, "md")) is bool(said)
