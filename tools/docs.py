# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write what is shown twice from where it is said once; a unit test holds it current.

docs/catalogue.md and docs/flags_by_version.md show the collection's data, and the role vllm_server describes the keys
of a server in the words of the modules.

Needs PyYAML: run it with the Python of the development environment.
"""

from __future__ import annotations

import json
import re
import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT / "tools")]

import behaviours  # noqa: E402
from doc_fragments.server import ModuleDocFragment  # noqa: E402
from module_utils._errors import VllmError  # noqa: E402
from module_utils._gpu.hardware import class_named  # noqa: E402
from module_utils._server import catalogue as server_catalogue, check, choice, model_task, offers  # noqa: E402
from module_utils._vllm import advice, architectures, families, versions  # noqa: E402
from module_utils._vllm.flags import ENVIRONMENT, FLAGS  # noqa: E402

MODELS = ROOT / "playbooks" / "models"
GENERATED = "<!-- Written by tools/docs.py; change what it is written from. -->"

CATALOGUE_HEAD = f"""{GENERATED}
# The catalogue

A profile is one name, and any other model is served by its id on the Hub, or by a directory on the host:

```bash
ansible-playbook gpufleet.vllm.deploy -i inventory -e model=qwen2.5-0.5b-instruct -l a100
ansible-playbook gpufleet.vllm.deploy_gptoss -i inventory -l gb10      # 120b where it fits, 20b elsewhere
ansible-playbook gpufleet.vllm.deploy_gemma3 -i inventory -l gb10
ansible-playbook gpufleet.vllm.deploy -i inventory -e model=Qwen/Qwen3-32B -l h100 --check
```

