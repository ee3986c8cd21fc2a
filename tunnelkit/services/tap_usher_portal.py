"""``twistd usher-portal``."""

from __future__ import annotations

from twisted.application.service import IService

from tunnelkit.services.end_options import UsherPortalOptions as Options
from tunnelkit.services.role_service import role_service


def makeService(options: Options) -> IService:
    """The service of a portal; called by twistd with the parsed options."""
    from tunnelkit.roles.usher_portal import UsherPortalRole

    return role_service(UsherPortalRole(), options)


__all__ = ["Options", "makeService"]
