"""Makes the virtual environment that the Makefile's targets run in, from the lock file, when it is missing or stale.

Usage: python3 .ci/venv.py DIRECTORY

The environment is ready only when its stamp says so. The stamp is written last, and removed before anything is changed,
so an interrupted installation is never taken for a finished one; a lock on the project's directory makes a second
command wait for the first. It is written for old Pythons too, because it is what tells them that they are too old.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys

OLDEST = (3, 11)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCK_FILE = os.path.join(ROOT, "requirements.lock")
PROJECT_FILE = os.path.join(ROOT, "pyproject.toml")
STAMP = "understudy-ready"
LOCK = os.open(ROOT, os.O_RDONLY)
# Given to every child too: if this process is killed while pip runs, the lock holds until pip has ended as well.


def main(directory):
    """Leaves a ready environment in `directory`, or ends with a message that says what to do."""
    require_python()
    try:
        fcntl.flock(LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("another command is preparing {}; waiting for it".format(os.path.relpath(directory, ROOT)))
        fcntl.flock(LOCK, fcntl.LOCK_EX)
    parent, name = os.path.split(directory)
    os.makedirs(parent, exist_ok=True)
    for other in os.listdir(parent):
        if other.startswith(name + ".old-"):  # left by a command that was interrupted while removing
            shutil.rmtree(os.path.join(parent, other), ignore_errors=True)
    stamp = os.path.join(directory, STAMP)
    packages, project = fingerprint(LOCK_FILE, directory), fingerprint(PROJECT_FILE, directory)
    found = [*read(stamp).split(), "", ""][:2]
    if found == [packages, project]:
        return
    if found[0] != packages:
        remove(directory)
        make(directory)
    else:
        os.remove(stamp)
    install_project(directory)
    with open(stamp + ".new", "w") as file:
        file.write("{}\n{}\n".format(packages, project))
    os.replace(stamp + ".new", stamp)
    say("{} is ready".format(os.path.relpath(directory, ROOT)))


def require_python():
    """Ends with the command that installs a newer Python, or the part of it that Debian packs separately."""
    if sys.version_info[:2] < OLDEST:
        newer = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
        if newer:
            advice = "This machine has a newer one:  make PYTHON={} ...".format(newer[0])
        else:
            advice = (
                "Install a newer one and name it:\n"
                "    Debian, Ubuntu:  sudo apt-get install python3.12 python3.12-venv\n"
                "    Fedora, RHEL:    sudo dnf install python3.12\n"
                "    macOS:           brew install python@3.12\n"
                "    then:            make PYTHON=python3.12 ..."
            )
        fail("Python {}.{} or newer is needed; this is {}.\n{}".format(*OLDEST, platform.python_version(), advice))
    try:
        import ensurepip  # noqa: F401  (only to see whether it is there)
        import venv  # noqa: F401
    except ImportError:
        name = "python{}.{}-venv".format(*sys.version_info[:2])
        fail(
            "this Python ({}) cannot make virtual environments: its venv module is a package of its own.\n"
            "    Debian, Ubuntu:  sudo apt-get install {}   (or python3-venv)".format(sys.executable, name)
        )


def fingerprint(path, directory):
    """A hash of what the environment depends on: the file, the Python, and the place (scripts hold absolute paths)."""
    digest = hashlib.sha256()
    for part in (sys.version, platform.machine(), os.path.realpath(base_python()), directory):
        digest.update(part.encode() + b"\0")
    with open(path, "rb") as file:
        digest.update(file.read())
    return digest.hexdigest()


def base_python():
    """The Python outside any virtual environment: an activated one may be the very one that is to be replaced."""
    return getattr(sys, "_base_executable", None) or sys.executable


def remove(directory):
    """Removes the old environment; the rename comes first, so that no half of it stays under its name."""
    if not os.path.lexists(directory):
        return
    inside = set(os.listdir(directory)) if os.path.isdir(directory) and not os.path.islink(directory) else {"?"}
    if "pyvenv.cfg" not in inside and not inside <= {"bin", "include", "lib", "lib64"}:
        fail("{} is not a virtual environment; remove it, or name another place: make VENV=...".format(directory))
    old = "{}.old-{}".format(directory, os.getpid())
    os.rename(directory, old)
    shutil.rmtree(old)


def make(directory):
    say("making {} with Python {}".format(os.path.relpath(directory, ROOT), platform.python_version()))
    run([base_python(), "-m", "venv", directory], "the virtual environment could not be made")
    say("installing what requirements.lock names, each file checked against its hash (about a minute)")
    run(
        pip(directory, "install", "--quiet", "--require-hashes", "--requirement", LOCK_FILE),
        "the packages could not be installed. If the machine has no way to the package index, name one that it can\n"
        "reach (PIP_INDEX_URL, or `pip config set global.index-url URL`) and repeat the command",
    )


def install_project(directory):
    say("installing understudy itself from src/")
    run(
        pip(directory, "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--editable", ROOT),
        "understudy itself could not be installed",
    )
    run(pip(directory, "check", "--quiet"), "requirements.lock does not satisfy pyproject.toml; run `make lock`")


def pip(directory, *arguments):
    return [os.path.join(directory, "bin", "python"), "-m", "pip", "--disable-pip-version-check", *arguments]


def run(command, problem):
    environment = dict(os.environ, PIP_USER="0", PIP_NO_INPUT="1")
    for name in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_HASHES", "VIRTUAL_ENV"):
        environment.pop(name, None)  # they would send packages elsewhere, or let pip find them elsewhere
    if subprocess.call(command, env=environment, stdout=sys.stderr, pass_fds=[LOCK]) != 0:
        fail(problem + ".")


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def say(text):
    sys.stderr.write("understudy: " + text + "\n")
    sys.stderr.flush()


def fail(text):
    sys.stderr.write("understudy: " + text + "\n")
    sys.exit(1)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        fail("usage: python3 .ci/venv.py DIRECTORY")
    try:
        main(os.path.abspath(sys.argv[1]))
    except KeyboardInterrupt:
        fail("interrupted; the next command starts over")
