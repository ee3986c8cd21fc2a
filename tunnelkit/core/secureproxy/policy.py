"""Who may do what at a Communication Server, and the rule that says so (rows S5, S9).

Nothing is allowed that no rule allows. Every question is answered with a
`Verdict`, which names the rule; the same functions answer the server and
``tunnelkit policy explain``. Reading the file is somebody else's business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address

import attrs

from tunnelkit.core.globs import Glob
from tunnelkit.core.secureproxy.names import HostTable
from tunnelkit.wire.secureproxy import GROUP, PASS, WEB, Resource

REPLACE = "replace"
REFUSE = "refuse"


@attrs.frozen
class Verdict:
    """Whether something is allowed, and by which rule."""

    allowed: bool
    rule: str
    """The rule as it stands in the file, or what is missing there."""

    def __bool__(self) -> bool:
        return self.allowed


@attrs.frozen
class ConnectRule:
    """``TARGET/RESOURCE``: whom a client may ask for a session, and for what."""

    text: str
    _target: Glob = attrs.field(init=False, repr=False, eq=False)
    _resource: Glob = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        target, _, resource = self.text.rpartition("/")
        object.__setattr__(self, "_target", Glob(target))
        object.__setattr__(self, "_resource", Glob(resource))

    @property
    def of_group(self) -> bool:
        """Whether it is about a group."""
        return self.text.startswith(GROUP)

    def covers(self, target: str) -> bool:
        """Whether it is about ``target``, for whatever resource. No name's rule covers a group."""
        return self.of_group is target.startswith(GROUP) and self._target.match(target)

    def match(self, target: str, resource: str) -> bool:
        """Whether it allows a session with ``target`` for ``resource``."""
        return self.covers(target) and self._resource.match(resource)


def _globs(texts: Collection[str]) -> tuple[Glob, ...]:
    return tuple(map(Glob, texts))


def _connect_rules(texts: Collection[str]) -> tuple[ConnectRule, ...]:
    return tuple(map(ConnectRule, texts))


@attrs.frozen
class ClientRules:
    """What one client may do: a section ``[clients.NAME]``."""

    publish: tuple[Glob, ...] = attrs.field(default=(), converter=_globs)
    """Session resources by name, and ``pass:HOST``, ``web:HOST``."""
    groups: tuple[str, ...] = ()
    """Groups that it is a member of."""
    connect: tuple[ConnectRule, ...] = attrs.field(default=(), converter=_connect_rules)
    lookup: tuple[Glob, ...] = attrs.field(default=(), converter=_globs)
    """Names, and ``group:NAME``, whose presence it may know."""
    admin: bool = False


Network = IPv4Network | IPv6Network


def _sections(clients: Mapping[str, ClientRules]) -> tuple[tuple[Glob, ClientRules], ...]:
    return tuple((Glob(name), rules) for name, rules in clients.items() if "*" in name)


