"""Read a checkpoint's tensors by name: safetensors, its sharded form, torch files, state dicts."""

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from fanin.errors import CheckpointError

Source = str | PathLike[str] | Mapping[str, Any]

WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
"""Keys under which training scripts put the state dict, most telling first."""

_FOLDER_FILES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, read when asked for."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """Tensor name -> tensor, where it came from, and what was done to find them."""

    where: str
    tensors: Mapping[str, StoredTensor]
    notes: tuple[str, ...] = field(default=())


def read_checkpoint(source: Source) -> Checkpoint:
    """Open a checkpoint.

    Args:
        source: a ``.safetensors`` file, the ``.index.json`` of a sharded one, a ``.pt``, ``.pth``
            or ``.bin`` file (read with ``weights_only=True``, so that it can run no code), a
            folder that transformers saved, or a state dict.

    Raises:
        CheckpointError: it cannot be read, is broken, or holds no tensors.
    """
    if isinstance(source, Mapping):
        return _from_mapping(source, "the state dict given")
    try:
        path = Path(fspath(source))
    except TypeError as error:
        raise CheckpointError(
            f"checkpoint is a {type(source).__name__}. Give a path or a state dict."
        ) from error
    if path.is_dir():
        path = _in_folder(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint file {str(path)!r}. Check the path.")
    if path.name.endswith(".json"):
        return _sharded(path)
    if path.suffix == ".safetensors":
        return Checkpoint(str(path), _safetensors(path))
    if path.suffix in {".pt", ".pth", ".bin", ".ckpt"}:
        return _from_mapping(_torch_file(path), str(path))
    raise CheckpointError(
        f"{str(path)!r}: fanin reads .safetensors, .safetensors.index.json, .pt, .pth, .bin and "
        ".ckpt files. Save the state dict as one of them."
    )


def _in_folder(folder: Path) -> Path:
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            return folder / name
    names = ", ".join(_FOLDER_FILES)
    raise CheckpointError(f"the folder {str(folder)!r} holds none of {names}. Name the file.")


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    from safetensors import SafetensorError, safe_open

    def reader(name: str) -> Callable[[], torch.Tensor]:
        def read() -> torch.Tensor:
            try:
                with safe_open(str(path), framework="pt") as opened:
                    tensor: torch.Tensor = opened.get_tensor(name)
                    return tensor
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path}: {name!r} cannot be read: {error}.") from error

        return read

    try:
        with safe_open(str(path), framework="pt") as opened:
            found = {}
            for name in opened.keys():  # noqa: SIM118 (it is no dict)
                part = opened.get_slice(name)
                kind = _SAFETENSORS_DTYPES.get(part.get_dtype())
                if kind is None:
                    kind = opened.get_tensor(name).dtype
                found[name] = StoredTensor(tuple(part.get_shape()), kind, reader(name))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a whole safetensors file: {error}. Copy or download it again."
        ) from error
    if not found:
        raise CheckpointError(f"{str(path)!r} holds no tensors.")
    return found


_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def _sharded(path: Path) -> Checkpoint:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = {str(name): path.parent / str(file) for name, file in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not the index of a sharded checkpoint: it has no 'weight_map'."
        ) from error
    tensors: dict[str, StoredTensor] = {}
    opened: dict[Path, Mapping[str, StoredTensor]] = {}
    for name, file in shards.items():
        if file not in opened:
            if not file.is_file():
                raise CheckpointError(f"{str(path)!r} names {file.name!r}, which is not beside it.")
            opened[file] = (
                _safetensors(file)
                if file.suffix == ".safetensors"
                else _from_mapping(_torch_file(file), str(file)).tensors
            )
        if name not in opened[file]:
            raise CheckpointError(f"{str(file)!r} lacks {name!r}, which the index puts there.")
        tensors[name] = opened[file][name]
    return Checkpoint(str(path), tensors)


def _torch_file(path: Path) -> Mapping[str, Any]:
    try:
        # mmap: pages are read as tensors are copied, so the file is not held twice.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{str(path)!r} is broken, or holds more than tensors and could run code when read. "
            "Save model.state_dict() with torch.save, or use safetensors."
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{str(path)!r} is not a whole torch file: {first}. Copy or download it again."
        ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(
            f"{str(path)!r} holds a {type(loaded).__name__}. Save model.state_dict()."
        )
    return loaded


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _from_mapping(data: Mapping[Any, Any], where: str) -> Checkpoint:
    """The state dict in ``data``, which may lie under one of the usual keys."""
    path: list[str] = []
    while True:
        tensors = {str(k): v for k, v in data.items() if isinstance(v, torch.Tensor)}
        inner = {str(k): v for k, v in data.items() if isinstance(v, Mapping) and _has_tensors(v)}
        if tensors:
            break
        named = [key for key in WRAPPERS if key in inner]
        keys = named or list(inner)
        if len(keys) != 1 and not (named and named[0] in {"state_dict", "model_state_dict"}):
            found = ", ".join(sorted(inner)) or "no tensors"
            raise CheckpointError(
                f"{where} holds {found}, and which of them is the model is not clear. "
                "Load it yourself and pass the state dict."
            )
        path.append(keys[0])
        data = inner[keys[0]]
    notes = (f"the state dict lies under {'.'.join(path)!r}",) if path else ()
    return Checkpoint(where, {name: _held(tensor) for name, tensor in tensors.items()}, notes)


def _has_tensors(data: Mapping[Any, Any]) -> bool:
    # An optimiser's state is keyed by numbers; a state dict by names.
    return any(
        isinstance(k, str)
        and (isinstance(v, torch.Tensor) or (isinstance(v, Mapping) and _has_tensors(v)))
        for k, v in data.items()
    )


def _held(tensor: torch.Tensor) -> StoredTensor:
    return StoredTensor(tuple(tensor.shape), tensor.dtype, tensor.detach)
