"""Real failures on a host with vLLM and GPUs, named by the collection: on_gpus.py OUTPUT_DIRECTORY [SCENARIO...]

Scenarios: held (a neighbour holds memory), cache (KV cache too small), world (more GPUs than there are), workers (a worker
is stopped, then killed). The first three run side by side. Prints one JSON line each and keeps every log. TP=1 in the
environment is for one GPU: the neighbour comes after the others.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Without ansible: the modules' core imports nothing of it.
PACKAGE = pathlib.Path("/tmp/gpufleet_core/ansible_collections/gpufleet")
if not PACKAGE.exists():
    PACKAGE.mkdir(parents=True)
    (PACKAGE / "vllm").symlink_to(ROOT)
sys.path.insert(0, str(PACKAGE.parents[1]))

from ansible_collections.gpufleet.vllm.plugins.module_utils._health import logfile, session  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState, look_at  # noqa: E402
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import diagnosis as vllm_diagnosis

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_model(directory: pathlib.Path) -> None:
    """A configuration and a tokenizer; the weights are dummies."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"w{n}": n for n in range(3, 1024)}}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=template
    ).save_pretrained(directory)


class Child(logfile.FileSource):
    """A server that this program started itself: its log, its process."""

    def __init__(self, name: str, log: pathlib.Path, port: int, arguments: list[str], devices: str) -> None:
        super().__init__(str(log))
        self.port, self.stream = port, log.open("wb")
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": devices,
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_PORT": str(port + 100),
        }
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", *arguments, "--port", str(port)]
        self.child = subprocess.Popen(command, stdout=self.stream, stderr=subprocess.STDOUT, env=environment)
        self.ended: float | None = None
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.child.wait()
        self.ended = time.time()

    def state(self) -> ProcessState:
        status = self.child.poll()
        code = None if status is None else status % 256 if status >= 0 else 128 - status
        return ProcessState(status is None, code, name="Server")

    def root_pid(self) -> int:
        return self.child.pid

    def workers(self) -> list[int]:
        seen = look_at(self.child.pid)
        return sorted(pid for pid, name in (seen.names if seen else {}).items() if "Worker" in name)


def wait(child: Child, checks: list[str], **said: t.Any) -> dict[str, t.Any]:
    params = {
        "url": f"http://127.0.0.1:{child.port}", "served_model_name": "tiny", "api_key": None, "api_key_file": None,
        "timeout": 280, "request_timeout": 60, "stable_for": 0.25, "checks": checks, "prompt": "w5 w6", "max_tokens": 16,
        "stall_timeout": 120, "gpu_facts": gpu_facts(), **said,
    }  # fmt: skip
    return session.Session(params, child, None).run()


def gpu_facts() -> dict[str, t.Any]:
    """As M(gpufleet.vllm.gpu_facts) tells it, as far as a diagnosis reads it."""

    def query(what: str) -> list[list[str]]:
        command = ["nvidia-smi", what, "--format=csv,noheader,nounits"]
        out = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return [line.split(", ") for line in out.splitlines() if line.strip()]

    try:
        gpus = query("--query-gpu=index,uuid,memory.free")
        apps = query("--query-compute-apps=gpu_uuid,pid,used_memory")
    except OSError:
        return {}
    processes: dict[str, list[dict[str, t.Any]]] = {}
    for uuid, pid, used in (row for row in apps if row[2].isdigit()):
        processes.setdefault(uuid, []).append({"pid": int(pid), "user": None, "used_memory_mib": int(used)})
    return {
        "gpus": [
            {"index": int(i), "uuid": u, "memory_free_mib": int(f), "processes": processes.get(u, [])}
            for i, u, f in gpus
        ]
    }


@dataclasses.dataclass
class Report:
    out: pathlib.Path

    def tell(self, name: str, result: dict[str, t.Any], event: float, told: float, **more: t.Any) -> None:
        diagnosis = result.get("diagnosis") or {}
        line = {"scenario": name, "id": diagnosis.get("id"), "lag": round(told - event, 2), **more, **diagnosis}
        line["phases"] = [(p["name"], p["seconds"]) for p in result.get("phases", [])]
        print(json.dumps(line), flush=True)
        with (self.out / "results.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")


MODEL = "/tmp/tiny"
DEVICES = [str(n) for n in range(int(os.environ.get("TP", "2")))]
COMMON = [MODEL, "--served-model-name", "tiny", "--load-format", "dummy", "--enforce-eager"]


def fails(report: Report, name: str, port: int, arguments: list[str], devices: str) -> None:
    child = Child(name, report.out / f"{name}.log", port, [*COMMON, *arguments], devices)
    result = wait(child, ["health"])
    told = time.time()
    child.child.wait(60)
    report.tell(
        name, result, min(child.ended or told, told), told, elapsed=result["elapsed"], status=child.child.returncode
    )


def held(report: Report) -> None:
    hold = (
        "import torch,time; x=torch.empty(100*2**30,dtype=torch.uint8,device='cuda'); x[::4096]=1; "
        "print('held',flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, env=environment) as neighbour:
        (neighbour.stdout or sys.stdin.buffer).readline()
        try:
            fails(report, "held", 8101, ["--gpu-memory-utilization", "0.85", "--max-model-len", "4096"], "0")
        finally:
            neighbour.kill()


def cache(report: Report) -> None:
    fails(report, "cache", 8102, ["--max-model-len", "131072", "--kv-cache-memory-bytes", "16M"], DEVICES[-1])


def world(report: Report) -> None:
    fails(report, "world", 8103, ["--tensor-parallel-size", "4", "--max-model-len", "4096"], ",".join(DEVICES))


def workers(report: Report) -> None:
    arguments = [
        *COMMON,
        "--tensor-parallel-size",
        str(len(DEVICES)),
        "--max-model-len",
        "4096",
        "--distributed-executor-backend",
        "mp",
    ]
    child = Child("workers", report.out / "workers.log", 8104, arguments, ",".join(DEVICES))
    began = time.time()
    ready = wait(child, ["health", "models"])
    report.tell("ready", ready, began, time.time(), healthy=ready["healthy"])
    worker = child.workers()[-1]
    os.kill(worker, signal.SIGSTOP)
    stopped = time.time()
    result = wait(child, ["health", "models", "completion"])
    report.tell("stopped", result, stopped, time.time(), checks=[c["ok"] for c in result["checks"]])
    os.kill(worker, signal.SIGCONT)
    time.sleep(1)
    os.kill(child.workers()[-1], signal.SIGKILL)
    killed = time.time()
    found = vllm_diagnosis.diagnose(child.tail(), child.state())
    while not found.failed and time.time() < killed + 30:
        time.sleep(0.05)
        found = vllm_diagnosis.diagnose(child.tail(), child.state())
    report.tell("killed", {"diagnosis": found.to_dict()}, killed, time.time())
    child.child.wait(60)
    after = vllm_diagnosis.diagnose(child.tail(), child.state())
    ended = round((child.ended or 0) - killed, 1)
    report.tell("gone", {"diagnosis": after.to_dict()}, 0, 0, status=child.child.returncode, ended_after=ended)


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    make_model(pathlib.Path(MODEL))
    report, names = Report(out), sys.argv[2:] or ["held", "cache", "world", "workers"]
    groups = [[cache, world, held], [workers]] if len(DEVICES) > 1 else [[cache, world], [held], [workers]]
    for group in groups:
        together = [threading.Thread(target=one, args=(report,)) for one in group if one.__name__ in names]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()


if __name__ == "__main__":
    main()
