"""``twistd lstp-client-end``."""

from __future__ import annotations

from twisted.application.service import IService

from tunnelkit.services.end_options import LstpClientEndOptions as Options
from tunnelkit.services.role_service import role_service


def makeService(options: Options) -> IService:
    """The service of a client end; called by twistd with the parsed options."""
    from tunnelkit.roles.lstp_client_end import LstpClientEnd

    return role_service(LstpClientEnd(), options)


__all__ = ["Options", "makeService"]
