"""The options of every role, as `twisted.python.usage` wants them.

Each option is declared once; ``--config`` accepts the same names as keys. A
mistake is one line on stderr and exit status 2 (twistd by itself would print
the whole help and end with status 1).
"""

from __future__ import annotations

import getopt
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from tunnelkit.errors import ConfigError
from tunnelkit.services.config_file import read_config_file
from tunnelkit.services.given import Given, Settings, suggestion

EXIT_CONFIG = 2


def exit_with(program: str, problem: object) -> NoReturn:
    """Say what is wrong in one line on stderr and end with status 2.

    Writes past `sys.stderr`, which twistd may have turned into a log already.
    """
    line = " ".join(str(problem).split())
    os.write(2, f"twistd {program}: {line}\n".encode("utf-8", "backslashreplace"))
    raise SystemExit(EXIT_CONFIG)


def _option(name: str, doc: str) -> Callable[[RoleOptions, str], None]:
    def take(self: RoleOptions, value: str) -> None:
        self.given.setdefault(name, []).append(Given(value, f"--{name}"))

    take.__doc__ = doc
    return take


def _flag(name: str, doc: str) -> Callable[[RoleOptions], None]:
    def take(self: RoleOptions) -> None:
        self.given[name] = [Given("true", f"--{name}")]

    take.__doc__ = doc
    return take


