"""Base models of the tests' own: small files that look like those of real ones."""

import json
import struct


def safetensors(size=64, seed=0):
    """One tensor of `size` bytes that differ from those of another seed."""
    header = json.dumps({f"t{seed}": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    block = bytes((seed * 31 + i * 7) % 251 for i in range(4096))
    return struct.pack("<Q", len(header)) + header + (block * (size // len(block) + 1))[:size]


def make_model(shards=3, size=64):
    """What an engine reads of it."""
    files = {f"model-{i:05}-of-{shards:05}.safetensors": safetensors(size, i) for i in range(1, shards + 1)}
    return {"config.json": b'{"architectures":["LlamaForCausalLM"]}', "generation_config.json": b"{}", "tokenizer.json": b'{"model":{}}',
            "tokenizer_config.json": b"{}", "merges.txt": b"a b\n", "chat_template.jinja": b"{{ x }}",
            "model.safetensors.index.json": json.dumps({"weight_map": {f"t{i}": name for i, name in enumerate(files)}}).encode(), **files}


# Beside it, and of no use to an engine.
EXTRAS = {"README.md": b"# a model", ".gitattributes": b"*.bin lfs", "pytorch_model.bin": b"pickle" * 20, "onnx/model.onnx": b"onnx" * 20,
          "original/config.json": b"{}", "picture.png": b"png"}


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json" and path.name[0] != "."}
