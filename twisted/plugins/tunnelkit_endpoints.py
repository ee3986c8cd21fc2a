"""``tunnel:`` in endpoint strings. Twisted imports this for every such string: keep it light."""

from tunnelkit.services.endpoint_strings import TunnelStrings

tunnel = TunnelStrings()
