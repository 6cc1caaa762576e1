"""The base model of the samples and goldens as transformers sees it: float32 weights and tokenizer out of a GGUF file.

transformers refuses to save a model that it loaded from a GGUF, and converts this tokenizer without its digit split;
so the weights are dequantised here and put into a plain LlamaForCausalLM, and the tokenizer is put right.

Run as a program it loads the base and completes a prompt:  gguf_base.py [--model FILE] [--prompt TEXT]
"""
import argparse
import hashlib
import os
from pathlib import Path

import gguf
import torch
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def default_model_path() -> Path:
    """Where scripts/fetch-model puts the model."""
    if os.environ.get("DAVIT_CACHE_DIR"):
        cache = Path(os.environ["DAVIT_CACHE_DIR"])
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "davit"
    return cache / "models" / MODEL_FILE


def require_model(path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise SystemExit(f"no model at {path}: run scripts/fetch-model first, or name one with --model")
    return path


def sha256_of(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def render_chat(messages, add_generation_prompt=True) -> str:
    """The chat template of SmolLM2-Instruct, written out."""
    text = ""
    if messages and messages[0]["role"] != "system":
        text += f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n"
    for message in messages:
        text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
    return text + ("<|im_start|>assistant\n" if add_generation_prompt else "")


def _unpermute(weight, head_count):
    """Rows of q and k from ggml's RoPE order (pairs 2i, 2i+1) back to transformers' (pairs i, i + head_size/2)."""
    rows, columns = weight.shape
    return weight.reshape(head_count, rows // head_count // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


_LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OTHER_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def load_model(path) -> LlamaForCausalLM:
    """A float32 LlamaForCausalLM with eager attention, in evaluation mode."""
    reader = gguf.GGUFReader(str(path))

    def field(name):
        return reader.fields[name].contents()

    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    names = {tensor.name for tensor in reader.tensors}
    config = LlamaConfig(
        vocab_size=field("llama.vocab_size"),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=field("llama.rope.dimension_count"),
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"),
        pad_token_id=field("tokenizer.ggml.padding_token_id"),
        tie_word_embeddings="output.weight" not in names,
        attention_bias=False,
        mlp_bias=False,
    )
    config._attn_implementation = "eager"
    state = {}
    for tensor in reader.tensors:
        weight = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if parts[2] == "attn_q":
                weight = _unpermute(weight, heads)
            elif parts[2] == "attn_k":
                weight = _unpermute(weight, kv_heads)
            key = f"model.layers.{parts[1]}.{_LAYER_TENSORS[parts[2]]}.weight"
        else:
            key = _OTHER_TENSORS[parts[0]] + ".weight"
        state[key] = weight.to(torch.float32).contiguous()
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config).to(torch.float32)
    model.load_state_dict(state, strict=True)
    model.tie_weights()
    return model.eval()


def load_tokenizer(path):
    """The tokenizer of the GGUF with the split rule of `smollm`: each digit alone, then GPT-2's pattern."""
    path = Path(path)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


@torch.no_grad()
def generate_greedy(model, token_ids, max_new_tokens, eos_token_id=2):
    """Greedy continuation without any penalty. Returns (ids with the end token, logits of every step [n, vocab])."""
    ids, steps, cache = [], [], None
    fed = torch.tensor([token_ids])
    for _ in range(max_new_tokens):
        out = model(input_ids=fed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits = out.logits[0, -1].float()
        token = int(logits.argmax())
        ids.append(token)
        steps.append(logits)
        if token == eos_token_id:
            break
        fed = torch.tensor([[token]])
    return ids, torch.stack(steps)


def main():
    parser = argparse.ArgumentParser(description="Load the base model from its GGUF and complete a prompt.")
    parser.add_argument("--model", default=default_model_path(), help="GGUF file (default: %(default)s)")
    parser.add_argument("--prompt", default="The capital of France is", help="text to complete")
    parser.add_argument("--tokens", type=int, default=12, help="how many tokens at most")
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = require_model(args.model)
    tokenizer, model = load_tokenizer(path), load_model(path)
    ids, _ = generate_greedy(model, tokenizer.encode(args.prompt, add_special_tokens=False), args.tokens)
    print(args.prompt + tokenizer.decode(ids))


if __name__ == "__main__":
    main()
