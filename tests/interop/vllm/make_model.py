"""Makes a small random Llama and two adapters of it, whose answers differ: make_model.py FOLDER. Run by a Python that has transformers."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HIDDEN, LAYERS, HEADS, WORDS, RANK = 128, 2, 2, 512, 8


def main(folder):
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=WORDS, hidden_size=HIDDEN, intermediate_size=2 * HIDDEN, num_hidden_layers=LAYERS,
                         num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1)
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    words = {f"w{i}": i for i in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="w0", eos_token="w1", unk_token="w2").save_pretrained(folder / "base")
    for name in ("one", "two"):
        tensors = {}
        for layer in range(LAYERS):
            for module in ("q_proj", "v_proj"):
                key = f"base_model.model.model.layers.{layer}.self_attn.{module}"
                tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, HIDDEN) / 4
                tensors[f"{key}.lora_B.weight"] = torch.randn(HIDDEN, RANK) / 4
        (folder / name).mkdir()
        save_file(tensors, folder / name / "adapter_model.safetensors")
        (folder / name / "adapter_config.json").write_text(json.dumps({
            "peft_type": "LORA", "base_model_name_or_path": "base", "task_type": "CAUSAL_LM", "bias": "none",
            "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj", "v_proj"]}))


main(Path(sys.argv[1]))