[Profiles](#profiles) are written by hand for one model each. For an id, settings are
[chosen](user_guide.md#any-model) from the model's own files; [the table below](#models-by-their-ids) shows the results.

An existing server keeps its backend, unless `backend` in `vllm_overrides` (or `-e vllm_backend=`) changes it. A new one
gets the backend of its row below: a container from the image, or with `systemd` a service from a virtual environment
with the packages, which the role builds. A service needs `become: true`.

The hardware class of a host is its variable `vllm_hardware_class`, else its inventory group, else detected from its
GPUs. Set `vllm_overrides` in the inventory to change any setting; `null` removes a setting of the catalogue.

## Models of your own

Define them in `vllm_models` of the inventory, in the format of the catalogue's files (`playbooks/models`). They are
checked the same way:

```yaml
vllm_models:
  phi-4-mini:
    description: A small model.
    server:                        # keys of vllm_server, for every class
      model: microsoft/Phi-4-mini-instruct
      served_model_name: phi-4-mini
      huggingface_dir: ~/vllm/huggingface
    needs:                         # optional
      vllm: "0.8.5"                # the oldest version that can serve it
      encodings: false             # true for gpt-oss
      token: false                 # true for gated weights
    architecture:                  # optional; for estimates of memory
      layers_full: 32
      layers_sliding: 0
      sliding_window: 0
      num_key_value_heads: 8
      head_dim: 128
      weights_gib: 7.2
      experts: 0                   # of a mixture of experts, how many it has; matters with data parallel alone
    hardware:                      # one entry for each class; its keys go over those of server
      h100:
        backend: systemd           # optional; what runs it unless the user says otherwise
        image: vllm/vllm-openai:v0.26.0
        venv:                      # what a service runs from instead, keys of role vllm_venv
          packages: ["vllm==0.26.0"]
        engine:
          gpu_memory_utilization: 0.5
        load_seconds: 90           # how long a start usually takes
        notes:
          - What to know about it.
        fallbacks:                 # what to try next, by diagnosis
          - causes: [mem-free-below-budget]
            change:
              engine:
                gpu_memory_utilization: 0.4
```

```bash
ansible-playbook gpufleet.vllm.deploy -i inventory -e model=phi-4-mini -l h100
```

## Profiles

"""


CHOSEN_HEAD = f"""## Models by their ids

What is chosen for public models on hosts with eight cards (a GB10 has one): GPUs, and the tokens of a request of which
{offers.CONCURRENCY} fit at once. It is counted as the deployment counts it, from what a card of the class has. A dash
means that it does not fit, or not with {offers.LEAST_CONTEXT} tokens. Weights are counted from the shapes in the
model's config.json; `vLLM` is the first release whose registry has its architecture, of those from
{architectures.READ[0]} on. If vLLM has printed how much memory such a model takes, in a test run or in a public
log, the evidence is a run; for the others it is arithmetic only.

"""
CLASSES = ("gb10", "a100", "h100", "h200", "b200")


def chosen_table() -> str:
    """What is chosen for every published model, on every class whose memory is known."""
    known = json.loads((MODELS / "published.json").read_text("utf-8"))
    heads = ("model", "family", "weights", "vLLM", *CLASSES, "evidence", "source")
    return CHOSEN_HEAD + "\n".join(_table(heads, (_chosen_row(name, known[name]) for name in known))) + "\n"


def _chosen_row(name: str, row: dict[str, t.Any]) -> tuple[str, ...]:
    files = model_task.ModelFiles(name, row["config"], row["weights_bytes"], tuple(row.get("files", ())))
    family = families.family_of(files.architecture, name, files.files)
    since = architectures.ARCHITECTURES[files.architecture][0].partition("..")[0]
    evidence = "a run" if row.get("checked") else "arithmetic"
    cells = [_fits(files, one) for one in CLASSES]
    weights = f"{row['weights_bytes'] / choice.MIB / 1024:.1f} GiB"
    return (
        f"`{name}`",
        family.name if family else "",
        weights,
        since,
        *cells,
        evidence,
        f"{row['source']}, {row['date']}",
    )


def _fits(files: model_task.ModelFiles, one: str) -> str:
    try:
        engine = choice.choose(files, class_named(one).name).entry["hardware"][one]["engine"]
    except VllmError as error:
        return "needs its code" if "trust_remote_code" in str(error) else "-"
    return f"{engine.get('tensor_parallel_size', 1)} × {engine['max_model_len']}"


def models() -> dict[str, dict[str, t.Any]]:
    return {path.stem: yaml.safe_load(path.read_text("utf-8")) for path in sorted(MODELS.glob("*.yml"))}


def catalogue() -> str:
    lines = [*_table(("model", "what it is", "needs", "weights", "classes"), map(_overview, models().items())), ""]
    for name, model in models().items():
        lines += [f"## {name}", "", model["description"], "", *_server_lines(model), ""]
        heads = ("class", "backend", "packages of a service", "image of a container", "vLLM in it", "engine", "load")
        lines += [*_table(heads, (_class_row(name, model, one) for one in model["hardware"])), ""]
        lines += _remarks(model)
    return CATALOGUE_HEAD + "\n".join(lines).rstrip() + "\n\n" + chosen_table()


def _overview(entry: tuple[str, dict[str, t.Any]]) -> tuple[str, ...]:
    name, model = entry
    needs, numbers = model.get("needs", {}), model.get("architecture", {})
    wanted = [f"vLLM {needs['vllm']}"] if "vllm" in needs else []
    wanted += ["encodings up to vLLM 0.30"] if needs.get("encodings") else []
    wanted += ["a Hugging Face token (gated)"] if needs.get("token") else []
    weights = f"{numbers['weights_gib']} GiB" if numbers else ""
    return f"[{name}](#{_anchor(name)})", model["description"], ", ".join(wanted), weights, ", ".join(model["hardware"])


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _server_lines(model: dict[str, t.Any]) -> list[str]:
    server, numbers = model["server"], model["architecture"]
    window = (
        f", {numbers['layers_sliding']} over {numbers['sliding_window']} tokens" if numbers["layers_sliding"] else ""
    )
    said = server["served_model_name"]
    served = " and ".join(f"`{name}`" for name in ([said] if isinstance(said, str) else said))
    return [
        f"`{server['model']}`, served as {served} on port {server['port']}, container "
        f"`{server['container_name']}`. {numbers['layers_full']} layers with full attention{window}, "
        f"{numbers['num_key_value_heads']} key-value heads of {numbers['head_dim']}.",
    ]


def _class_row(name: str, model: dict[str, t.Any], one: str) -> tuple[str, ...]:
    spec = server_catalogue.merged(model, one, {}, name, server_catalogue.CONTAINER)
    backend = server_catalogue.default_backend(name, model, one, {})
    service = server_catalogue.with_ray(server_catalogue.merged(model, one, {}, name, server_catalogue.SERVICE))
    packages = ", ".join(f"`{line}`" for line in service.get("venv", {}).get("packages", ()))
    version = versions.version_of_image(spec["image"]) or ""
    engine = [f"`{key}: {_value(value)}`" for key, value in spec.get("engine", {}).items() if value is not None]
    made_from = (backend, packages, f"`{spec['image']}`", version)
    return (one, *made_from, ", ".join(engine), f"{spec['load_seconds']} s")


def _value(value: t.Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _remarks(model: dict[str, t.Any]) -> list[str]:
    lines = []
    for one, settings in model["hardware"].items():
        lines += [f"* **{one}**: {note}" for note in settings.get("notes", ())]
        for rung in settings.get("fallbacks", ()):
            engine = ", ".join(f"`{key}: {_value(value)}`" for key, value in rung["change"].get("engine", {}).items())
            causes = ", ".join(f"`{cause}`" for cause in rung["causes"])
            because = f" ({rung['because']})" if "because" in rung else ""
            lines.append(f"* **{one}**, after {causes}: {engine}{because}")
    return [*lines, ""] if lines else []


# ---------------------------------------------------------------------------------------------------------------------


FLAGS_HEAD = f"""{GENERATED}
# What the flags of vLLM mean, by version

Read from the sources of vLLM {versions.OLDEST} to {versions.NEWEST} by `tools/vllm_flags.py`; the same data decides
what the collection accepts. A flag is a key of `engine`, with underscores. `0.9.0 to 0.12.0` includes both ends, and
`0.13.0 and later` goes to {versions.NEWEST}, the newest release that was read. For a newer one, nothing is rejected.

How a value is written in `engine`: a **switch** and a **flag** take `true` or `false` (a flag has no opposite, so
`false` leaves it out), a **list** and an **append** take a list, **json** takes a mapping, **text** a mapping or a
word, **human** a number that may be written `32k`.

"""


def flags_by_version() -> str:
    lines = ["## Behaviour", ""]
    rows = ((_spoken(versions.BEHAVIOURS[name]), text) for name, text in behaviours.TEXTS.items())
    lines += _table(("versions", "what holds"), rows)
    images = ((f"`nvcr.io/nvidia/vllm:{tag}-py3`", version) for tag, version in versions.NGC_VERSIONS.items())
    lines += ["", "## NVIDIA's images", "", *_table(("image", "vLLM"), images)]
    lines += ["", "Other months exist; set `vllm_version` for them, or let it be read from the image.", ""]
    lines += ["## Flags", "", *_table(("flag", "versions", "value", "choices", "remark"), map(_flag_row, FLAGS))]
    never = sorted(set(advice.FLAGS) - set(FLAGS))
    lines += ["", "## Never flags of vLLM", ""]
    lines += _table(("name", "remark"), ((f"`{name}`", advice.FLAGS[name]) for name in never))
    lines += ["", "## Environment variables", "", *_table(("variable", "versions", "remark"), _variable_rows())]
    return FLAGS_HEAD + "\n".join(lines) + "\n"


def _flag_row(name: str) -> tuple[str, ...]:
    life, *tokens = FLAGS[name].split()
    facts = {word: ranges for word, _at, ranges in (token.partition("@") for token in tokens)}
    short = [f" (`-{word[1:].replace('_', '-')}`)" for word in facts if word[0] == "-"]
    kinds = [_during(word[1:], ranges) for word, ranges in facts.items() if word[0] == ":"]
    defaults = [_during(f"`{word[1:]}`", ranges) for word, ranges in facts.items() if word[0] == "="]
    choices = [_during(f"`{word}`", ranges) for word, ranges in facts.items() if word[0] not in ":-=?!"]
    remarks = [_during("deprecated", facts["!"])] if "!" in facts else []
    remarks += [advice.FLAGS[name]] if name in advice.FLAGS else []
    value = ", ".join(kinds) + (f"; default {', '.join(defaults)}" if defaults else "")
    told = ", ".join(choices) + (" and others" if "?" in facts else "")
    return f"`{name}`{''.join(short)}", _spoken(life), value, told, "; ".join(remarks)


def _during(word: str, ranges: str) -> str:
    return f"{word} ({_spoken(ranges)})" if ranges else word


def _spoken(ranges: str) -> str:
    return check.spoken(ranges)


def _variable_rows() -> Iterator[tuple[str, ...]]:
    for name, ranges in ENVIRONMENT.items():
        if name.startswith("VLLM_"):
            yield f"`{name}`", _spoken(ranges), advice.VARIABLES.get(name, "")
    for name in sorted(set(advice.VARIABLES) - set(ENVIRONMENT)):
        yield f"`{name}`", "never", advice.VARIABLES[name]


def _table(heads: tuple[str, ...], rows: t.Iterable[tuple[str, ...]]) -> list[str]:
    written = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    return [
        f"| {' | '.join(heads)} |",
        f"| {' | '.join('---' for _head in heads)} |",
        *(f"| {row} |" for row in written),
    ]


# ---------------------------------------------------------------------------------------------------------------------


ROLE_SPECS = ROOT / "roles" / "vllm_server" / "meta" / "argument_specs.yml"
# What the role always needs, whereas a module does not to stop or remove a server.
REQUIRED = ("name", "model")
# Where the keys of a server are described, and what the role adds for those that one backend alone has.
DOCUMENTED = (
    (ModuleDocFragment.DOCUMENTATION, ()),
    (ModuleDocFragment.CONTAINER, ("Rejected with C(backend=systemd).",)),
    (ModuleDocFragment.SERVICE, ("Rejected unless C(backend=systemd).",)),
)


class Indented(yaml.SafeDumper):
    """Lists one step further in than their key, as the rest of the collection has them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def role_specs() -> str:
    """The role's argument specs, where the keys of a server say what the modules' documentation says of them."""
    specs = yaml.safe_load(ROLE_SPECS.read_text("utf-8"))
    options = specs["argument_specs"]["main"]["options"]["vllm_server"]["options"]
    for text, of in DOCUMENTED:
        for key, option in yaml.safe_load(text)["options"].items():
            options[key] = _role_option(key, option, of)
    return "---\n" + yaml.dump(specs, Dumper=Indented, sort_keys=False, width=108, allow_unicode=True)


def _role_option(key: str, option: dict[str, t.Any], of: tuple[str, ...]) -> dict[str, t.Any]:
    """An option of the modules as a key of the role: the defaults stay the module's, and no link leads to an option."""
    words = [re.sub(r"\bO\(([^)]*)\)", r"C(\1)", text) for text in (*option["description"], *of)]
    kept = {name: option[name] for name in ("type", "elements", "choices") if name in option}
    return {"description": words, **kept, **({"required": True} if key in REQUIRED else {})}


PAGES = {"catalogue.md": catalogue, "flags_by_version.md": flags_by_version}


def main() -> None:
    for name, page in PAGES.items():
        (ROOT / "docs" / name).write_text(page(), encoding="utf-8")
    ROLE_SPECS.write_text(role_specs(), encoding="utf-8")


if __name__ == "__main__":
    main()
