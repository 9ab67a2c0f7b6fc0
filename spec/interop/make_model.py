"""Small models of random weights, so that a checkout alone has something to check.

    python make_model.py OUT        # OUT/f32, OUT/f16, OUT/bf16: a Llama, its weights rounded so
                                    # OUT/experts: a Qwen3-MoE in bf16
                                    # OUT/stacked: the same, as mlx-lm stores it

All dimensions are multiples of 128, so that every format has a place for every layer; attention of
the Llama has biases; lm_head is its own. Some rows are what is hard on encoders: all zeros, zeros
in a group, an outlier, one sign, values so small that scales are subnormal in f16.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, EXPERTS, VOCAB = 256, 384, 2, 4, 2, 4, 512
HEAD = HIDDEN // HEADS


def hard_rows(weight):
    weight[0] = 0
    weight[1, :128] = 0
    weight[2, 5] = 40
    weight[3] = np.abs(weight[3]) + 0.01
    weight[4] = -np.abs(weight[4]) - 0.01
    weight[5] *= 1e-5
    return weight


def attention(path):
    kv = KV_HEADS * HEAD
    for name, rows in ("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN):
        yield f"{path}{name}_proj.weight", (rows, HIDDEN)


def feed_forward(path):
    yield f"{path}gate_proj.weight", (INNER, HIDDEN)
    yield f"{path}up_proj.weight", (INNER, HIDDEN)
    yield f"{path}down_proj.weight", (HIDDEN, INNER)


def llama_block(path):
    for name, shape in attention(path + "self_attn."):
        yield name, shape
        yield name.replace("weight", "bias"), shape[:1]
    yield from feed_forward(path + "mlp.")


def experts_block(path):
    yield from attention(path + "self_attn.")
    yield path + "self_attn.q_norm.weight", (HEAD,)
    yield path + "self_attn.k_norm.weight", (HEAD,)
    yield path + "mlp.gate.weight", (EXPERTS, HIDDEN)
    for expert in range(EXPERTS):
        yield from feed_forward(f"{path}mlp.experts.{expert}.")


def shapes(block):
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for i in range(LAYERS):
        path = f"model.layers.{i}."
        yield from block(path)
        yield f"{path}input_layernorm.weight", (HIDDEN,)
        yield f"{path}post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def weights(block):
    random, tensors = np.random.default_rng(1), {}
    for name, shape in shapes(block):
        value = random.standard_normal(shape) * 0.05
        if "norm" in name:
            value = 1 + value
        if name.endswith("_proj.weight"):
            value = hard_rows(value)
        tensors[name] = value.astype(np.float32)
    return tensors


def to_bf16(value):
    """Half to even; safetensors takes ml_dtypes for bf16, so that its header is written by hand."""
    bits = value.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def save_bf16(tensors, path):
    header, at, data = {"__metadata__": {"format": "pt"}}, 0, []
    for name in sorted(tensors):
        bits = to_bf16(tensors[name])
        header[name] = {"dtype": "BF16", "shape": list(bits.shape),
                        "data_offsets": [at, at + bits.nbytes]}
        at += bits.nbytes
        data.append(bits.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": VOCAB, "hidden_act": "silu",
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "attention_bias": True, "mlp_bias": False, "tie_word_embeddings": False, "bos_token_id": 1,
    "eos_token_id": 2,
}

QWEN3_MOE = LLAMA | {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "attention_bias": False,
    "moe_intermediate_size": INNER, "num_experts": EXPERTS, "num_experts_per_tok": 2,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
}


def save_model(folder, config, tensors, dtype):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": dtype}, indent=2))
    if dtype == "bfloat16":
        save_bf16(tensors, folder / "model.safetensors")
    else:
        save_file({name: value.astype(dtype) for name, value in tensors.items()},
                  folder / "model.safetensors", metadata={"format": "pt"})


def stacked(tensors):
    """The experts' tensors in one for each projection."""
    rest = {name: value for name, value in tensors.items() if ".experts." not in name}
    for name in tensors:
        if ".experts.0." in name:
            parts = [name.replace("experts.0", f"experts.{i}") for i in range(EXPERTS)]
            rest[name.replace("experts.0", "switch_mlp")] = np.stack([tensors[p] for p in parts])
    return rest


def main(out):
    llama = weights(llama_block)
    for name, dtype in ("f32", "float32"), ("f16", "float16"), ("bf16", "bfloat16"):
        save_model(out / name, LLAMA, llama, dtype)
    experts = weights(experts_block)
    save_model(out / "experts", QWEN3_MOE, experts, "bfloat16")
    save_model(out / "stacked", QWEN3_MOE, stacked(experts), "bfloat16")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
