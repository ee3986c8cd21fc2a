"""What ``tunnelkit doctor`` and ``check`` have in common: the role that is meant, and how findings
are printed."""

from __future__ import annotations

from typing import Any, NamedTuple

from tunnelkit.errors import ConfigError

CLIENT_END = "lstp-client-end"
LSTP_ENDS = {CLIENT_END, "lstp-server-end"}


class Read(NamedTuple):
    """What `look_at_settings` has come to."""

    options: Any
    """Of the role."""
    config: Any
    """What the role makes of the settings; None: they are wrong."""
    findings: Findings


class Findings:
    """Prints each, and counts what is wrong."""

    def __init__(self) -> None:
        self._wrong = 0

    def show(self, finding: Any) -> None:
        """One more."""
        from tunnelkit.services.doctor.finding import State

        took = "" if finding.seconds is None else f" ({finding.seconds * 1000:.0f} ms)"
        print(f"{finding.state.value:<8} {finding.step:<16} {finding.found}{took}", flush=True)
        for what, text in (("means", finding.means), ("do", finding.do)):
            if text:
                print(f"{'':<8} {what:>16}: {text}", flush=True)
        self._wrong += finding.state is State.WRONG

    def end(self) -> int:
        """Say how many are wrong; the exit status."""
        print(f"{self._wrong} wrong" if self._wrong else "nothing is wrong")
        return 1 if self._wrong else 0


def look_at_settings(name: str | None, words: list[str], command: str) -> Read:
    """Read the settings that ``words`` are, of the role that is called ``name`` or that they fit,
    and show what is found on this machine; raises `ConfigError` as `options_of`."""
    from tunnelkit.services.doctor.here import look_here, read_options

    options = options_of(name, words, command)
    findings = Findings()
    finding, config = read_options(options, words)
    findings.show(finding)
    if config is not None:
        for finding in look_here(config):
            findings.show(finding)
    return Read(options, config, findings)


def options_of(name: str | None, words: list[str], command: str) -> Any:
    """The options of the role; raises `ConfigError` if it is not clear which one is meant."""
    from tunnelkit.cli.role_command import SHORT, role_names
    from tunnelkit.policy.settings import suggestion
    from tunnelkit.roles.registry import roles
    from tunnelkit.services.options import options_for

    known = roles()
    if name is not None:
        full = SHORT.get(name, name)
        if full not in known:
            names = role_names()
            hint = suggestion(name, names)
            raise ConfigError(
                f"there is no role {name!a}{hint}: expected one of {', '.join(names)}"
            )
        return options_for(known[full])()
    fits, errors = [], set()
    for full, role in known.items():
        options = options_for(role)()
        try:
            options.parse(words)
        except ConfigError as error:
            errors.add(str(error))
            continue
        fits.append(full)
    if not fits and len(errors) == 1:
        raise ConfigError(errors.pop())
    if set(fits) == LSTP_ENDS:
        # They differ in what they wait for, not in what they read.
        fits = [CLIENT_END]
    if len(fits) != 1:
        which = f"it would do for {', '.join(fits)}" if fits else "it does for no role as it is"
        raise ConfigError(
            f"which role is it? {which}: expected tunnelkit {command} ROLE --config FILE"
        )
    return options_for(known[fits[0]])()
