"""The service that twistd runs: a role, its log, and an orderly end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python.components import Componentized

from tunnelkit.errors import ConfigError
from tunnelkit.interfaces import IEndService, IKeepsFiles, IRenewsKeys, IServesPages, IUnlocks
from tunnelkit.net.role_status import RoleStatus
from tunnelkit.net.sockets.descriptors import raise_limit
from tunnelkit.net.sockets.loop_poller import take_over
from tunnelkit.net.sockets.timer import use_monotonic_clock
from tunnelkit.services.audit import Audit, AuditFile, CheckpointFile
from tunnelkit.services.collector import keep_all_that_is_there
from tunnelkit.services.control import Commands, ControlService, OpenBench, bench_through
from tunnelkit.services.control_places import link_to, new_place, own_directory
from tunnelkit.services.last_problem import LastProblem
from tunnelkit.services.logs import LineObserver, Writer, observer_for
from tunnelkit.services.notify import Notifier
from tunnelkit.services.options import RoleOptions, exit_with
from tunnelkit.services.reload import Reloader
from tunnelkit.services.repeats import Repeats

if TYPE_CHECKING:
    from tunnelkit.services.status_port import StatusService

_log = Logger()

ANSWERED = 0.25
"""Seconds until whoever has told a role to end has read the answer."""


def role_service(role: Any, options: RoleOptions) -> RoleService:
    """The service of ``role`` (an `IProxyRole`) as its options configure it.

    Its ports are opened now, before twistd goes to the background, so that
    whoever started it is told in one line, with status 2, when one is taken.
    """
    from twisted.internet import reactor

    check_libraries_or_exit(options.tapname)
    use_monotonic_clock(reactor)
    take_over(reactor)
    most = raise_limit()
    problem = LastProblem()
    try:
        service = role.make_service(reactor, options.config)
        if options.grace is not None:
            service.grace = options.grace
        observer = observer_for(
            {} if options.parent is None else options.parent, options.log_as_json
        )
        if observer is not None:
            tunnel = service.tunnel.name if IEndService.providedBy(service) else ""
            # Usher and the Secure Proxy give their tunnels no name.
            named = tunnel if options.settings.one("tunnel") is not None else ""
            observer.writer = Writer(options.tapname, named)
            observer.front = Repeats(reactor, observer, problem)
        reloader = Reloader(reactor, options, service)
        status = partial(status_of, service, problem)
        pages = status_service(reactor, options, service, reloader, status)
        known = {**role_commands(service, status), "page": pages.page if pages else _no_page}
        bench = bench_through(service.tunnel) if IEndService.providedBy(service) else None
        renews = IRenewsKeys(service, None)
        control = control_service(reactor, options, known, bench, IUnlocks(service, None), renews)
        audit = make_audit(reactor, options, service)
    except ConfigError as error:
        exit_with(options.tapname, error)
    _log.info("This process may have {most} descriptors", most=most)
    # Where there is an observer it tells of warnings; otherwise the publisher does, of everything.
    seeing = problem if observer is None else None
    running = RoleService(reactor, service, observer, reloader, audit, seeing)
    for part in (control, pages):
        if part is not None:
            IService(part).setServiceParent(running)
    return running


def control_service(
    reactor: Any,
    options: RoleOptions,
    commands: Commands,
    open_bench: OpenBench | None,
    unlocks: IUnlocks | None = None,
    renews: IRenewsKeys | None = None,
) -> ControlService | None:
    """Where ``--control`` says and where `tunnelkit status` looks by itself; None: there is
    neither. Raises `ConfigError`."""
    directory = own_directory(os.environ)
    if options.control_path:
        control = ControlService(
            reactor, options.control_path, commands, open_bench, unlocks, renews
        )
        if directory is not None:
            control.link = link_to(options.control_path, options.tapname, directory)
        return control
    if directory is None:
        return None
    try:
        place = new_place(options.tapname, directory)
        return ControlService(reactor, place, commands, open_bench, unlocks, renews)
    except ConfigError:
        # Nobody has asked for it: a path that is too long, a disk that is full.
        return None


def status_service(
    reactor: Any,
    options: RoleOptions,
    service: Any,
    reloader: Reloader,
    status: Callable[[], RoleStatus],
) -> StatusService | None:
    """What ``--status`` asks for, and the same for a role that has a port for that anyway; None:
    nothing. Raises `ConfigError`.
    """
    if not (options.status_places or IServesPages.providedBy(service)):
        return None
    # It takes a web server, which other roles need not load.
    from tunnelkit.services.status_port import StatusService
    from tunnelkit.services.steering import Steering

    steering = Steering(service, reloader, partial(reactor.callLater, ANSWERED, stop, reactor))
    places = options.status_places
    return StatusService(reactor, options.tapname, service, places, steering, status)


def _no_page() -> dict[str, object]:
    return {"pages": []}


def stop(reactor: Any) -> None:
    """Begin the orderly end of this process."""
    try:
        reactor.stop()
    except ReactorNotRunning:
        pass


def status_of(service: Any, problem: LastProblem) -> RoleStatus:
    """Of an `IRoleService`, as everybody is shown it who asks this process."""
    status: RoleStatus = service.status()
    return problem.put_into(status)


def role_commands(service: Any, status: Callable[[], RoleStatus]) -> Commands:
    """What ``service`` (an `IRoleService`) can be told, ``status`` among it."""
    return {"status": lambda: status().as_mapping(), **service.commands()}


def make_audit(reactor: Any, options: RoleOptions, service: Any) -> Audit | None:
    """What ``--audit`` and ``--checkpoints`` ask for; None: nothing. Raises `ConfigError`."""
    if not (options.audit_path or options.checkpoints_path):
        return None
    tunnel = service.tunnel if IEndService.providedBy(service) else None
    kept = None
    if options.checkpoints_path:
        if tunnel is None:
            raise ConfigError("--checkpoints: this role has no other end: expected none here")
        kept = CheckpointFile(reactor, options.checkpoints_path)
    file = AuditFile(options.audit_path) if options.audit_path else None
    return Audit(reactor, file, tunnel, options.checkpoint_place, kept)


def check_libraries_or_exit(program: str) -> None:
    """End with status 2 if a library is one of those that are known to be broken (X22)."""
    from tunnelkit.services.libraries import check_libraries

    try:
        check_libraries()
    except ConfigError as error:
        exit_with(program, error)


class RoleService(MultiService):
    """Holds the role's service; SIGTERM and SIGINT drain it, a second one ends at once.

    SIGHUP reads the settings again. It and SIGUSR1 open log files anew that were moved away;
    SIGUSR1 moves the log away where nobody has, as it does with twistd's own services.
    """

    def __init__(
        self,
        reactor: Any,
        service: Any,
        observer: LineObserver | None,
        reloader: Reloader,
        audit: Audit | None = None,
        problem: LastProblem | None = None,
    ) -> None:
        MultiService.__init__(self)
        self._reactor = reactor
        self._observer = observer
        self._problem = problem
        self._signals = 0
        self._reloader = reloader
        self._notifier = Notifier(reactor)
        self._role = service
        self._audit = audit
        for part in (service, reloader, audit):
            if part is not None:
                IService(part).setServiceParent(self)

    def setServiceParent(self, parent: Any) -> None:
        """Also gives twistd's application the log observer, which it asks for next."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer.front)
        MultiService.setServiceParent(self, parent)

    def startService(self) -> None:
        """Take over the signals from the reactor, which sets its own when it begins to run, then
        start the role: once a role says READY it can be told to end."""
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        self._take_signals()
        if self._problem is not None:
            globalLogPublisher.addObserver(self._problem)
        MultiService.startService(self)
        self._notifier.ready()
        keep_all_that_is_there()

    def stopService(self) -> Deferred[None]:
        """Fires once the role has drained, or its grace period is over."""
        self._notifier.stopping()
        stopping: Deferred[None] = MultiService.stopService(self)
        _log.info("Ending: nothing new is taken, what is open may finish")
        return stopping.addBoth(self._over)

    def _over(self, result: Any) -> Any:
        self._notifier.over()
        if self._problem is not None:
            globalLogPublisher.removeObserver(self._problem)
        if self._observer is not None and isinstance(self._observer.front, Repeats):
            self._observer.front.close()
        if self._audit is not None:
            self._audit.over()
        return result

    def _take_signals(self) -> None:
        # The reactor's own handler would make twistd die of the signal after the drain; a role
        # that was told to end and did so has succeeded: status 0.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, self._hung_up)
        signal.signal(signal.SIGUSR1, self._rotate)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reopen, False)
        self._reactor.callFromThread(self._reload)

    def _reload(self) -> None:
        self._notifier.reloading()
        self._reloader.reload()
        self._notifier.reloaded()

    def _rotate(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reopen, True)

    def _reopen(self, rotate: bool) -> None:
        if self._observer is not None:
            self._observer.reopen(rotate)
        if self._audit is not None:
            self._audit.reopen()
        if IKeepsFiles.providedBy(self._role):
            try:
                self._role.reopen()
            except ConfigError as error:
                _log.error("{why}", why=str(error))

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._reactor.callFromThread(self._stop)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def _stop(self) -> None:
        stop(self._reactor)
