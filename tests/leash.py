"""A script: runs a command that dies with the process that asked for it. Knows no engine and nothing of Parley.

usage: leash.py PARENT_PID SIGNAL UID GID COMMAND...   (UID -1: stay who you are)
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, death_signal, uid, gid = (int(word) for word in sys.argv[1:5])
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, which clears it; exec keeps it. Elsewhere than on Linux a killed test run may leave its engines.
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit("the parent ended before the command began")
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606


if __name__ == "__main__":
    main()
