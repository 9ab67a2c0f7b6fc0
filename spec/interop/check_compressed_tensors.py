"""compressed-tensors: its schema takes the configuration, its matching finds each layer's group,
its decompressors give rondo's values, rounded to the type in which they compute.

    python check_compressed_tensors.py CHECKPOINTS
"""

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.utils.match import is_match

from cases import equal, run


def group_of(config, path):
    """The one group whose targets match a linear layer of that path."""
    module = torch.nn.Linear(1, 1)
    groups = [group for group in config.config_groups.values()
              if any(is_match(path, module, target, config.ignore) for target in group.targets)]
    assert len(groups) == 1, f"{len(groups)} groups for {path}"
    return groups[0]


def decompress(config, tensors, path):
    group = group_of(config, path)
    state = {name.removeprefix(path + "."): t for name, t in tensors.items()
             if name.startswith(path + ".weight")}
    compressor = BaseCompressor.get_value_from_registry(group.format or config.format)
    return compressor.decompress(state, group)["weight"]


def check_ignored(config, tensors, quantized):
    """What is not quantized is in no group: linear layers all the same."""
    module = torch.nn.Linear(1, 1)
    for name in tensors:
        path = name.removesuffix(".weight")
        if path == "lm_head" or path.endswith("_proj") and path not in quantized:
            assert not any(is_match(path, module, target, config.ignore)
                           for group in config.config_groups.values() for target in group.targets)


def check(case):
    config = QuantizationConfig.model_validate(case.config["quantization_config"])
    tensors = case.torch_tensors()
    own, dtypes = case.values(), set()
    for path, value in own.items():
        found = decompress(config, tensors, path)
        dtypes.add(str(found.dtype).removeprefix("torch."))
        expected = torch.from_numpy(value.copy()).to(found.dtype)
        equal(found.float(), expected.float(), path)
    check_ignored(config, tensors, own)
    return f"{len(own)} layers, equal in {', '.join(dtypes)}"


if __name__ == "__main__":
    run(check, "compressed-tensors")
