"""GPTQModel: its file dequantizer gives rondo's values, bit for bit in f32; the layers that it
loads give them rounded to f16. AutoAWQ's unpacking gives them in f32.

    python check_gptqmodel.py CHECKPOINTS
"""

import importlib
import importlib.util
import sys
import tempfile
from pathlib import Path

import torch
from gptqmodel import BACKEND, GPTQModel
from gptqmodel.utils.model_dequant import dequantize_model
from safetensors.torch import load_file

from cases import equal, run
from sheet import paths


def autoawq(name):
    """A module of AutoAWQ, whose head wants an old transformers and is left out."""
    spec = importlib.util.find_spec("awq")
    sys.modules.setdefault("awq", importlib.util.module_from_spec(spec))
    return importlib.import_module("awq." + name)


def by_autoawq(case):
    dequantize, values = autoawq("utils.packing_utils").dequantize_gemm, {}
    tensors = case.torch_tensors()
    for path in paths(tensors, "qweight"):
        words, scales = tensors[path + ".qweight"], tensors[path + ".scales"].float()
        size = len(words) // len(scales)
        values[path] = dequantize(words, tensors[path + ".qzeros"], scales, 4, size).T
    return values


def by_files(case):
    with tempfile.TemporaryDirectory() as out:
        dequantize_model(case.folder, Path(out) / "model", target_dtype=torch.float32)
        tensors = load_file(Path(out) / "model" / "model.safetensors")
        return {name.removesuffix(".weight"): t for name, t in tensors.items()}


def by_layers(case):
    """Its file dequantizer has one number of bits for all; loading knows `dynamic`."""
    model = GPTQModel.load(str(case.folder), device="cpu", backend=BACKEND.TORCH,
                           dtype=torch.float16)
    values = {}
    for path, module in model.model.named_modules():
        if hasattr(module, "qweight"):
            values[path] = module.dequantize_weight().T
    return values


def check(case):
    how = by_autoawq if case.format == "awq" else by_layers if case.name == "mixed" else by_files
    if how == by_layers and not (case.folder / "tokenizer.json").exists():
        return "not tried: GPTQModel loads no model without a tokenizer"
    found, own = how(case), case.values()
    for path, value in own.items():
        expected = torch.from_numpy(value.copy()).to(found[path].dtype)
        equal(found[path].float(), expected.float(), path)
    return f"{len(own)} layers, {how.__name__.replace('_', ' ')}"


if __name__ == "__main__":
    run(check, "gptq", "gptq-v2", "awq", "fp8", "modelopt")
