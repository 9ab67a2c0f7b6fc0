"""Checkpoints that mlx-lm quantizes, as its own conversion does it.

    python foreign_mlx.py MODEL OUT     OUT/mlx/CASE/ is a checkpoint

Beside it OUT/mlx/CASE.values.safetensors: what mlx makes of it, with scales widened to f32.
"""

import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from check_mlx import dequantize

mx.set_default_device(mx.cpu)

CASES = {f"int{bits}-g{size}": {"bits": bits, "group_size": size}
         for bits, size in ((2, 32), (3, 64), (4, 32), (4, 64), (5, 32), (6, 64), (8, 32))}
CASES |= {mode: {"bits": None, "group_size": None, "mode": mode}
          for mode in ("mxfp4", "mxfp8", "nvfp4")}


def mixed(path, module):
    """Some layers otherwise than the rest, some not at all."""
    if path.endswith("o_proj"):
        return {"bits": 8, "group_size": 32, "mode": "affine"}
    return not path.endswith("lm_head") or {"bits": 6, "group_size": 64, "mode": "affine"}


CASES["mixed"] = CASES["int4-g64"] | {"quant_predicate": mixed}


def write(source, out, case):
    model, config = load_model(source)
    model, config = quantize_model(model, config, **CASES[case])
    save_model(out / case, model)
    save_config(config, out / case / "config.json")
    values = {path: dequantize(module) for path, module in model.named_modules()
              if "scales" in module}
    mx.save_safetensors(str(out / (case + ".values.safetensors")), values)


if __name__ == "__main__":
    for case in CASES:
        write(Path(sys.argv[1]), Path(sys.argv[2]) / "mlx", case)
