"""``twistd lstp-server-end``."""

from __future__ import annotations

from twisted.application.service import IService

from tunnelkit.services.end_options import LstpServerEndOptions as Options
from tunnelkit.services.role_service import role_service


def makeService(options: Options) -> IService:
    """The service of a server end; called by twistd with the parsed options."""
    from tunnelkit.roles.lstp_server_end import LstpServerEnd

    return role_service(LstpServerEnd(), options)


__all__ = ["Options", "makeService"]
