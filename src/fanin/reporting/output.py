"""Files written whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from fanin.errors import OutputError

_T = TypeVar("_T")


def write_whole(path: str | os.PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path`` as UTF-8; a reader sees the old file or the new one, never half.

    Raises:
        OutputError: the folder does not exist, is not writable, or ``path`` is a folder. Nothing
            is left behind.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"{target}: is a folder. Give the path of a file, such as report.html.")
    if not target.parent.is_dir():
        raise OutputError(
            f"{target}: there is no folder {str(target.parent)!r}. Create it, or choose another "
            "path."
        )
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        # mkstemp makes files that only their owner reads; a report gets the usual rights.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise OutputError(
                f"{target}: cannot be written ({error.strerror or error}). Check the rights and "
                "the free space of its folder, or choose another path."
            ) from error
        raise
    return target


def save_as(
    value: _T, path: str | os.PathLike[str], forms: Mapping[str, Callable[[_T], str]]
) -> Path:
    """Write ``value`` in the form that the extension of ``path`` asks for.

    Args:
        value: what is saved.
        path: the file.
        forms: extension with its dot -> the text of the value in that form.

    Raises:
        OutputError: the extension is none of ``forms``, or the file cannot be written.
    """
    extension = Path(path).suffix.lower()
    if extension not in forms:
        known = ", ".join(sorted(forms))
        raise OutputError(
            f"{os.fspath(path)!r}: unknown extension {extension!r}. Use one of {known}."
        )
    return write_whole(path, forms[extension](value))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
