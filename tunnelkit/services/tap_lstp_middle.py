"""``twistd lstp-middle``."""

from __future__ import annotations

from twisted.application.service import IService

from tunnelkit.services.options import LstpMiddleOptions as Options
from tunnelkit.services.role_service import role_service


def makeService(options: Options) -> IService:
    """The service of a middle; called by twistd with the parsed options."""
    from tunnelkit.roles.lstp_middle import LstpMiddle

    return role_service(LstpMiddle(), options)


__all__ = ["Options", "makeService"]
