"""mlx and mlx-lm on the CPU: mlx's dequantization gives rondo's values, mlx-lm loads the model,
computes what the source does with rondo's values as its weights, and generates.

    python check_mlx.py CHECKPOINTS MODEL [TOKENS]

Values are equal bit for bit, with scales widened to f32; logits to the rounding of sums, with all
that is float in the model widened to f32.
"""

import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm import generate
from mlx_lm.generate import generate_step
from mlx_lm.utils import load, load_model

from cases import equal, run

mx.set_default_device(mx.cpu)
MODEL = Path(sys.argv[2])


WINDOW, WINDOWS = 256, 8


def tokens():
    """Those of check_transformers; without text, one window of random ones."""
    if len(sys.argv) > 3:
        ids = np.fromfile(sys.argv[3], "<u2", WINDOW * WINDOWS + 1)
    else:
        ids = np.random.default_rng(2).integers(3, 500, WINDOW + 1)
    return mx.array(ids.astype(np.int32))


def dequantize(module):
    wide = {name: module[name].astype(mx.float32) if module.mode == "affine" else module[name]
            for name in ("scales", "biases") if name in module}
    return mx.dequantize(module.weight, wide["scales"], wide.get("biases"), module.group_size,
                         module.bits, module.mode, dtype=mx.float32)


def check_values(model, own):
    modules = {path: module for path, module in model.named_modules() if "scales" in module}
    assert sorted(modules) == sorted(own), f"other layers: {set(modules) ^ set(own)}"
    for path, module in modules.items():
        equal(np.array(dequantize(module)), own[path], path)


def with_values(own):
    """The source, with rondo's values in place of its weights."""
    model, _ = load_model(MODEL)
    model.load_weights([(path + ".weight", mx.array(value)) for path, value in own.items()],
                       strict=False)
    return model


def logits(model):
    model.set_dtype(mx.float32)
    return model(tokens()[:-1].reshape(-1, WINDOW))


def perplexity(logits):
    loss = nn.losses.cross_entropy(logits.flatten(0, 1), tokens()[1:], reduction="mean")
    return mx.exp(loss).item()


def check_logits(model, own):
    found, expected = logits(model), logits(with_values(own))
    off = (mx.linalg.norm(found - expected) / mx.linalg.norm(expected)).item()
    said = f"perplexity {perplexity(found):.6f}, predicted {perplexity(expected):.6f}, " \
        f"logits off by {off:.1e}"
    assert off < 1e-3, said
    return said


def generated(folder):
    """Text, or of a model without a tokenizer its next tokens."""
    if (folder / "tokenizer.json").exists():
        return generate(*load(str(folder)), prompt="Once upon a time", max_tokens=16)
    model, _ = load_model(folder)
    model.set_dtype(mx.float32)  # of experts, the CPU multiplies no others
    return [int(token) for token, _ in generate_step(tokens()[:8], model, max_tokens=4)]


def check(case):
    model, _ = load_model(case.folder)
    own = case.values()
    check_values(model, own)
    return f"{len(own)} layers, {check_logits(model, own)}; {generated(case.folder)!r}"


if __name__ == "__main__":
    print(f"      {MODEL}: perplexity {perplexity(logits(load_model(MODEL)[0])):.6f}")
    run(check, "mlx")
