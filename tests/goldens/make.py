"""Writes the golden files that the engine's numbers and its tokenizer are compared with.

    make.py base sql json pirate tokenizer tiny        (no names: all of them)

The reference is transformers and PEFT in float32 on the dequantised base model; an adapter's bf16 values are widened to
float32 and applied beside the base weights, never merged.

Every file: `generator` (this script and the libraries), `model`, `adapter` (null for the base): what it was made from.
base, sql, json, pirate: `prompts`, each with
    messages         the conversation, where the prompt is one
    prompt           the text, chat template applied
    token_ids        of the prompt; no token is added in front
    logits_top       the 32 highest of the first generated step; `logits_sample`: every 97th id
    greedy           up to 48 ids, with the end token if it came
    greedy_text      `greedy` without special tokens
    close_positions  indices in `greedy` where the two best logits are closer than 1e-3: a tie for float32
tiny: `cases`, one for the base (adapter null) and one for each adapter, with the same `prompts` but all `logits`.
tokenizer: `cases` (text, ids, decoded text; `special`: has the text of a special token in it, which is parsed as that
token), `decode` (ids that no text encodes to), `chats` (messages and what the chat template makes of them). Texts hold
U+0000, which a JSON reader may have to be told to allow. A byte without a token in the vocabulary is dropped before
merging: `decoded` differs from `text` there.
"""
import argparse
import json
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "samples" / "adapters"))

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

import data  # noqa: E402
import gguf_base  # noqa: E402
import tokenizer_cases  # noqa: E402

ADAPTERS = ["sql", "json", "pirate"]
TINY_ADAPTERS = ["a", "b", "c", "d"]
GREEDY_TOKENS = 48
TOP = 32
SAMPLE_STEP = 97
CLOSE = 1e-3

RAW_PROMPTS = ["The capital of France is", "def fibonacci(n):\n", "In 2024, the three largest cities were:\n\n1."]
CHATS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "user", "content": "Table: cities(id, name, country, population)\n"
                                 "Question: What is the name of all cities with population above 1000000?"}],
    [{"role": "user", "content": "Order for Oscar: one medium sandwich. I will pick it up."}],
    [{"role": "system", "content": "You answer in one word."}, {"role": "user", "content": "Name a color."},
     {"role": "assistant", "content": "Blue"}, {"role": "user", "content": "Another one."}],
]
TINY_PROMPTS = ["The cat", "in the end", "1 + 2 =", " the the the the\n", "é😀 a"]
TINY_CHATS = [[{"role": "user", "content": "he is in the inn"}]]


def number(value) -> float:
    return float(f"{value:.7g}")


def numbers(tensor) -> list:
    return [number(value) for value in tensor.tolist()]


