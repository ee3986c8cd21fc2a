"""How ends meet, for `tunnel-end`. Every twistd start imports this: keep it light."""

from tunnelkit.roles import options, secure_proxy_options
from tunnelkit.roles.registry import RendezvousMaker

lstp = RendezvousMaker("lstp", "tunnelkit.roles.lstp_rendezvous", options.LSTP_MEETING)
usher = RendezvousMaker("usher", "tunnelkit.roles.usher_rendezvous", options.USHER_MEETING)
secure_proxy = RendezvousMaker(
    "secure-proxy",
    "tunnelkit.roles.secure_proxy_rendezvous",
    secure_proxy_options.SECURE_PROXY_MEETING,
)
