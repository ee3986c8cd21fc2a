"""Reading the settings again while a role runs (row O3, figure R9)."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from tunnelkit.errors import ConfigError
from tunnelkit.policy.settings import Settings
from tunnelkit.policy.stamp import stamp
from tunnelkit.roles.credential_watch import INTERVAL
from tunnelkit.services.options import RoleOptions

_log = Logger()


class Reloader(Service):
    """Hands new settings to a running role; looks each second whether their file has changed.

    ``role`` has ``reload(config)``, which puts in force what can change and
    returns that in words, or raises `ConfigError` and changes nothing.
    """

    def __init__(self, reactor: Any, options: RoleOptions, role: Any) -> None:
        self._options = options
        self._role = role
        self._begun_with = options.settings
        self._seen = self._stamp()
        self._loop = LoopingCall(self._look)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Look at the file from now on, if there is one."""
        Service.startService(self)
        self._options.starting = False
        if self._options.config_file:
            self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        """Change nothing any more."""
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    def reload(self) -> dict[str, object]:
        """Read everything again: all of what can change is taken over, or nothing.

        What came of it: ``reloaded``, and ``what`` in words.
        """
        if not self.running:
            return {"reloaded": False, "what": "this role is ending"}
        self._seen = self._stamp()
        try:
            settings = self._options.read_settings()
            changes = self._role.reload(self._options.make_config(settings))
        except ConfigError as error:
            _log.error("Not reloaded, all is as before: {why}", why=str(error), log_always=True)
            return {"reloaded": False, "what": str(error)}
        self._tell_what_needs_a_restart(settings)
        what = "; ".join(changes) or "nothing new"
        _log.info("Reloaded: {what}", what=what)
        return {"reloaded": True, "what": what}

    def _tell_what_needs_a_restart(self, settings: Settings) -> None:
        for name in self._begun_with.differing(settings):
            if name not in self._options.live:
                given = settings.one(name)
                place = given.where if given is not None else f"--{name}"
                _log.warn(
                    "{place}: has changed, which needs a restart", place=place, log_always=True
                )

    def _look(self) -> None:
        if self._stamp() != self._seen:
            self.reload()

    def _stamp(self) -> tuple[int, int, int] | None:
        file = self._options.config_file
        return stamp(file) if file else None
