"""transformers: loads checkpoints as models and computes what the source does with rondo's values
as its weights: the same logits, and on text the same perplexity.

    python check_transformers.py CHECKPOINTS MODEL [TOKENS]

TOKENS: u16 token ids; without it, random ones stand for text. 8 windows of 256 tokens. Where
weights are unpacked on loading, logits are equal (bitsandbytes' fp4: but for a few weights that
round to bf16 otherwise). Where activations are quantized, too, or weights stay packed, the
perplexity is within 1 %, and logits are near.
"""

import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cases import run

WINDOW, WINDOWS = 256, 8
MODEL = Path(sys.argv[2])
PACKED = ("gptq", "gptq-v2", "awq")
MICROSCALED = ("mxfp4", "mxfp8", "nvfp4")


@cache
def tokens():
    count = WINDOW * WINDOWS + 1
    if len(sys.argv) > 3:
        ids = np.fromfile(sys.argv[3], "<u2", count)
    else:
        ids = np.random.default_rng(2).integers(3, 500, count)
    return torch.from_numpy(ids.astype(np.int64))


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


@torch.no_grad()
def evaluate(model):
    """Logits [windows, positions, vocabulary] in f32, and the perplexity of what comes next."""
    ids = tokens()
    logits = model(ids[:-1].reshape(WINDOWS, WINDOW)).logits.float()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:])
    return logits, loss.exp().item()


def with_values(values):
    """The source, with rondo's values in place of its weights, in their type."""
    with tempfile.TemporaryDirectory() as folder:
        tensors = load_file(MODEL / "model.safetensors")
        for path, value in values.items():
            name = path + ".weight"
            tensors[name] = torch.from_numpy(value.copy()).to(tensors[name].dtype)
        save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        shutil.copy(MODEL / "config.json", folder)
        return load(folder)


def quantizes_activations(config):
    said = config.get("quantization_config", {})
    groups = said.get("config_groups", {}).values()
    return said.get("load_in_8bit") or any(group.get("input_activations") for group in groups)


def unreadable_experts(case):
    """transformers stacks experts while it loads them."""
    if case.format == "bitsandbytes" or case.format in PACKED:
        return "transformers does not stack such experts"
    if case.name in ("fp8-block", "int8", "mxfp8"):
        return "transformers fails to stack such experts"
    if case.name == "nvfp4":
        return "transformers stacks such experts and gets other values"


def unreadable(case):
    """What these versions cannot load, whoever wrote it."""
    if "num_experts" in case.config and unreadable_experts(case):
        return unreadable_experts(case)
    if case.format in PACKED and "row" in case.name:
        return "the kernel for the CPU has groups of 32 to 256"
    if case.format in PACKED and case.name == "mixed":
        return "optimum has one number of bits for all layers"
    if case.format == "fp8" and case.config["intermediate_size"] % 128 != 0:
        return "transformers takes blocks for equal parts of a layer"
    if case.format == "compressed-tensors" and case.name.endswith("asym"):
        return "compressed-tensors wants zero points of packed layers unpacked while it loads"
    if case.name in MICROSCALED and case.config["torch_dtype"] != "bfloat16":
        return "compressed-tensors unpacks it to bf16, whatever the model's type"


def check(case):
    reason = unreadable(case)
    if reason:
        return f"not tried: {reason}"
    logits, found = evaluate(load(case.folder))
    expected_logits, expected = evaluate(with_values(case.values()))
    off = ((logits - expected_logits).norm() / expected_logits.norm()).item()
    said = f"perplexity {found:.6f}, predicted {expected:.6f}, logits off by {off:.1e}"
    if case.format in PACKED or quantizes_activations(case.config):
        assert abs(found / expected - 1) < 0.01 and off < 0.4, said
    else:
        assert off < (1e-3 if case.name.startswith("fp4") else 1e-6), said
    return said


if __name__ == "__main__":
    print(f"      {MODEL}: perplexity {evaluate(load(MODEL))[1]:.6f}")
    run(check, "fake", "compressed-tensors", "bitsandbytes", "fp8", "gptq", "gptq-v2", "awq")
