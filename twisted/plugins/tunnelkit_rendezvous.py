"""How ends meet, for `tunnel-end`. Every twistd start imports this: keep it light."""

from tunnelkit.roles import options
from tunnelkit.roles.registry import RendezvousMaker

lstp = RendezvousMaker("lstp", "tunnelkit.roles.lstp_rendezvous", options.LSTP_MEETING)
usher = RendezvousMaker("usher", "tunnelkit.roles.usher_rendezvous", options.USHER_MEETING)
