"""The roles, each a twistd subcommand. Every twistd start imports this: keep it light."""

from tunnelkit.roles import options, secure_proxy_options
from tunnelkit.roles.registry import AnyEndMaker, EndMaker, RoleMaker

lstp_middle = RoleMaker(
    name="lstp-middle",
    description="LSTP middle: pairs two ends that dial it and passes their bytes on, unread.",
    synopsis="--listen HOST:PORT [options]",
    longdesc="The middle of LSTP tunnels: both ends dial it, it pairs the two that belong "
    "together and passes their bytes on. It holds no key and cannot read what passes.",
    module="tunnelkit.roles.lstp_middle",
    own_options=options.LSTP_MIDDLE,
)

lstp_client_end = EndMaker(
    name="lstp-client-end",
    description="LSTP client end: SOCKS and forwards here that lead through a tunnel.",
    synopsis="--middle HOST:PORT --tunnel NAME --identity FILE --peer NAME [options]",
    longdesc="The end of an LSTP tunnel near the client application. It dials the middle, opens "
    "ports here, and leads what enters them to where the server end may connect.",
    module="tunnelkit.roles.lstp_client_end",
    own_options=options.LSTP_END,
)

lstp_server_end = EndMaker(
    name="lstp-server-end",
    description="LSTP server end: connects to what is allowed here, for the far side of a tunnel.",
    synopsis="--middle HOST:PORT --tunnel NAME --identity FILE --peer NAME [options]",
    longdesc="The end of an LSTP tunnel near the server application. It dials the middle, waits "
    "there for client ends, and connects for them to what --allow names, and to nothing else.",
    module="tunnelkit.roles.lstp_server_end",
    own_options=options.LSTP_END,
)

usher_gate = EndMaker(
    name="usher-gate",
    description="Usher gate: takes portals in and connects for them to what is allowed here.",
    synopsis="--listen HOST:PORT --identity FILE --peer NAME [options]",
    longdesc="The end of Usher tunnels that is dialled, typically on a bastion host. It takes in "
    "the portals that --peer names, and connects for them to what --allow names, and to nothing "
    "else. Front ends here lead to what the newest portal allows.",
    module="tunnelkit.roles.usher_gate",
    own_options=options.USHER_GATE,
)

usher_portal = EndMaker(
    name="usher-portal",
    description="Usher portal: dials a gate; SOCKS and forwards here that lead through it.",
    synopsis="--gate HOST:PORT --identity FILE --peer NAME [options]",
    longdesc="The end of an Usher tunnel that dials its gate. Front ends here lead to what the "
    "gate allows; --allow names what the gate's side may reach from here.",
    module="tunnelkit.roles.usher_portal",
    own_options=options.USHER_PORTAL,
)

wtls_proxy = RoleMaker(
    name="wtls-proxy",
    description="WTLS-style operator's proxy: fetches for DTLS devices, or tunnels them unread.",
    synopsis="--listen HOST:PORT --identity FILE --secure HOST=DOMAIN-PROXY:PORT [options]",
    longdesc="The operator's proxy of the WTLS-style tunnel. Devices ask it by CoAP over DTLS for "
    "URLs. It fetches what --allow names; for a secure server it has the device come again, and "
    "then passes its datagrams on to the domain proxy, unopened.",
    module="tunnelkit.roles.wtls_proxy",
    own_options=options.WTLS_PROXY,
)

wtls_domain_proxy = RoleMaker(
    name="wtls-domain-proxy",
    description="WTLS-style domain proxy: DTLS devices at the door of a secure server.",
    synopsis="--listen HOST:PORT --identity FILE --origin HOST=URL [options]",
    longdesc="The domain proxy of the WTLS-style tunnel, at the door of secure servers. It ends "
    "the DTLS of devices that come through an operator's proxy, and asks the servers that "
    "--origin names for them, and no others.",
    module="tunnelkit.roles.wtls_domain_proxy",
    own_options=options.WTLS_DOMAIN_PROXY,
)

secure_proxy_server = RoleMaker(
    name="secure-proxy-server",
    description="Communication Server: introduces clients on one port, then relays, unread.",
    synopsis="--listen HOST:PORT --identity FILE --policy FILE [options]",
    longdesc="The server of the Secure Proxy. Clients dial its one port and find each other by "
    "name, as the policy allows; it brings two of them together and passes their bytes on, which "
    "it cannot read. Browsers reach published sites through the same port.",
    module="tunnelkit.roles.secure_proxy_server",
    own_options=secure_proxy_options.SECURE_PROXY_SERVER,
)

secure_proxy_client = EndMaker(
    name="secure-proxy-client",
    description="Secure Proxy client: reaches other clients, and is reached, by name.",
    synopsis="--server HOST:PORT --identity FILE [--target NAME] [options]",
    longdesc="A client of a Communication Server. Front ends here lead to what the client called "
    "--target allows; --allow names what others may reach from here; --publish lets browsers in "
    "to a web server inside, with its own certificate.",
    module="tunnelkit.roles.secure_proxy_client",
    own_options=secure_proxy_options.SECURE_PROXY_CLIENT,
)

tunnel_end = AnyEndMaker(
    name="tunnel-end",
    description="An end of a tunnel: any rendezvous with any channel protocols, by name.",
    synopsis="--rendezvous NAME --protocol NAME --identity FILE --peer NAME [options]",
    longdesc="An end of a tunnel that meets the other end by any rendezvous that is installed, and "
    "speaks any channel protocols. Front ends here lead to what the other end allows; --allow "
    "names what that one may reach from here.",
    module="tunnelkit.roles.tunnel_end",
    own_options=options.TUNNEL_END,
)
