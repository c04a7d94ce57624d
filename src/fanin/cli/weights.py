"""Write a model's weights as safetensors: whole or not at all."""

import os
import tempfile
from pathlib import Path

import torch

from fanin.errors import OutputError


def save_weights(model: torch.nn.Module, path: Path) -> None:
    """Write the state dict to ``path``; tied tensors are written once, under their first name.

    Raises:
        OutputError: the file cannot be written; what stood there is untouched.
    """
    from safetensors.torch import save_model

    try:
        # In the same folder, so that the final rename cannot cross file systems.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fanin-") as folder:
            whole = Path(folder) / "weights.safetensors"
            save_model(model, str(whole))
            os.replace(whole, path)
    except OSError as error:
        raise OutputError(f"cannot write weights to {str(path)!r}: {error}.") from error
