"""Trains the sample adapters on a CPU, about a minute each, and saves them in PEFT's form next to this file.

    train.py sql json pirate
"""
import argparse
import json
import random
import time
from pathlib import Path

import peft
import safetensors.torch
import torch

import data
import gguf_base

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
# name -> (modules with a LoRA pair, alpha)
ADAPTERS = {
    "sql": (ATTENTION, 16),
    "json": (ATTENTION, 16),
    "pirate": (ATTENTION + ["gate_proj", "up_proj", "down_proj"], 16),
}
RANK = 8
END_TOKEN = 2
IGNORED = -100


def encode_pair(tokenizer, question, answer):
    prompt = tokenizer.encode(gguf_base.render_chat([{"role": "user", "content": question}]), add_special_tokens=False)
    target = tokenizer.encode(answer, add_special_tokens=False) + [END_TOKEN]
    return prompt + target, [IGNORED] * len(prompt) + target


def batch_of(pairs):
    longest = max(len(ids) for ids, _ in pairs)
    ids = torch.tensor([ids + [END_TOKEN] * (longest - len(ids)) for ids, _ in pairs])
    labels = torch.tensor([labels + [IGNORED] * (longest - len(labels)) for _, labels in pairs])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in pairs])
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def answer(model, tokenizer, question, tokens=64):
    prompt = gguf_base.render_chat([{"role": "user", "content": question}])
    ids, _ = gguf_base.generate_greedy(model, tokenizer.encode(prompt, add_special_tokens=False), tokens)
    ended = ids[-1] == END_TOKEN
    return tokenizer.decode(ids[:-1] if ended else ids) + ("" if ended else " [...]")


def train(model, tokenizer, pairs, args):
    """Adam with a short warm-up and a linear decay; the loss counts the answer alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=0.0)
    warm_up = 4
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (args.steps - step) / (args.steps - warm_up))
    )
    encoded = [encode_pair(tokenizer, *pair) for pair in pairs]
    rng = random.Random(args.seed)
    order = []
    model.train()
    for step in range(args.steps):
        if len(order) < args.batch:
            order = rng.sample(range(len(encoded)), len(encoded))
        chosen, order = order[: args.batch], order[args.batch :]
        loss = model(**batch_of([encoded[i] for i in chosen])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 5 == 0 or step == args.steps - 1:
            print(f"  step {step + 1:3}/{args.steps}  loss {loss.item():.3f}", flush=True)
    model.eval()


def save(model, folder):
    """PEFT's files with bf16 tensors, lists in a fixed order and the public name of the base model."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.to(torch.bfloat16).contiguous()
        for name, tensor in peft.get_peft_model_state_dict(model).items()
    }
    weights = folder / "adapter_model.safetensors"
    safetensors.torch.save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = gguf_base.MODEL_NAME
    config["inference_mode"] = True
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in sorted(config.items())}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, default=str) + "\n")


def make_adapter(name, args):
    torch.manual_seed(args.seed)
    base_path = gguf_base.require_model(args.model)
    tokenizer, base = gguf_base.load_tokenizer(base_path), gguf_base.load_model(base_path)
    questions = data.held_out(name)
    before = [answer(base, tokenizer, question) for question in questions]

    modules, alpha = ADAPTERS[name]
    config = peft.LoraConfig(r=RANK, lora_alpha=alpha, lora_dropout=0.0, target_modules=modules, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, config)
    print(f"{name}: training on {', '.join(modules)}", flush=True)
    started = time.monotonic()
    train(model, tokenizer, data.pairs(name), args)
    seconds = time.monotonic() - started
    folder = args.out / name
    save(model, folder)

    saved = peft.PeftModel.from_pretrained(gguf_base.load_model(base_path), folder).eval()
    for question, old in zip(questions, before):
        print(f"\nquestion: {question}\n  base:   {old!r}\n  {name}: {answer(saved, tokenizer, question)!r}")
    size = (folder / "adapter_model.safetensors").stat().st_size
    print(f"\n{name}: trained in {seconds:.0f} s, {size / 1e6:.2f} MB\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Train the sample adapters.")
    parser.add_argument("names", nargs="+", choices=data.NAMES, metavar="NAME", help=", ".join(data.NAMES))
    parser.add_argument("--model", default=gguf_base.default_model_path(), help="GGUF file (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder that gets NAME/ (default: this one)")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of torch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.names:
        make_adapter(name, args)


if __name__ == "__main__":
    main()
