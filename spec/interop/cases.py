"""What the checks share: the checkpoints that checkpoints.lua wrote, and the count of what passed.

A check is a program whose first argument is the folder of a model's checkpoints. It prints a line
for each case, and its status is 1 where one failed.
"""

import json
import sys
import traceback
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors

DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I8": np.int8,
          "U8": np.uint8, "I32": np.int32, "U32": np.uint32, "I64": np.int64,
          "F8_E4M3": ml_dtypes.float8_e4m3fn}


def read(path):
    """All tensors of a file, by the reference reader."""
    listed = safetensors.deserialize(Path(path).read_bytes())
    return {name: np.frombuffer(t["data"], DTYPES[t["dtype"]]).reshape(t["shape"])
            for name, t in listed}


def files(folder):
    return sorted(folder.glob("*.safetensors"))


def read_folder(folder):
    tensors = {}
    for path in files(folder):
        tensors.update(read(path))
    return tensors


class Case:
    def __init__(self, folder):
        self.folder, self.name, self.format = folder, folder.name, folder.parent.name
        self.config = json.loads((folder / "config.json").read_text())

    def tensors(self):
        return read_folder(self.folder)

    def torch_tensors(self):
        from safetensors.torch import load_file
        return {name: t for path in files(self.folder) for name, t in load_file(path).items()}

    def values(self):
        """rondo's own: {module path: f32}."""
        return read(self.folder.parent / (self.name + ".values.safetensors"))


def cases(root, *formats):
    for format_ in formats:
        for folder in sorted((Path(root) / format_).iterdir()):
            if folder.is_dir():
                yield Case(folder)


def equal(found, expected, what):
    """Equal numbers, all of them: the sign of a zero aside, which codes do not hold."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what}: {found.shape}, not {expected.shape}"
    if not np.array_equal(found, expected):
        off = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        at = np.unravel_index(off.argmax(), off.shape)
        raise AssertionError(f"{what}: {(off != 0).sum()} of {off.size} differ, most at {at}: "
                             f"{found[at]!r}, not {expected[at]!r}")


def near(found, expected, what):
    """Equal to two units in the last place of f32."""
    off = (np.abs(found - expected) / np.spacing(np.abs(expected))).max()
    assert off <= 2, f"{what}: off by {off} units in the last place"


def run(check, *formats):
    """check(case) for every case of the formats; ends the program."""
    root, failures = sys.argv[1], 0
    for case in cases(root, *formats):
        label = f"{Path(root).name} {case.format}/{case.name}"
        try:
            said = check(case)
            print(f"ok    {label}{': ' + said if said else ''}", flush=True)
        except Exception as problem:
            failures += 1
            print(f"FAIL  {label}: {type(problem).__name__}: {problem}", flush=True)
            if not isinstance(problem, AssertionError):
                traceback.print_exc()
    sys.exit(failures > 0)
