"""``tunnelkit doctor``: what of a role's configuration works, hop by hop (row O9).

``finding``: what was found, and what it means; ``here``: what can be seen on this machine;
``there``: the way to the other end, with the real handshake and a real channel.
"""

from __future__ import annotations
