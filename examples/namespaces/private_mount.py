"""A shell with a tmpfs that nobody else sees, in the five system calls that it takes.

    sudo python examples/namespaces/private_mount.py /mnt
         python examples/namespaces/private_mount.py /mnt      # as an ordinary user: in a user namespace, too

What is mounted in there is gone when the shell ends. `jubako unshare --mount` does the first two calls for any command.
"""

from __future__ import annotations

import os
import sys

from jubako.kernel.idmap import enter_user_namespace
from jubako.kernel.mounts import MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_REC, mount
from jubako.kernel.namespaces import CLONE_NEWNS, unshare

try:
    if os.geteuid() == 0:
        unshare(CLONE_NEWNS)
    else:
        enter_user_namespace(CLONE_NEWNS)  # only who owns the mount namespace may mount in it
    mount("none", "/", "", MS_REC | MS_PRIVATE)  # or what is mounted here would be mounted there too
    mount("tmpfs", sys.argv[1], "tmpfs", MS_NOSUID | MS_NODEV)
    os.execvp("bash", ["bash", *sys.argv[2:]])
except OSError as error:
    sys.exit(f"{error.strerror}: {error.filename}")
