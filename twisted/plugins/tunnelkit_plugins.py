"""The twistd subcommands. Every twistd start imports this: nothing heavy belongs here."""

from twisted.application.service import ServiceMaker

lstp_middle = ServiceMaker(
    "tunnelkit LSTP middle",
    "tunnelkit.services.tap_lstp_middle",
    "LSTP middle: pairs two ends that dial it and passes their bytes on, unread.",
    "lstp-middle",
)

lstp_client_end = ServiceMaker(
    "tunnelkit LSTP client end",
    "tunnelkit.services.tap_lstp_client_end",
    "LSTP client end: SOCKS and forwards here that lead through a tunnel.",
    "lstp-client-end",
)

lstp_server_end = ServiceMaker(
    "tunnelkit LSTP server end",
    "tunnelkit.services.tap_lstp_server_end",
    "LSTP server end: connects to what is allowed here, for the far side of a tunnel.",
    "lstp-server-end",
)

usher_gate = ServiceMaker(
    "tunnelkit Usher gate",
    "tunnelkit.services.tap_usher_gate",
    "Usher gate: takes portals in and connects for them to what is allowed here.",
    "usher-gate",
)

usher_portal = ServiceMaker(
    "tunnelkit Usher portal",
    "tunnelkit.services.tap_usher_portal",
    "Usher portal: dials a gate; SOCKS and forwards here that lead through it.",
    "usher-portal",
)
