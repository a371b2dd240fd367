"""Users: they log in, look at pages, click, and log out; everything between carries the session's id."""

from random import Random

from analytics_pipeline.simulator.agenda import Agenda
from analytics_pipeline.simulator.envelope import SECOND, USERS, Draft

MINUTE = 60 * SECOND
POPULATION = 160
CROWD = 45
"""Sessions that are open at the same time, about."""

PAGES = {
    "/dashboard": ("refresh", "range-1h", "range-24h", "export-csv"),
    "/orders": ("cancel-order", "filter-symbol", "next-page"),
    "/positions": ("close-position", "sort-pnl"),
    "/strategies": ("start-strategy", "stop-strategy", "edit-parameters"),
    "/markets": ("watch-symbol", "chart-1m", "chart-1h"),
    "/account": ("deposit", "withdraw", "change-password"),
    "/alerts": ("acknowledge", "mute"),
}
PATHS = tuple(PAGES)


class Session:
    """One login; `page` is where its user is."""

    __slots__ = ("page", "session_id", "user_id")

    def __init__(self, user_id: str, session_id: str) -> None:
        self.user_id = user_id
        self.session_id = session_id
        self.page = "/login"

    def draft(self, event_type: str, **properties: str) -> Draft:
        """An event of this session."""
        return Draft(USERS, self.user_id, event_type, properties, self.user_id, self.session_id)


class Crowd:
    """All users; one has at most one session at a time. `stretch` lengthens sessions at very low rates."""

    def __init__(self, random: Random, agenda: Agenda, *, now: int, stretch: float) -> None:
        self._random = random
        self._agenda = agenda
        self._stretch = stretch
        self._away = [f"user-{n:03d}" for n in range(1, POPULATION + 1)]
        self._sessions: list[Session] = []
        for n in range(CROWD):
            agenda.add(now + int(n * SECOND * 0.4 * stretch), self._log_in)

    def act(self, _now: int) -> Draft | None:
        """Somebody looks at a page or clicks; nothing if nobody is there."""
        sessions = self._sessions
        if not sessions:
            return None
        random = self._random
        session = sessions[int(random.random() * len(sessions))]
        if session.page == "/login" or random.random() < 0.6:
            session.page = PATHS[int(random.random() * len(PATHS))]
            return session.draft("page.view", page=session.page)
        elements = PAGES[session.page]
        return session.draft(
            "button.click", page=session.page, element=elements[int(random.random() * len(elements))]
        )

    def _log_in(self, now: int) -> Draft:
        random = self._random
        user_id = self._away.pop(int(random.random() * len(self._away)))
        session = Session(user_id, f"sess-{random.getrandbits(64):016x}")
        self._sessions.append(session)
        stay = int(random.lognormvariate(0, 0.7) * 12 * MINUTE * self._stretch)
        self._agenda.add(now + max(SECOND, stay), lambda time: self._log_out(session, time))
        return session.draft("user.login", page="/login")

    def _log_out(self, session: Session, now: int) -> Draft:
        self._sessions.remove(session)
        self._away.append(session.user_id)
        pause = int(self._random.expovariate(1 / 20) * SECOND * self._stretch)
        self._agenda.add(now + SECOND + pause, self._log_in)
        return session.draft("user.logout", page=session.page)
