"""Named arrays: the only form in which learned numbers cross a wire or reach a disk. Reads no pickles."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from torch import nn

Arrays = dict[str, NDArray[np.float32]]


def trainable(module: nn.Module) -> Arrays:
    """Copy the trainable parameters of `module`, in the order of `named_parameters`."""
    return {n: p.detach().cpu().numpy().astype(np.float32) for n, p in module.named_parameters() if p.requires_grad}


def state(module: nn.Module) -> Arrays:
    """Copy every parameter and buffer of `module`."""
    return {n: t.detach().cpu().numpy().astype(np.float32) for n, t in module.state_dict().items()}


def load(module: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put `arrays` into the trainable parameters of `module`.

    Law: `load(m, trainable(m))` changes nothing.

    Raises:
        ValueError: if a name is missing or foreign, a shape differs, or a value is not finite.
    """
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
    _check(arrays, {n: tuple(p.shape) for n, p in parameters.items()})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.array(arrays[name], np.float32)))


def load_frozen(module: nn.Module, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Put `arrays` into whatever of `module` is not trained: all of it or, where `arrays` is empty, nothing."""
    if not arrays:
        return
    _check(arrays, {n: a.shape for n, a in frozen(module).items()})
    module.load_state_dict({n: torch.from_numpy(np.array(a, np.float32)) for n, a in arrays.items()}, strict=False)


def frozen(module: nn.Module) -> Arrays:
    """Copy whatever of `module` is not trained, which `load_frozen` puts back."""
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    return {n: a for n, a in state(module).items() if n not in trained}


def load_state(module: nn.Module, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Put `arrays` into every parameter and buffer of `module`; raises as `load` does."""
    own = module.state_dict()
    _check(arrays, {n: tuple(t.shape) for n, t in own.items()})
    module.load_state_dict({n: torch.from_numpy(np.asarray(a).astype(np.float32)) for n, a in arrays.items()})


def digest(arrays: Mapping[str, NDArray[np.floating]]) -> str:
    """Return the SHA-256 of names, shapes and bytes, independent of the order of insertion."""
    h = hashlib.sha256()
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        h.update(f"{name}:{a.dtype.str}:{a.shape};".encode())
        h.update(a.tobytes())
    return h.hexdigest()


def write(path: Path, arrays: Mapping[str, NDArray[np.floating]]) -> None:
    """Write `arrays` as safetensors, atomically: a reader sees the old file or the new one, never half of one."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as f:
        f.write(save({n: np.ascontiguousarray(a) for n, a in arrays.items()}))
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def read(path: Path) -> dict[str, NDArray[np.floating]]:
    """Read what `write` wrote; raises `ValueError` naming the file where it is not safetensors."""
    try:
        return dict(load_file(path))
    except Exception as e:  # safetensors raises its own SafetensorError, which derives from Exception only
        raise ValueError(f"{path} holds no readable safetensors: {e}") from e


def _check(arrays: Mapping[str, NDArray[np.floating]], expected: Mapping[str, tuple[int, ...]]) -> None:
    if missing := sorted(expected.keys() - arrays.keys()):
        raise ValueError(f"arrays lack {missing[:3]} ({len(missing)} of {len(expected)} names)")
    if foreign := sorted(arrays.keys() - expected.keys()):
        raise ValueError(f"arrays hold foreign names {foreign[:3]} ({len(foreign)})")
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"array {name!r} has shape {arrays[name].shape}, the module wants {shape}")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"array {name!r} holds a value that is not finite")
