"""Fetches a framework's source distribution, once, for the tests in it: wheels leave them out."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".frameworks"


def fetched(name: str) -> Path:
    """The folder of the source distribution of the installed version, from the package index."""
    named = f"{name.replace('-', '_')}-{version(name)}"
    folder = CACHE / named
    if not (folder / "tests").is_dir():
        CACHE.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--no-binary={name}"]
        subprocess.run([*command, f"--dest={CACHE}", f"{name}=={version(name)}"], check=True)
        archive = CACHE / f"{named}.tar.gz"
        with tarfile.open(archive) as packed:
            packed.extractall(CACHE, filter="data")
        archive.unlink()
    return folder
