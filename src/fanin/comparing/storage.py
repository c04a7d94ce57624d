"""The folder of a study: every finished trial in a file of its own, written whole or not at all.

A trial's file is named by a digest of all that decides its result.  Running again therefore
finds what is finished; changing a setting finds nothing, and starts afresh; more seeds or more
recipes find the trials that are the same.
"""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from fanin.comparing.serial import trial_from_json, trial_to_json
from fanin.comparing.trial import Trial
from fanin.errors import DataError, OutputError

DEFAULT_FOLDER = Path("fanin-study")
TRIALS = "trials"


def prepare_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder of a study, and see that it can be written to.

    Raises:
        OutputError: it cannot be made, is a file, or is not writable.
    """
    folder = Path(path)
    try:
        (folder / TRIALS).mkdir(parents=True, exist_ok=True)
        # Rights do not tell all (read-only mounts, quotas): a real file does.
        with tempfile.TemporaryFile(dir=folder / TRIALS) as probe:
            probe.write(b"fanin")
    except OSError as error:
        raise OutputError(f"{folder}: {_why(error)}. Choose another folder with out=.") from error
    return folder


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never half.

    Raises:
        OutputError: it cannot be written; nothing is left behind.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files that only their owner reads; a report gets the usual rights.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise OutputError(
                f"{path}: {_why(error)}. Finished trials before this one are kept; free some "
                "space or choose another folder, and run again."
            ) from error
        raise


def trial_key(identity: Mapping[str, object]) -> str:
    """Digest of all that decides a trial's result."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode(), digest_size=12).hexdigest()


class TrialStore:
    """The trials of a study's folder.

    Args:
        folder: made by ``prepare_folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, trial_name: str, key: str) -> Path:
        """Where a trial lies; its name is for people, its key decides."""
        readable = re.sub(r"[^\w.=-]+", "_", trial_name)[:80]
        return self.folder / TRIALS / f"{readable}-{key}.json"

    def load(self, trial_name: str, key: str) -> Trial | None:
        """The finished trial, or None if there is none or its file is broken."""
        path = self.path(trial_name, key)
        try:
            return trial_from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, DataError):
            # Trials are written whole, so a broken file was edited or damaged: the trial is
            # trained again, and its file replaced.
            return None

    def save(self, trial_name: str, key: str, trial: Trial) -> None:
        """Keep a finished trial.

        Raises:
            OutputError: the file cannot be written.
        """
        text = json.dumps(trial_to_json(trial), allow_nan=False, ensure_ascii=False)
        write_whole(self.path(trial_name, key), text)

    def count(self) -> int:
        """Number of trials in the folder, of whatever settings."""
        return sum(1 for _ in (self.folder / TRIALS).glob("*.json"))


def _why(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "is a file, not a folder, or lies under one"
    return f"cannot be written ({error.strerror or error})"
