"""The channel protocols. Every twistd start imports this: keep it light."""

from tunnelkit.roles.registry import ProtocolMaker

lstp = ProtocolMaker("lstp", "tunnelkit.roles.lstp_end")
usher = ProtocolMaker("usher", "tunnelkit.roles.usher_portal")