class RoleOptions(usage.Options):
    """Options of one twistd subcommand; a subclass names its options and makes its config."""

    tapname: ClassVar[str]
    flags: ClassVar[frozenset[str]] = frozenset({"log-json"})
    repeatable: ClassVar[frozenset[str]] = frozenset()
    synopsis = "[options]"

    opt_config = _option("config", "FILE.toml with the same settings; an option given here wins")
    opt_log_json = _flag("log-json", "log as JSON, one object a line")

    def __init__(self) -> None:
        self.given: dict[str, list[Given]] = {}
        usage.Options.__init__(self)
        self.config: Any = None
        """The role's configuration object, once the options have been parsed."""
        self.log_as_json = False

    @classmethod
    def known(cls) -> frozenset[str]:
        """The names of all settings, as options without dashes and as keys of the file."""
        other = {"config", "help", "version"}
        names = {name[4:].replace("_", "-") for name in dir(cls) if name.startswith("opt_")}
        return frozenset(names - other)

    def make_config(self, settings: Settings) -> object:
        """The role's configuration; raises `ConfigError`."""
        raise NotImplementedError

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, read the configuration file, validate; one line and status 2 for a mistake."""
        try:
            usage.Options.parseOptions(self, options)
        except (usage.UsageError, ConfigError) as error:
            exit_with(self.tapname, self._explained(error))

    def parseArgs(self, *arguments: str) -> None:
        """Nothing but options is expected."""
        if arguments:
            raise ConfigError(f"'{arguments[0]}' is not an option: expected only --options")

    def postOptions(self) -> None:
        """Merge the configuration file, then make the config."""
        settings = dict(self.given)
        files = settings.pop("config", [])
        if len(files) > 1:
            raise ConfigError("--config is given twice: expected one file")
        for name, values in settings.items():
            if len(values) > 1 and name not in self.repeatable:
                raise ConfigError(f"--{name} is given twice: expected one value")
        if files:
            found = read_config_file(files[0].text, self.known(), self.flags, self.repeatable)
            settings = {**found, **settings}
        merged = Settings(settings)
        self.log_as_json = merged.flag("log-json")
        self.config = self.make_config(merged)

    def getSynopsis(self) -> str:
        """The first line of the help."""
        return f"Usage: twistd [twistd's options] {self.tapname} {self.synopsis}"

    def opt_version(self) -> None:
        """Display the version and exit."""
        from tunnelkit import __version__

        print(f"tunnelkit {__version__}")
        raise SystemExit(0)

    def _explained(self, error: Exception) -> str:
        reason = error.__context__ if error.__context__ is not None else error
        if not isinstance(reason, getopt.GetoptError):
            return str(error)
        name = reason.opt
        if "requires argument" in reason.msg:
            return f"--{name} has no value: expected one behind it"
        if "must not have an argument" in reason.msg:
            return f"--{name} takes no value: expected it alone"
        if "not a unique prefix" in reason.msg:
            return f"--{name} could be several options: expected the whole name"
        dashes = "--" if len(name) > 1 else "-"
        hint = suggestion(name, self.known(), "--")
        return f"{dashes}{name} is not an option{hint}: see twistd {self.tapname} --help"


FILE = usage.CompleteFiles()


class LstpMiddleOptions(RoleOptions):
    """The options of ``twistd lstp-middle``."""

    tapname = "lstp-middle"
    synopsis = "--listen HOST:PORT [options]"
    longdesc = (
        "The middle of LSTP tunnels: both ends dial it, it pairs the two that belong together "
        "and passes their bytes on. It holds no key and cannot read what passes."
    )
    repeatable = frozenset({"listen", "admit"})
    compData = usage.Completions(
        multiUse=["listen", "admit"],
        optActions={"config": usage.CompleteFiles("*.toml"), "admission-token-file": FILE},
    )

    opt_listen = _option("listen", "HOST:PORT on which ends are awaited; repeatable")
    opt_name = _option("name", "name of this middle in topologies (default: the host's)")
    opt_admit = _option("admit", "NETWORK from which ends are admitted (default: all); repeatable")
    opt_admission_token_file = _option(
        "admission-token-file", "FILE with the token that ends have to show"
    )
    opt_max_waiting = _option("max-waiting", "ends that may wait at once (default: 10000)")
    opt_max_waiting_per_address = _option(
        "max-waiting-per-address", "of those, from one address (default: 10000)"
    )
    opt_max_in_setup = _option(
        "max-in-setup", "connections at once whose setup is not complete (default: 200)"
    )

    def make_config(self, settings: Settings) -> object:
        """See `tunnelkit.services.config.lstp_middle_config`."""
        from tunnelkit.services.config import lstp_middle_config

        return lstp_middle_config(settings)


class LstpEndOptions(RoleOptions):
    """What both ends of LSTP tunnels have in common."""

    synopsis = "--middle HOST:PORT --tunnel NAME --identity FILE --peer NAME [options]"
    flags = RoleOptions.flags | {"both"}
    repeatable = frozenset(
        {
            *("peer", "via", "socks", "forward", "x11", "dns", "http-proxy", "ask"),
            *("allow", "from", "dns-server"),
        }
    )
    compData = usage.Completions(
        multiUse=sorted(repeatable),
        optActions={
            "config": usage.CompleteFiles("*.toml"),
            "identity": usage.CompleteFiles("*.pem"),
            "crl": usage.CompleteFiles("*.crl"),
            "admission-token-file": FILE,
            "via-password-file": FILE,
            "socks-auth-file": FILE,
            "http-proxy-auth-file": FILE,
        },
    )

    opt_middle = _option("middle", "HOST:PORT of the middle at which the two ends meet")
    opt_tunnel = _option("tunnel", "NAME of the tunnel, the same at both ends")
    opt_identity = _option("identity", "FILE.pem that `tunnelkit keys issue` made for this end")
    opt_peer = _option("peer", "NAME that the other end's certificate must have; repeatable")
    opt_via = _option(
        "via",
        "URL of a proxy on the way out, socks4://, socks4a://, socks5:// or http://; repeated for "
        "a chain; or `none`, or `auto` for what the environment says (default: none)",
    )
    opt_via_password_file = _option("via-password-file", "FILE with the last proxy's password")
    opt_admission_token_file = _option(
        "admission-token-file", "FILE with the token that the middle asks for"
    )
    opt_socks = _option("socks", "[HOST:]PORT of a SOCKS 4, 4a and 5 server here; repeatable")
    opt_socks_auth_file = _option(
        "socks-auth-file", "FILE of USER:PASSWORD lines; SOCKS clients have to log in"
    )
    opt_forward = _option(
        "forward", "[HOST:]PORT=DESTINATION, a port here that leads to there; repeatable"
    )
    opt_x11 = _option(
        "x11",
        "N, to be display :N here, shown at the far side; N=DISPLAY to say where there (default: "
        "the display that the rules there name, or DISPLAY there); repeatable",
    )
    opt_dns = _option(
        "dns", "[HOST:]PORT of a DNS server here that asks the far side's; repeatable"
    )
    opt_http_proxy = _option(
        "http-proxy", "[HOST:]PORT of an HTTP proxy here, CONNECT and http:// URLs; repeatable"
    )
    opt_http_proxy_auth_file = _option(
        "http-proxy-auth-file", "FILE of USER:PASSWORD lines; HTTP proxy clients have to log in"
    )
    opt_ask = _option("ask", "[HOST:]PORT here where telnet is asked where to go; repeatable")
    opt_allow = _option(
        "allow",
        "PATTERN of what the other end may reach from here, e.g. tcp:127.0.0.1:9000; repeatable",
    )
    opt_dns_server = _option(
        "dns-server",
        "ADDRESS[:PORT] of a resolver that answers for service:@dns (default: those of "
        "/etc/resolv.conf); repeatable",
    )
    opt_from = _option("from", "NETWORK whose programs may enter the ports opened here; repeatable")
    opt_crl = _option("crl", "FILE with revoked certificates (`tunnelkit keys revoke`)")
    opt_both = _flag("both", "be client end and server end at once")
    opt_connections = _option(
        "connections", "connections that carry the tunnel's channels (default: 1)"
    )
    opt_max_channels = _option("max-channels", "channels open at once (default: 1024)")


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

        return lstp_end_config(settings, "client-end")


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

        return lstp_end_config(settings, "server-end")
