"""Checkpoints that other packages quantize: compressed-tensors, transformers with bitsandbytes,
AutoAWQ's packing, and for a model with a tokenizer GPTQModel.

    python foreign_torch.py MODEL OUT     OUT/FORMAT/CASE/ is a checkpoint

Beside it OUT/FORMAT/CASE.values.safetensors: what the package itself makes of it, in the type in
which it computes.
"""

import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor, ModelCompressor
from compressed_tensors.quantization import (QuantizationArgs, QuantizationConfig,
                                             QuantizationScheme, apply_quantization_config,
                                             preset_name_to_scheme)
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import check_bitsandbytes
import check_gptqmodel
from cases import Case
from sheet import paths


def save_values(folder, values):
    values = {path: value.detach().contiguous() for path, value in values.items()}
    save_file(values, folder.with_name(folder.name + ".values.safetensors"))


# ---- compressed-tensors ----

def scheme_of(name):
    """A preset, or a type of integers in groups that presets have not."""
    if not name.startswith("int"):
        return preset_name_to_scheme(name, ["Linear"])
    bits, size = name[3:].split("-g")
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(
        num_bits=int(bits), group_size=int(size.removesuffix("-asym")), strategy="group",
        symmetric=not name.endswith("asym")))


COMPRESSED = ["W4A16", "W4A16_ASYM", "W8A16", "W8A8", "FP8_DYNAMIC", "FP8_BLOCK", "NVFP4A16",
              "MXFP4A16", "MXFP8A16", "int2-g32", "int4-g32-asym", "int8-g64"]


def ranges(weight, args):
    """The least and the largest weight of each group."""
    if args.strategy == "block":
        rows, cols = args.block_structure
        weight = weight.unflatten(1, (-1, cols)).unflatten(0, (-1, rows))
        return weight.amin((1, 3)), weight.amax((1, 3))
    size = args.group_size or weight.shape[1]
    return weight.unflatten(1, (-1, size)).aminmax(dim=2)


def calibrate(module):
    """Scales by rounding alone, in the places that apply_quantization_config made."""
    args, weight = module.quantization_scheme.weights, module.weight.detach()
    factor = None
    if args.strategy == "tensor_group":
        factor = generate_gparam(*weight.aminmax())
        module.weight_global_scale.data = factor
    scale, zero = calculate_qparams(*ranges(weight, args), args, factor)
    module.weight_scale.data = scale.to(module.weight_scale.dtype)
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data = zero


def compressed_values(model):
    values = {}
    for path, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme:
            compressor = BaseCompressor.get_value_from_registry(scheme.format)
            values[path] = compressor.decompress(module.state_dict(), scheme)["weight"]
    return values


@torch.no_grad()
def write_compressed(source, folder):
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto")
    config = QuantizationConfig(config_groups={"group_0": scheme_of(folder.name)},
                                ignore=["lm_head"])
    apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "quantization_scheme"):
            calibrate(module)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(folder)
    save_values(folder, compressed_values(model))


# ---- bitsandbytes ----

BITSANDBYTES = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
                   "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "fp4-double": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4",
                   "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


def write_bitsandbytes(source, folder):
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype="auto", device_map="cpu",
        quantization_config=BitsAndBytesConfig(**BITSANDBYTES[folder.name]))
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    eight = folder.name == "int8"
    found = check_bitsandbytes.eight_bits if eight else check_bitsandbytes.four_bits
    layers = paths(tensors, "SCB" if eight else "weight.absmax")
    save_values(folder, {path: found(tensors, path) for path in layers})


# ---- AutoAWQ ----

def write_awq(source, folder):
    """Rounded by its quantizer's rule, packed by its linear layer."""
    gemm = check_gptqmodel.autoawq("modules.linear.gemm")
    tensors, size = load_file(source / "model.safetensors"), 64
    for path in paths(tensors, "weight"):
        if path.endswith("_proj"):
            tensors |= awq_layer(gemm, path, tensors.pop(path + ".weight"), size)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": size,
                                     "zero_point": True, "version": "gemm",
                                     "modules_to_not_convert": None}
    (folder / "config.json").write_text(json.dumps(config))
    save_values(folder, check_gptqmodel.by_autoawq(Case(folder)))


def awq_layer(gemm, path, weight, size):
    rows, cols = weight.shape
    low, high = weight.float().unflatten(1, (-1, size)).aminmax(dim=2)
    scales = ((high - low).clamp(min=1e-5) / 15).half()
    zeros = (-torch.round(low / scales)).clamp(0, 15)
    linear = torch.nn.Linear(cols, rows, bias=False)
    plain = weight.float().unflatten(1, (-1, size)) / scales.float()[:, :, None]
    codes = (plain.round() + zeros[:, :, None]).clamp(0, 15) - zeros[:, :, None]
    linear.weight.data = (codes * scales.float()[:, :, None]).flatten(1)
    packed = gemm.WQLinear_GEMM.from_linear(linear, 4, size, False, scales.T.contiguous(),
                                            zeros.T.contiguous())
    return {f"{path}.{part}": getattr(packed, part) for part in ("qweight", "qzeros", "scales")}


# ---- GPTQModel ----

# Not the asymmetric ones: it subtracts 1 from words of zero points, those that are 0 with them.
GPTQ = {"int4-g32": (4, 32), "int8-g128": (8, 128)}


def write_gptq(source, folder):
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.quantization.config import RTNConfig
    bits, size = GPTQ[folder.name]
    config = RTNConfig(bits=bits, group_size=size, device="cpu")
    model = GPTQModel.load(str(source), config, dtype=torch.float16)
    model.quantize(None, backend=BACKEND.TORCH)
    model.save(str(folder))
    values = check_gptqmodel.by_files(Case(folder))
    layers = paths(Case(folder).torch_tensors(), "qweight")
    save_values(folder, {path: values[path] for path in layers})


WRITERS = {"compressed-tensors": (COMPRESSED, write_compressed), "awq": (["int4-g64"], write_awq),
           "bitsandbytes": (BITSANDBYTES, write_bitsandbytes), "gptq": (GPTQ, write_gptq)}

if __name__ == "__main__":
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    for format_, (cases, write) in WRITERS.items():
        if format_ == "gptq" and not (source / "tokenizer.json").exists():
            continue
        for case in cases:
            write(source, out / format_ / case)
