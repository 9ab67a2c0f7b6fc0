"""What rondo makes of checkpoints that other packages quantized (foreign_mlx.py, foreign_torch.py).

    python check_foreign.py CHECKPOINTS MODEL RONDO

`rondo.open` gives the package's own dequantized values, bit for bit, rounded to the type in which
the package computes (bitsandbytes' fp4 and int8 to two units in the last place of f32). RONDO, the
command, inspects the checkpoint, verifies it against MODEL, and quantizes it into another format,
which it verifies against the checkpoint.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from cases import equal, near, read, run

MODEL, RONDO = sys.argv[2:4]

# Another format for each, with a scheme of its own.
OTHERS = {
    "mlx": ["compressed-tensors", "--bits", "4", "--group-size", "32", "--scheme", "sym"],
    "compressed-tensors": ["mlx", "--bits", "4", "--group-size", "64"],
    "bitsandbytes": ["gptq", "--bits", "8", "--group-size", "64", "--scheme", "sym"],
    "awq": ["compressed-tensors", "--dtype", "nvfp4"],
    "gptq": ["bitsandbytes", "--dtype", "nf4", "--group-size", "64"],
}


def said_by(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout


def values_of(case, scratch):
    path = scratch / "values.safetensors"
    said_by("lua5.4", Path(__file__).with_name("values.lua"), case.folder, path)
    return read(path)


def check_values(case, scratch):
    found, expected = values_of(case, scratch), case.values()
    assert sorted(found) == sorted(expected), f"other layers: {found.keys() ^ expected.keys()}"
    exact = case.format != "bitsandbytes" or case.name.startswith("nf4")
    compare = equal if exact else near
    for path, value in expected.items():
        compare(found[path].astype(value.dtype), value, path)
    return len(found)


def convert(case, scratch):
    made = scratch / "made"
    said_by(RONDO, "quantize", case.folder, made, "--format", *OTHERS[case.format],
            "--fallback", "keep")
    said_by(RONDO, "verify", case.folder, made)


def check(case):
    with tempfile.TemporaryDirectory() as folder:
        layers = check_values(case, Path(folder))
        said_by(RONDO, "inspect", case.folder)
        said_by(RONDO, "verify", MODEL, case.folder)
        convert(case, Path(folder))
    return f"{layers} layers"


if __name__ == "__main__":
    run(check, *(name for name in OTHERS if (Path(sys.argv[1]) / name).is_dir()))
