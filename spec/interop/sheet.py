"""The smallest decoders of every format: numpy, written from the formats' descriptions alone.

DECODERS[format](tensors, config) gives {module path: f32 weight [out, in]}. Arithmetic is f32, one
rounding for each operation.
"""

import numpy as np


def fields(words, bits, count):
    """A stream of `count` unsigned fields in each row of words, the lowest bits of a word first."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    stream = stream[:, : bits * count].reshape(len(words), count, bits)
    return (stream.astype(np.int32) << np.arange(bits)).sum(axis=2, dtype=np.int32)


def spread(numbers, shape, block=None):
    """Numbers by group, or by block, for each weight of a matrix."""
    rows, cols = block or (n // m for n, m in zip(shape, numbers.shape))
    assert (-(-shape[0] // rows), -(-shape[1] // cols)) == numbers.shape
    return np.repeat(np.repeat(numbers, rows, 0), cols, 1)[: shape[0], : shape[1]]


def scaled(values, scales, block=None):
    return values.astype(np.float32) * spread(scales.astype(np.float32), values.shape, block)


def paths(tensors, part):
    return [name[: -len(part) - 1] for name in tensors if name.endswith("." + part)]


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def e2m1(packed):
    return E2M1[fields(packed, 4, 2 * packed.shape[1])]


def e8m0(bits):
    return np.ldexp(np.float32(1), bits.astype(np.int32) - 127)


# ---- compressed-tensors ----

def compressed_group(config, path):
    """What the configuration says of a layer: exactly one group takes it."""
    quantization = config["quantization_config"]
    assert path not in quantization["ignore"], f"{path} is to be ignored"
    groups = [group for group in quantization["config_groups"].values()
              if path in group["targets"] or group["targets"] == ["Linear"]]
    assert len(groups) == 1, f"{len(groups)} groups for {path}"
    return groups[0].get("format", quantization["format"]), groups[0]["weights"]


def compressed_layer(of, form, said):
    scale = of("weight_scale")
    if form == "pack-quantized":
        bits, shape = said["num_bits"], of("weight_shape")
        codes = fields(of("weight_packed"), bits, shape[1])
        if said["symmetric"]:
            return scaled(codes - (1 << bits - 1), scale)
        zeros = fields(of("weight_zero_point").T, bits, shape[0]).T
        return scaled(codes - spread(zeros, codes.shape), scale)
    if form == "nvfp4-pack-quantized":
        return scaled(e2m1(of("weight_packed")),
                      scale.astype(np.float32) / of("weight_global_scale"))
    if form == "mxfp4-pack-quantized":
        return scaled(e2m1(of("weight_packed")), e8m0(scale))
    if form == "mxfp8-quantized":
        return scaled(of("weight"), e8m0(scale))
    assert form in ("int-quantized", "float-quantized"), form
    return scaled(of("weight"), scale.reshape(-1, scale.shape[-1]), said.get("block_structure"))


def compressed(tensors, config):
    return {path: compressed_layer(lambda part: tensors[f"{path}.{part}"],
                                   *compressed_group(config, path))
            for path in paths(tensors, "weight_scale")}


# ---- GPTQ, AWQ ----

def gptq(tensors, config):
    said, values = config["quantization_config"], {}
    add = {"gptq": 1, "gptq_v2": 0}[said["checkpoint_format"]]
    for path in paths(tensors, "qweight"):
        words, scales = tensors[path + ".qweight"], tensors[path + ".scales"].astype(np.float32)
        group = tensors[path + ".g_idx"]
        bits = 32 * len(words) // len(group)
        zeros = fields(tensors[path + ".qzeros"], bits, words.shape[1]) + add
        codes = fields(words.T, bits, len(group))
        values[path] = (codes - zeros[group].T).astype(np.float32) * scales[group].T
    return values


def awq_fields(words):
    """Output 8c + i stands in field (0, 4, 1, 5, 2, 6, 3, 7)[i] of word c."""
    codes = fields(words, 4, 8 * words.shape[1]).reshape(len(words), -1, 8)
    return codes[:, :, [0, 4, 1, 5, 2, 6, 3, 7]].reshape(len(words), -1).T


def awq(tensors, config):
    said, values = config["quantization_config"], {}
    assert said["bits"] == 4 and said["zero_point"] and said["version"] == "gemm"
    for path in paths(tensors, "qweight"):
        codes = awq_fields(tensors[path + ".qweight"])
        zeros = awq_fields(tensors[path + ".qzeros"])
        values[path] = scaled(codes - spread(zeros, codes.shape), tensors[path + ".scales"].T)
    return values


# ---- MLX ----

def mlx_layer(tensors, path, said):
    bits, size, mode = said["bits"], said["group_size"], said.get("mode", "affine")
    words, scales = tensors[path + ".weight"], tensors[path + ".scales"]
    cols = words.shape[1] * 32 // bits
    assert cols == size * scales.shape[1], path
    codes = fields(words, bits, cols)
    if mode == "affine":
        biases = tensors[path + ".biases"].astype(np.float32)
        return scaled(codes, scales) + spread(biases, codes.shape)
    import ml_dtypes
    if mode == "nvfp4":
        return scaled(E2M1[codes], scales.view(ml_dtypes.float8_e4m3fn))
    if mode == "mxfp4":
        return scaled(E2M1[codes], e8m0(scales))
    assert mode == "mxfp8", mode
    return scaled(codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn), e8m0(scales))


def mlx(tensors, config):
    said = config["quantization"]
    assert said == config["quantization_config"]
    return {path: mlx_layer(tensors, path, said.get(path, said))
            for path in paths(tensors, "scales")}


# ---- bitsandbytes ----

def bitsandbytes_absmax(tensors, weight, state):
    absmax = tensors[weight + ".absmax"]
    if "nested_blocksize" not in state:
        return absmax
    block = np.arange(len(absmax)) // state["nested_blocksize"]
    map_ = tensors[weight + ".nested_quant_map"]
    return map_[absmax] * tensors[weight + ".nested_absmax"][block] + np.float32(
        state["nested_offset"])


def bitsandbytes_layer(tensors, weight, kind):
    import json
    state = json.loads(tensors[f"{weight}.quant_state.bitsandbytes__{kind}"].tobytes())
    assert state["quant_type"] == kind
    packed = tensors[weight].reshape(-1)
    codes = np.stack([packed >> 4, packed & 15], 1).reshape(-1)
    absmax = bitsandbytes_absmax(tensors, weight, state)
    values = tensors[weight + ".quant_map"][codes]
    return (values * np.repeat(absmax, state["blocksize"])).reshape(state["shape"])


def bitsandbytes(tensors, config):
    said, values = config["quantization_config"], {}
    if said["load_in_8bit"]:
        for path in paths(tensors, "SCB"):
            scale = tensors[path + ".SCB"] / np.float32(127)
            values[path] = scaled(tensors[path + ".weight"], scale[:, None])
    kind = said["bnb_4bit_quant_type"]
    for weight in paths(tensors, "quant_state.bitsandbytes__" + kind):
        values[weight.removesuffix(".weight")] = bitsandbytes_layer(tensors, weight, kind)
    return values


# ---- 8-bit floats in blocks, ModelOpt ----

def fp8(tensors, config):
    assert config["quantization_config"]["weight_block_size"] == [128, 128]
    return {path: scaled(tensors[path + ".weight"], tensors[path + ".weight_scale_inv"],
                         (128, 128))
            for path in paths(tensors, "weight_scale_inv")}


def modelopt(tensors, config):
    assert config["quantization_config"]["quant_algo"] == "W4A16_NVFP4"
    return {path: scaled(e2m1(tensors[path + ".weight"]),
                         tensors[path + ".weight_scale"].astype(np.float32)
                         * tensors[path + ".weight_scale_2"])
            for path in paths(tensors, "weight_scale_2")}


DECODERS = {"compressed-tensors": compressed, "gptq": gptq, "gptq-v2": gptq, "awq": awq, "mlx": mlx,
            "bitsandbytes": bitsandbytes, "fp8": fp8, "modelopt": modelopt}
