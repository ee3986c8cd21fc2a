"""``python -m tunnelkit`` is ``tunnelkit``."""

import sys

from tunnelkit.cli.main import main

sys.exit(main())