@attrs.frozen
class Policy:
    """A whole policy file."""

    clients: Mapping[str, ClientRules] = attrs.field(factory=dict)
    """By name; ``*`` stands for any run of characters, and a section with the very name goes
    before those, of which the first one counts."""
    sources: Mapping[str, tuple[Network, ...]] = attrs.field(factory=dict)
    """Networks from which browsers may come, by ``pass:HOST`` or ``web:HOST``; others: anywhere."""
    duplicate: str = REPLACE
    """What happens to the second registration of a live name: ``replace`` or ``refuse``."""
    _patterns: tuple[tuple[Glob, ClientRules], ...] = attrs.field(init=False, repr=False, eq=False)
    _hosts: HostTable[str] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_patterns", _sections(self.clients))
        hosts: HostTable[str] = HostTable()
        for rules in self.clients.values():
            for rule in rules.publish:
                kind, colon, host = rule.text.partition(":")
                if colon and kind in (PASS, WEB):
                    hosts.put(host, kind)
        object.__setattr__(self, "_hosts", hosts)

    # -- clients ------------------------------------------------------------

    def section(self, name: str) -> tuple[str, ClientRules | None]:
        """The title of the section about ``name``, and what is in it."""
        rules = self.clients.get(name)
        if rules is not None:
            return f"clients.{name}", rules
        for pattern, rules in self._patterns:
            if pattern.match(name):
                return f"clients.{pattern.text}", rules
        return f"no section clients.{name}", None

    def may_register(self, name: str) -> Verdict:
        """Whether the server talks to ``name`` at all."""
        title, rules = self.section(name)
        return Verdict(rules is not None, title)

    def may_administrate(self, name: str) -> Verdict:
        """Whether ``name`` may see and do what administrators may."""
        title, rules = self.section(name)
        if rules is None:
            return Verdict(False, title)
        return Verdict(rules.admin, f"{title} admin = {str(rules.admin).lower()}")

    def may_publish(self, name: str, resource: str) -> Verdict:
        """Whether ``name`` may offer ``resource``, see `tunnelkit.wire.secureproxy.Resource`."""
        title, rules = self.section(name)
        if rules is None:
            return Verdict(False, title)
        plain = ":" not in resource
        for rule in rules.publish:
            # A star does not reach over the colon: `*` offers sessions, not every host's name.
            # In a host it is one label, as everywhere.
            about_session = ":" not in rule.text
            fits = rule.match(resource) if plain else _covers_host(rule.text, resource)
            if about_session is plain and fits:
                return Verdict(True, f'{title} publish "{rule.text}"')
        return Verdict(False, f"{title} publish: no rule for {resource}")

    def groups_of(self, name: str, resource: Resource) -> tuple[frozenset[str], Verdict]:
        """The groups in which ``name`` offers ``resource``, and whether it may."""
        title, rules = self.section(name)
        own = frozenset(() if rules is None else rules.groups)
        if resource.groups is None:
            return own, Verdict(True, f"{title} groups")
        for group in resource.groups:
            if group not in own:
                return frozenset(), Verdict(False, f"{title} groups: {group} is not among them")
        return frozenset(resource.groups), Verdict(True, f"{title} groups")

    def may_connect(
        self, name: str, target: str, resource: str, groups: Collection[str] = ()
    ) -> Verdict:
        """Whether ``name`` may ask ``target`` for a session.

        ``groups``: those in which the target, if it is there, offers ``resource``: a rule for a
        group allows its members, too.
        """
        title, rules = self.section(name)
        if rules is None:
            return Verdict(False, title)
        targets = [target, *sorted(GROUP + group for group in groups)]
        for rule in rules.connect:
            if any(rule.match(one, resource) for one in targets):
                return Verdict(True, f'{title} connect "{rule.text}"')
        return Verdict(False, f"{title} connect: no rule for {target}/{resource}")

    def may_look_up(self, name: str, target: str, groups: Collection[str] = ()) -> Verdict:
        """Whether ``name`` may know if ``target`` is there; ``groups`` as in `may_connect`."""
        title, rules = self.section(name)
        if rules is None:
            return Verdict(False, title)
        targets = [target, *sorted(GROUP + group for group in groups)]
        for rule in rules.lookup:
            if any(
                rule.match(one) and rule.text.startswith(GROUP) is one.startswith(GROUP)
                for one in targets
            ):
                return Verdict(True, f'{title} lookup "{rule.text}"')
        for reach in rules.connect:
            if any(map(reach.covers, targets)):
                return Verdict(True, f'{title} connect "{reach.text}"')
        return Verdict(False, f"{title} lookup: no rule for {target}")

    # -- browsers -----------------------------------------------------------

    def kind_of(self, host: str) -> str | None:
        """What becomes of a browser that asks for ``host``: ``pass``, ``web``, or None."""
        return self._hosts.find(host)

    def may_enter(self, resource: str, address: str) -> Verdict:
        """Whether a browser may come from ``address`` to ``pass:HOST`` or ``web:HOST``.

        No ``address``: the server itself, which asks for each of its browsers' requests.
        """
        networks = self.sources.get(resource)
        if networks is None or not address:
            return Verdict(True, f"{resource}: from anywhere")
        source = ip_address(address)
        mapped = getattr(source, "ipv4_mapped", None)
        for network in networks:
            if (mapped or source) in network:
                return Verdict(True, f"resources.{resource} from {network}")
        return Verdict(False, f"resources.{resource} from: no network of {address}")


def _covers_host(rule: str, resource: str) -> bool:
    """Whether ``pass:*.a.example`` covers ``pass:b.a.example``, or is the very same."""
    if rule == resource:
        return True
    kind, _, host = resource.partition(":")
    label, _, parent = host.partition(".")
    return label != "*" and bool(parent) and rule == f"{kind}:*.{parent}"