def header(model_path, model_name, adapter=None) -> dict:
    """What the file is made from. `adapter` is (name, folder) or None."""
    script = Path(__file__).resolve()
    return {
        "generator": {
            "script": script.relative_to(ROOT).as_posix(),
            "sha256": gguf_base.sha256_of(script),
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "model": {"name": model_name, "sha256": gguf_base.sha256_of(model_path)},
        "adapter": adapter_header(*adapter) if adapter else None,
    }


def adapter_header(name, folder) -> dict:
    return {
        "name": name,
        "sha256": gguf_base.sha256_of(folder / "adapter_model.safetensors"),
        "config_sha256": gguf_base.sha256_of(folder / "adapter_config.json"),
    }


def with_adapter(base_path, folder):
    """The base plus a PEFT adapter in float32, side by side."""
    model = peft.PeftModel.from_pretrained(gguf_base.load_model(base_path), folder, autocast_adapter_dtype=True)
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, name
    return model.eval()


def prompt_record(model, tokenizer, prompt, messages=None, full_logits=False) -> dict:
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    greedy, steps = gguf_base.generate_greedy(model, ids, GREEDY_TOKENS)
    first = steps[0]
    top = first.topk(TOP)
    pair = steps.topk(2, dim=-1).values
    record = {"messages": messages} if messages else {}
    record.update(prompt=prompt, token_ids=ids)
    if full_logits:
        record["logits"] = numbers(first)
    else:
        sample = list(range(0, len(first), SAMPLE_STEP))
        record["logits_top"] = {"ids": top.indices.tolist(), "logits": numbers(top.values)}
        record["logits_sample"] = {"ids": sample, "logits": numbers(first[sample])}
    record["greedy"] = greedy
    record["greedy_text"] = tokenizer.decode(greedy, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    record["close_positions"] = [i for i, (a, b) in enumerate(pair.tolist()) if a - b < CLOSE]
    return record


def prompt_records(model, tokenizer, raw, chats, **options) -> list:
    records = [prompt_record(model, tokenizer, prompt, **options) for prompt in raw]
    for messages in chats:
        records.append(prompt_record(model, tokenizer, gguf_base.render_chat(messages), messages, **options))
    return records


def write(path, content):
    """JSON with one line per scalar list, so that a change shows as a small diff."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_json(content) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def render_json(value, indent="") -> str:
    inner = indent + "  "
    is_flat = not isinstance(value, (dict, list)) or (
        isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value))
    if is_flat or not value:
        return json.dumps(value)
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + render_json(item, inner) for item in value) + f"\n{indent}]"
    lines = (f"{inner}{json.dumps(key)}: {render_json(item, inner)}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + f"\n{indent}}}"


def make_model_golden(name, args):
    adapter = None if name == "base" else (name, args.adapters / name)
    model = with_adapter(args.model, adapter[1]) if adapter else gguf_base.load_model(args.model)
    tokenizer = gguf_base.load_tokenizer(args.model)
    content = header(args.model, gguf_base.MODEL_NAME, adapter)
    content["prompts"] = prompt_records(model, tokenizer, RAW_PROMPTS, CHATS + own_chats(name))
    write(args.out / f"{name}.json", content)


def own_chats(name) -> list:
    """Two held-out questions of the adapter itself that are not among CHATS."""
    if name == "base":
        return []
    chats = [[{"role": "user", "content": question}] for question in data.held_out(name)]
    return [chat for chat in chats if chat not in CHATS][:2]


def make_tokenizer_golden(args):
    tokenizer = gguf_base.load_tokenizer(args.model)
    content = header(args.model, gguf_base.MODEL_NAME)
    content["special_ids"] = sorted(tokenizer.added_tokens_decoder)
    content["cases"] = []
    specials = [token.content for token in tokenizer.added_tokens_decoder.values()]
    for text in tokenizer_cases.texts():
        ids = tokenizer.encode(text, add_special_tokens=False)
        content["cases"].append({
            "text": text,
            "special": any(token in text for token in specials),
            "ids": ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
            "decoded_skip_special": tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
        })
    content["decode"] = [
        {"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)}
        for ids in tokenizer_cases.id_lists(tokenizer)
    ]
    content["chats"] = []
    for messages, add_generation_prompt in tokenizer_cases.chats():
        rendered = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt)
        assert rendered == gguf_base.render_chat(messages, add_generation_prompt), messages
        content["chats"].append({"messages": messages, "add_generation_prompt": add_generation_prompt,
                                 "rendered": rendered})
    write(args.out / "tokenizer.json", content)


def make_tiny_golden(args):
    path = args.tiny / "model.gguf"
    tokenizer = gguf_base.load_tokenizer(path)
    content = header(path, "tiny")
    content["cases"] = []
    for name in [None] + TINY_ADAPTERS:
        folder = args.tiny / f"adapter-{name}"
        model = with_adapter(path, folder) if name else gguf_base.load_model(path)
        content["cases"].append({
            "adapter": adapter_header(folder.name, folder) if name else None,
            "prompts": prompt_records(model, tokenizer, TINY_PROMPTS, TINY_CHATS, full_logits=True),
        })
    write(args.out / "tiny.json", content)


def main():
    names = ["base", *ADAPTERS, "tokenizer", "tiny"]
    parser = argparse.ArgumentParser(description="Write the golden files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(names)} (default: all)")
    parser.add_argument("--model", type=Path, default=gguf_base.default_model_path(), help="GGUF (default: %(default)s)")
    parser.add_argument("--adapters", type=Path, default=ROOT / "samples" / "adapters", help="folder of the adapters")
    parser.add_argument("--tiny", type=Path, default=ROOT / "tests" / "fixtures" / "tiny", help="folder of the tiny model")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "goldens", help="where the files go")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    torch.set_num_threads(args.threads)
    for name in args.names or names:
        if name != "tiny":
            gguf_base.require_model(args.model)
        if name == "tokenizer":
            make_tokenizer_golden(args)
        elif name == "tiny":
            make_tiny_golden(args)
        else:
            make_model_golden(name, args)


if __name__ == "__main__":
    main()
