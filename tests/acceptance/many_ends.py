"""Many LSTP ends in one process, each as its command line describes it.

``python -m tests.acceptance.many_ends FILE``: FILE is a JSON list of command lines, such as
``["lstp-client-end", "--middle", ...]``. Where a test needs sixty tunnels, a process for
each end would take longer than the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet import reactor as installed
from twisted.logger import globalLogBeginner

from tunnelkit.roles.registry import roles
from tunnelkit.services.logs import LineObserver, format_text
from tunnelkit.services.options import options_for


def main(file: str) -> None:
    """Run them until told to stop."""
    reactor: Any = installed
    globalLogBeginner.beginLoggingTo([LineObserver(sys.stdout, format_text)])
    ends = MultiService()
    for name, *words in json.loads(Path(file).read_text()):
        role = roles()[name]
        options = options_for(role)()
        options.parseOptions(words)
        IService(role.make_service(reactor, options.config)).setServiceParent(ends)
    reactor.addSystemEventTrigger("before", "shutdown", ends.stopService)
    ends.startService()
    reactor.run()


if __name__ == "__main__":
    main(sys.argv[1])
