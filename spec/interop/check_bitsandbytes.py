"""bitsandbytes: its quantization states load, its dequantization on the CPU gives rondo's values.

    python check_bitsandbytes.py CHECKPOINTS

nf4 bit for bit; fp4 and int8 to two units in the last place of f32, because rondo multiplies the
codes by absmax / 12 (or 127), and bitsandbytes absmax by the codes over 12 (or 127).
"""

import bitsandbytes.functional as functional
import torch

from cases import equal, near, run


def four_bits(tensors, path):
    """In the type of the state; the state itself in f32, to see all of its values."""
    weight, part = tensors[path + ".weight"], path + ".weight."
    stats = {name.removeprefix(path + "."): t for name, t in tensors.items()
             if name.startswith(part)}
    state = functional.QuantState.from_dict(stats, torch.device("cpu"))
    state.dtype = torch.float32
    return functional.dequantize_4bit(weight, state)


def eight_bits(tensors, path):
    assert tensors[path + ".weight_format"].item() == 0  # rows
    return functional.int8_vectorwise_dequant(tensors[path + ".weight"], tensors[path + ".SCB"])


def check(case):
    tensors, own = case.torch_tensors(), case.values()
    said = case.config["quantization_config"]
    found = eight_bits if said["load_in_8bit"] else four_bits
    compare = equal if said["load_in_4bit"] and said["bnb_4bit_quant_type"] == "nf4" else near
    for path, value in own.items():
        compare(found(tensors, path).numpy(), value, path)
    return f"{len(own)} layers"


if __name__ == "__main__":
    run(check, "bitsandbytes")
