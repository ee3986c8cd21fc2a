"""``twistd usher-gate``."""

from __future__ import annotations

from twisted.application.service import IService

from tunnelkit.services.end_options import UsherGateOptions as Options
from tunnelkit.services.role_service import role_service


def makeService(options: Options) -> IService:
    """The service of a gate; called by twistd with the parsed options."""
    from tunnelkit.roles.usher_gate import UsherGateRole

    return role_service(UsherGateRole(), options)


__all__ = ["Options", "makeService"]
