"""Starts the stack in order, watches it, takes commands, and stops it in order.

Why our own: the libraries looked at fit only in part. honcho starts processes but knows neither readiness nor
restart; supervisord and circus restart, but know no "ready before the next", no ordered stop of a running set with
one status line, and bring a daemon and configuration files of their own. What is left to write is this file and
`runner`.

Belongs here: order. Does not belong here: one service's life (`runner`), what runs (`plan`, `applications`).
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType

import psutil

from analytics_pipeline.errors import EnvironmentFault
from analytics_pipeline.ingest.topics import create_topics
from analytics_pipeline.local_stack import configuration
from analytics_pipeline.local_stack.addresses import refuse_busy
from analytics_pipeline.local_stack.applications import STOP_ORDER, api_and_dagster, ingest, simulator
from analytics_pipeline.local_stack.control import Answer, ControlServer, Refused
from analytics_pipeline.local_stack.dagster_home import create_tables_once
from analytics_pipeline.local_stack.display import Display
from analytics_pipeline.local_stack.first_key import first_key, sentence
from analytics_pipeline.local_stack.past import Past
from analytics_pipeline.local_stack.plan import Plan
from analytics_pipeline.local_stack.processes import Started
from analytics_pipeline.local_stack.pulse import Pulse
from analytics_pipeline.local_stack.reload import RELOADED, on_change
from analytics_pipeline.local_stack.runner import Runner, State
from analytics_pipeline.local_stack.schema import bring_up_to_date
from analytics_pipeline.local_stack.service import Service
from analytics_pipeline.local_stack.state import Record, StateFolder

_TICK = 0.2
_NAMED = 5
"""Most migrations that are told by name."""


class Stopped(Exception):
    """Somebody asked to stop while the stack was starting."""


class Supervisor:
    """One run of the stack; `run` blocks until it was asked to stop."""

    def __init__(
        self,
        folder: StateFolder,
        make_plan: Callable[[], Plan],
        display: Display,
        *,
        reload: bool = False,
        in_background: bool = False,
    ) -> None:
        self._reload = reload
        self._in_background = in_background
        self._folder = folder
        self._make_plan = make_plan
        self._display = display
        self._runners: dict[str, Runner] = {}
        self._record = Record()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._pulse: Pulse | None = None
        self._plan: Plan | None = None
        self._history: Started | None = None

    def run(self) -> None:
        """Start everything, stay until SIGINT, SIGTERM or `down`, stop everything.

        Raises:
            AnalyticsError: something could not be started; all that had started is stopped again.
        """
        self._folder.create()
        with self._folder.lock():
            self._listen_to_signals()
            for name in self._folder.end_left_over():
                self._display.event(name, "was left over from a stack that was killed, and has been stopped")
            self._plan = plan = self._make_plan()
            refuse_busy(plan.used_listeners)
            shutil.rmtree(self._folder.metrics, ignore_errors=True)
            self._folder.create()
            configuration.keep(self._folder)
            control = ControlServer(self.handle)
            me = psutil.Process()
            self._record = Record(
                supervisor=Started(me.pid, me.create_time()),
                control_port=control.port,
                control_key=control.key,
                ports={setting: listener.port for setting, listener in plan.listeners.items()},
                variables=plan.variables(),
                servers_only=plan.servers_only,
            )
            self._write()
            try:
                self._start(plan)
                if self._reload:
                    on_change(self._stop, self._restart_product)
                self._watch()
            except Stopped:
                pass
            finally:
                self._stop_all()
                control.close()
                self._record.supervisor = None
                self._write()

    def _start(self, plan: Plan) -> None:
        began = time.monotonic()
        self._begin(plan.servers)
        if plan.servers_only:
            self._await(*self._runners)
        else:
            self._start_product(plan)
        for runner in self._runners.values():
            runner.is_patient = True
        self._nap()  # from here on a dead service is started again; one that died before is a failed start
        self._display.pause()
        what = f"{', '.join(self._runners)}, and nothing else," if plan.servers_only else "everything"
        is_ready = "are ready" if plan.servers_only and len(self._runners) > 1 else "is ready"
        self._display.say(f"{what} {is_ready} after {time.monotonic() - began:.1f} s")
        self._display.addresses(plan.addresses(), str(self._folder.logs))
        if not (self._in_background or plan.servers_only):
            # in the background, what is said goes into a log: whoever started it tells the key
            self._tell_first_key(plan)
        self._display.say(f"{self._display.how_to_stop} stops everything, in order; nothing is lost.")
        self._record.is_ready = True  # last: who waits for that in front of `up --detach` reads on no further
        self._write()

    def _start_product(self, plan: Plan) -> None:
        self._await("postgres")
        self._display.step("preparing the database")
        migrations, partitions = bring_up_to_date(plan.resolved)
        if migrations or partitions:
            # A new database has all of them: only what an upgrade brings is worth its name.
            names = f" ({', '.join(migrations)})" if 0 < len(migrations) <= _NAMED else ""
            self._display.event("database", f"{len(migrations)} migrations{names}, {partitions} partitions")
        create_tables_once(plan.resolved, plan.folder.dagster)
        self._begin(api_and_dagster(plan))  # they load while Kafka still starts
        self._await("kafka", "redis")
        topic_partitions = create_topics(plan.resolved.kafka) if plan.settings.kafka.enabled else 0
        self._pulse = Pulse(plan.resolved)
        self._pulse.start()
        self._begin([ingest(plan, topic_partitions)])
        self._await(*self._runners)
        if plan.with_simulator:
            past = Past(plan, self._display, self._pulse)
            if past.is_due:
                past.land(self._nap, self._remember_history)
            self._begin([simulator(plan)])
            self._await("simulator")

    def _tell_first_key(self, plan: Plan) -> None:
        if (key := first_key(plan.resolved)) is not None:
            self._display.say(sentence(key))

    def _begin(self, services: Iterable[Service]) -> None:
        for service in services:
            runner = Runner(service, self._folder, self._display.event, self._write)
            self._runners = {**self._runners, service.name: runner}  # others iterate: never changed in place
            runner.request_start()

    def _await(self, *names: str) -> None:
        """Wait for those of `names` that this stack runs."""
        while waiting := [
            name for name in names if name in self._runners and not self._runners[name].is_running
        ]:
            self._display.step(f"starting {', '.join(waiting)}")
            self._nap()

    def _restart_product(self) -> None:
        for name in RELOADED if not self._stop.is_set() else ():
            self._renew_configuration(name)
            self._display.event(name, "its source changed; restarting it")
            self._runners[name].stop()
            self._runners[name].request_start()

    def _renew_configuration(self, name: str) -> None:
        with self._writing:
            problems = configuration.renew(self._folder)
        for problem in problems:
            self._display.event("configuration", f"{problem} ({name} keeps the one it had)")

    def _watch(self) -> None:
        while not self._stop.is_set():
            if self._pulse is not None:
                troubles = {
                    name: str(runner.state) for name, runner in self._runners.items() if not runner.is_running
                }
                self._display.status(self._pulse.latest, troubles)
            self._stop.wait(1.0)

    def _stop_all(self) -> None:
        self._display.pause()
        if self._pulse is not None:
            self._pulse.close()
        if self._runners:
            again = "; press Ctrl-C again to stop at once" if self._display.console.is_terminal else ""
            self._display.say(f"stopping, in order{again}")
        for names in STOP_ORDER:
            group = [self._runners[name] for name in names if name in self._runners]
            threads = [threading.Thread(target=runner.close, daemon=True) for runner in group]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():  # in steps, so that a second Ctrl-C is heard
                    thread.join(_TICK)
        self._record.is_ready = False
        if self._runners:
            self._display.say("everything is stopped")

    def handle(self, request: Answer) -> Answer:
        """Answer one command of `control`.

        Raises:
            AnalyticsError: the text for the person who asked.
        """
        command, name = str(request.get("command")), str(request.get("service", ""))
        if command == "status":
            return self._describe()
        if command == "down":
            self._stop.set()
            return {}
        if not self._record.is_ready or self._stop.is_set():
            raise Refused(
                "the stack is still starting, or stopping: try again when `analytics status` says ready"
            )
        runner = self._runners.get(name)
        if runner is None:
            known = ", ".join(self._runners) or "none yet"
            raise Refused(f"there is no service {name!r}; this stack runs: {known}")
        if command in {"stop", "restart"}:
            runner.stop()
        if command in {"start", "restart"}:
            self._renew_configuration(name)
            runner.start()
        if command not in {"stop", "start", "restart"}:
            raise Refused(f"unknown command {command!r}")
        return {"service": name, **runner.describe()}

    def _describe(self) -> Answer:
        return {
            "is_ready": self._record.is_ready,
            "servers_only": self._record.servers_only,
            "addresses": self._plan.addresses() if self._plan else {},
            "processes": {name: runner.describe() for name, runner in self._runners.items()},
        }

    def _nap(self) -> None:
        """Wait a little while starting; a stop, or any service that died meanwhile, ends the start."""
        if self._stop.wait(_TICK):
            raise Stopped
        for runner in self._runners.values():
            if runner.state is State.FAILED:
                raise EnvironmentFault(runner.error)

    def _remember_history(self, started: Started | None) -> None:
        with self._writing:
            self._history = started
        self._write()

    def _write(self) -> None:
        with self._writing:
            found = {name: runner.started() for name, runner in self._runners.items()} | {
                "history": self._history
            }
            self._record.processes = {name: started for name, started in found.items() if started is not None}
            self._folder.write(self._record)

    def _listen_to_signals(self) -> None:
        def handler(number: int, _: FrameType | None) -> None:
            if self._stop.is_set() and number == signal.SIGINT:
                for runner in self._runners.values():
                    runner.force()
            self._stop.set()

        signal.signal(signal.SIGINT, handler)
        signal.signal(signal.SIGTERM, handler)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: stay when the terminal closes
            signal.signal(signal.SIGHUP, handler)
