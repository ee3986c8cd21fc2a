"""The front ends. Every twistd start imports this: keep it light."""

from tunnelkit.frontends.registry import FrontEndMaker
from tunnelkit.policy.settings import Option

ask = FrontEndMaker(
    "ask",
    "tunnelkit.frontends.ask",
    (
        Option(
            "ask",
            "[HOST:]PORT[@PEER]",
            "here where telnet is asked where to go",
            repeatable=True,
            live=True,
        ),
    ),
)

dns = FrontEndMaker(
    "dns",
    "tunnelkit.frontends.dns.server",
    (
        Option(
            "dns",
            "[HOST:]PORT[,suffix=DOMAIN][@PEER]",
            "of a DNS server here that asks the far side's, with suffix= (repeatable) only about "
            "names in these domains",
            repeatable=True,
            live=True,
        ),
    ),
)

forward = FrontEndMaker(
    "forward",
    "tunnelkit.frontends.forward.tcp",
    (
        Option(
            "forward",
            "[HOST:]PORT=DESTINATION[,connection=own][@PEER]",
            ", a port here that leads to there, with connection=own by a tunnel connection of its "
            "own",
            repeatable=True,
            live=True,
        ),
    ),
)

http_proxy = FrontEndMaker(
    "http-proxy",
    "tunnelkit.frontends.http.proxy",
    (
        Option(
            "http-proxy",
            "[HOST:]PORT[@PEER]",
            "of an HTTP proxy here, CONNECT and http:// URLs",
            repeatable=True,
            live=True,
        ),
        Option(
            "http-proxy-auth-file",
            "FILE",
            "of USER:PASSWORD lines; HTTP proxy clients have to log in",
            live=True,
            files="*",
        ),
    ),
)

reverse = FrontEndMaker(
    "reverse",
    "tunnelkit.frontends.forward.reverse",
    (
        Option(
            "reverse",
            "[ADDRESS:]PORT=DESTINATION[@PEER]",
            ", a port at the far side that leads to here",
            repeatable=True,
            live=True,
        ),
    ),
)

socks = FrontEndMaker(
    "socks",
    "tunnelkit.frontends.socks.server",
    (
        Option(
            "socks",
            "[HOST:]PORT[@PEER]",
            "of a SOCKS 4, 4a and 5 server here",
            repeatable=True,
            live=True,
        ),
        Option(
            "socks-auth-file",
            "FILE",
            "of USER:PASSWORD lines; SOCKS clients have to log in",
            live=True,
            files="*",
        ),
    ),
)

x11 = FrontEndMaker(
    "x11",
    "tunnelkit.frontends.x11.listen",
    (
        Option(
            "x11",
            "N[@PEER]",
            ", to be display :N here, shown at the far side; N=DISPLAY to say where there "
            "(default: the display that the rules there name, or DISPLAY there)",
            repeatable=True,
            live=True,
        ),
    ),
)

wtls = FrontEndMaker(
    "wtls",
    "tunnelkit.frontends.wtls.front_end",
    (
        Option(
            "wtls",
            "[HOST:]PORT[@PEER]",
            "of a proxy here for CoAP devices, over DTLS (UDP)",
            repeatable=True,
            live=True,
        ),
        Option(
            "wtls-identity",
            "FILE.pem",
            "of the proxy for devices, whose CA they trust",
            live=True,
            files="*.pem",
        ),
        Option(
            "wtls-secure",
            "HOST=DOMAIN-PROXY:PORT",
            ", a server that devices talk to unread, and its domain proxy at the far side",
            repeatable=True,
            live=True,
        ),
        Option(
            "wtls-learn-from",
            "SUFFIX",
            "of hosts whose mirrors are asked for their domain proxy",
            repeatable=True,
            live=True,
        ),
        Option(
            "wtls-ttl",
            "SECONDS",
            "that a device may stay in tunnel mode (default: 600)",
            live=True,
        ),
        Option(
            "wtls-map-key-file",
            "FILE",
            "of HOST:PORT KEY lines, a key for each domain proxy",
            live=True,
            files="*",
        ),
        Option(
            "wtls-match",
            "strict|auto",
            ", strict: tell devices by address and port always (default: auto)",
            live=True,
        ),
    ),
)
