"""What to do where there are no photos yet. Light: the API server and the command line import it."""

import os
import shlex
import sys
from pathlib import Path


def has_files(root: Path) -> bool:
    """Return whether any file lies below `root`, hidden ones aside."""
    return any(not name.startswith(".") for _, _, files in os.walk(root) for name in files)


def sample_command(root: Path) -> str:
    """Return the command that draws the sample drawings where photos are looked for; none, if something lies there."""
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        return ""
    return shlex.join([str(Path(sys.executable).with_name("menagerie")), "sample", str(root)])


def ways_out(root: Path) -> str:
    """Return what to do, in words: the sample drawings, or photos of one's own."""
    sample = sample_command(root)
    return (f"For the sample drawings, run: {sample}\n" if sample else "") + (
        "For your own photos, one folder per kind of animal: make down, then make up PHOTOS=folder"
    )
