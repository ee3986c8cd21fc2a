"""An sshd for this user, and bytes that go there and back through the real client."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

from tests.acceptance.processes import Processes, free_port


class Sshd:
    """A server with one key, for this user; listens when made."""

    def __init__(self, processes: Processes) -> None:
        self.port = free_port()
        self._directory = processes.directory
        host_key, self._user_key = (self._directory / name for name in ("host_key", "user_key"))
        for key in (host_key, self._user_key):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(make, check=True, timeout=20)
        if os.getuid() == 0:
            # Its home for the part without privileges, not made yet if it is freshly installed.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self._directory / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n"
            f"AuthorizedKeysFile {self._user_key}.pub\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        processes.start(
            "sshd", "/usr/sbin/sshd", "-D", "-e", "-f", config, ready="Server listening"
        )

    def cat(self, sent: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
        """What ``cat`` there says to ``sent``; ``options`` of ssh say how to reach it."""
        return subprocess.run(
            [
                *("ssh", "-F", "none", "-i", str(self._user_key), "-o", "BatchMode=yes"),
                *("-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"),
                *("-o", f"UserKnownHostsFile={self._directory}/known", *options),
                *(f"{getpass.getuser()}@127.0.0.1", "cat"),
            ],
            input=sent,
            capture_output=True,
            timeout=30,
        )
