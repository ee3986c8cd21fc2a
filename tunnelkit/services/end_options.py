"""The options of the ends of tunnels; what several of them have is declared once."""

from __future__ import annotations

from twisted.python import usage

from tunnelkit.services.given import Settings
from tunnelkit.services.options import FILE, RoleOptions, flag, option

FRONT_ENDS = frozenset({"socks", "forward", "reverse", "x11", "dns", "http-proxy", "ask"})
"""The options that open a port here that leads to the far side."""
_REPEATABLE = FRONT_ENDS | {"peer", "peer-pin", "allow", "from", "dns-server"}
_FILES = {
    "config": usage.CompleteFiles("*.toml"),
    "identity": usage.CompleteFiles("*.pem"),
    "crl": usage.CompleteFiles("*.crl"),
    "socks-auth-file": FILE,
    "http-proxy-auth-file": FILE,
}


class EndOptions(RoleOptions):
    """What every end of every protocol has: who it is, its front ends, its policy."""

    repeatable = _REPEATABLE
    live = FRONT_ENDS | {"socks-auth-file", "http-proxy-auth-file", "allow", "from", "crl"}

    opt_identity = option("identity", "FILE.pem that `tunnelkit keys issue` made for this end")
    opt_peer = option("peer", "NAME that the other end's certificate must have; repeatable")
    opt_peer_pin = option(
        "peer-pin",
        "sha256:HEX, the fingerprint of the other end's key, instead of --peer and a CA; "
        "repeatable",
    )
    opt_crl = option("crl", "FILE with revoked certificates (`tunnelkit keys revoke`)")
    opt_socks = option("socks", "[HOST:]PORT of a SOCKS 4, 4a and 5 server here; repeatable")
    opt_socks_auth_file = option(
        "socks-auth-file", "FILE of USER:PASSWORD lines; SOCKS clients have to log in"
    )
    opt_forward = option(
        "forward", "[HOST:]PORT=DESTINATION, a port here that leads to there; repeatable"
    )
    opt_reverse = option(
        "reverse",
        "[ADDRESS:]PORT=DESTINATION, a port at the far side that leads to here; repeatable",
    )
    opt_x11 = option(
        "x11",
        "N, to be display :N here, shown at the far side; N=DISPLAY to say where there (default: "
        "the display that the rules there name, or DISPLAY there); repeatable",
    )
    opt_dns = option("dns", "[HOST:]PORT of a DNS server here that asks the far side's; repeatable")
    opt_http_proxy = option(
        "http-proxy", "[HOST:]PORT of an HTTP proxy here, CONNECT and http:// URLs; repeatable"
    )
    opt_http_proxy_auth_file = option(
        "http-proxy-auth-file", "FILE of USER:PASSWORD lines; HTTP proxy clients have to log in"
    )
    opt_ask = option("ask", "[HOST:]PORT here where telnet is asked where to go; repeatable")
    opt_allow = option(
        "allow",
        "PATTERN of what the other end may reach from here, e.g. tcp:127.0.0.1:9000; repeatable",
    )
    opt_from = option("from", "NETWORK whose programs may enter the ports opened here; repeatable")
    opt_dns_server = option(
        "dns-server",
        "ADDRESS[:PORT] of a resolver that answers for service:@dns (default: those of "
        "/etc/resolv.conf); repeatable",
    )


class DiallingEndOptions(EndOptions):
    """What an end has that dials."""

    repeatable = _REPEATABLE | {"via"}
    flags = EndOptions.flags | {"manual"}

    opt_via = option(
        "via",
        "URL of a proxy on the way out, socks4://, socks4a://, socks5:// or http://; repeated for "
        "a chain; or `none`, or `auto` for what the environment says (default: none)",
    )
    opt_via_password_file = option("via-password-file", "FILE with the last proxy's password")
    opt_manual = flag("manual", "connect only when `tunnelkit connect` says so; needs --control")


