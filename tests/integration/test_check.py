"""davit check."""

import hashlib
import json
import os
import subprocess

from world import ROOT, TINY

BASE = TINY / "model.gguf"


def check(adapter, *arguments):
    davit = os.environ.get("DAVIT", ROOT / "build/release/davit")
    return subprocess.run([str(davit), "check", str(adapter), *map(str, arguments)], text=True, capture_output=True, timeout=60)


def test_a_good_adapter():
    result = check(TINY / "adapter-a", "--base", BASE)
    assert result.returncode == 0, result
    config = json.loads((TINY / "adapter-a/adapter_config.json").read_text())
    digest = hashlib.sha256((TINY / "adapter-a/adapter_model.safetensors").read_bytes()).hexdigest()
    for text in (f"rank       {config['r']}", digest, *config["target_modules"], "llama, GGUF", "davit   would load it",
                 "SGLang  would load it"):
        assert text in result.stdout, text


def test_another_limit_another_engine():
    assert check(TINY / "bad/rank64", "--base", BASE).returncode == 1
    assert check(TINY / "bad/rank64", "--base", BASE, "--max-lora-rank", 64).returncode == 0
    assert check(TINY / "bad/dora", "--base", BASE, "--engine", "vllm").returncode == 1
    only = check(TINY / "bad/dora", "--base", BASE, "--engine", "sglang")
    assert only.returncode == 0 and "use_dora" in only.stdout and "vLLM" not in only.stdout


def test_a_folder_as_base(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152}))
    good = check(ROOT / "samples/adapters/sql", "--base", tmp_path, "--engine", "vllm")
    assert good.returncode == 0 and "30 layers, hidden 576, feed-forward 1536, attention 576, key-value 192" in good.stdout
    other = check(TINY / "adapter-a", "--base", tmp_path, "--engine", "vllm")
    assert other.returncode == 1 and "expected shape" in other.stdout


def test_what_cannot_be_read(tmp_path):
    for adapter, arguments, text in ((tmp_path, ("--base", BASE), "adapter_config.json"),
                                     (TINY / "bad/truncated", ("--base", BASE), "adapter_model.safetensors"),
                                     (TINY / "adapter-a", ("--base", tmp_path / "none"), "none"),
                                     (TINY / "adapter-a", ("--base", TINY / "adapter-a/adapter_config.json"), "adapter_config.json")):
        result = check(adapter, *arguments)
        assert result.returncode == 1 and text in result.stderr and not result.stdout, (adapter, result)
    for arguments in ((), ("--base", BASE, "--engine", "tgi")):
        assert check(TINY / "adapter-a", *arguments).returncode == 2