class LstpEndOptions(DiallingEndOptions):
    """What both ends of LSTP tunnels have in common."""

    synopsis = "--middle HOST:PORT --tunnel NAME --identity FILE --peer NAME [options]"
    flags = DiallingEndOptions.flags | {"both"}
    compData = usage.Completions(
        multiUse=sorted(DiallingEndOptions.repeatable | {"listen", "admit", "publish"}),
        optActions={**_FILES, "via-password-file": FILE, "admission-token-file": FILE},
    )

    repeatable = DiallingEndOptions.repeatable | {"listen", "admit", "publish"}
    live = DiallingEndOptions.live | {"admit", "admission-token-file", "publish"}

    opt_middle = option("middle", "HOST:PORT of the middle at which the two ends meet")
    opt_listen = option(
        "listen",
        "HOST:PORT, instead of --middle: be the middle too, where the other end dials; repeatable",
    )
    opt_admit = option(
        "admit", "NETWORK from which the other end may come then (default: all); repeatable"
    )
    opt_tunnel = option("tunnel", "NAME of the tunnel, the same at both ends")
    opt_admission_token_file = option(
        "admission-token-file", "FILE with the token that the middle asks for"
    )
    opt_publish = option(
        "publish",
        "NAME=HOST:PORT[,until=TIME][,listen=PORT], a service here that the other end may use "
        "until then (ISO 8601 or +SECONDS), and the port there that it may open for it; repeatable",
    )
    opt_both = flag("both", "be client end and server end at once")
    opt_connections = option(
        "connections", "connections that carry the tunnel's channels (default: 1)"
    )
    opt_max_channels = option("max-channels", "channels open at once (default: 1024)")
    opt_compress = flag(
        "compress", "compress what the channels carry, if the other end says --compress too"
    )


class LstpClientEndOptions(LstpEndOptions):
    """The options of ``twistd lstp-client-end``."""

    tapname = "lstp-client-end"
    longdesc = (
        "The end of an LSTP tunnel near the client application. It dials the middle, opens ports "
        "here, and leads what enters them to where the server end may connect."
    )

    def make_config(self, settings: Settings) -> object:
        """See `tunnelkit.services.config.lstp_end_config`."""
        from tunnelkit.services.config import lstp_end_config

        return lstp_end_config(settings, "client-end", self.needs_rules)


class LstpServerEndOptions(LstpEndOptions):
    """The options of ``twistd lstp-server-end``."""

    tapname = "lstp-server-end"
    longdesc = (
        "The end of an LSTP tunnel near the server application. It dials the middle, waits there "
        "for client ends, and connects for them to what --allow names, and to nothing else."
    )

    def make_config(self, settings: Settings) -> object:
        """See `tunnelkit.services.config.lstp_end_config`."""
        from tunnelkit.services.config import lstp_end_config

        return lstp_end_config(settings, "server-end", self.needs_rules)


class UsherGateOptions(EndOptions):
    """The options of ``twistd usher-gate``."""

    tapname = "usher-gate"
    synopsis = "--listen HOST:PORT --identity FILE --peer NAME [options]"
    longdesc = (
        "The end of Usher tunnels that is dialled, typically on a bastion host. It takes in the "
        "portals that --peer names, and connects for them to what --allow names, and to nothing "
        "else. Front ends here lead to what the newest portal allows."
    )
    repeatable = EndOptions.repeatable | {"listen", "admit", "relay"}
    live = EndOptions.live | {"admit"}
    compData = usage.Completions(multiUse=sorted(repeatable), optActions=_FILES)

    opt_listen = option("listen", "HOST:PORT on which portals are awaited; repeatable")
    opt_admit = option(
        "admit", "NETWORK from which portals are admitted (default: all); repeatable"
    )
    opt_relay = option(
        "relay",
        "NAME=HOST:PORT of a gate further inside; portals that ask for NAME (--server-name) are "
        "passed on to it, unopened; repeatable",
    )
    opt_max_channels = option(
        "max-channels", "sessions that one portal may have open at once (default: 10000)"
    )

    def make_config(self, settings: Settings) -> object:
        """See `tunnelkit.services.usher_config.usher_gate_config`."""
        from tunnelkit.services.usher_config import usher_gate_config

        return usher_gate_config(settings, self.needs_rules)


class UsherPortalOptions(DiallingEndOptions):
    """The options of ``twistd usher-portal``."""

    tapname = "usher-portal"
    synopsis = "--gate HOST:PORT --identity FILE --peer NAME [options]"
    longdesc = (
        "The end of an Usher tunnel that dials its gate. Front ends here lead to what the gate "
        "allows; --allow names what the gate's side may reach from here."
    )
    compData = usage.Completions(
        multiUse=sorted(DiallingEndOptions.repeatable),
        optActions={**_FILES, "via-password-file": FILE},
    )

    opt_gate = option("gate", "HOST:PORT of the gate, or of a bastion that relays to it")
    opt_server_name = option(
        "server-name", "NAME under which a bastion relays to the gate; it is said in clear"
    )
    opt_max_channels = option(
        "max-channels", "sessions that the gate's side may have open at once (default: 10000)"
    )

    def make_config(self, settings: Settings) -> object:
        """See `tunnelkit.services.usher_config.usher_portal_config`."""
        from tunnelkit.services.usher_config import usher_portal_config

        return usher_portal_config(settings)
