"""The master's workers, together: they begin as one, take a policy as one, and each that dies is replaced.

- Two phases: nobody commits before everybody has prepared; one refusal, and all keep what they had.
- While a policy is changed nobody is replaced, and the other way round: a new worker begins with the policy in force.
- A worker that dies is replaced on the same sockets, at once; where they die young, after a wait that doubles.
- One that has not reported for SILENCE seconds serves nobody: it is killed, and so replaced.
"""

import asyncio
import contextlib
import os
import pickle
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Final

from proxy.policy.policy import Policy
from proxy.server.binding import Bound
from proxy.server.journal import JOURNAL
from proxy.server.listening import Key, share
from proxy.server.load import LoadRefused
from proxy.server.member import Member, WorkerDied
from proxy.server.orders import Abandon, Commit, Drain, Refused, Reported
from proxy.server.sharing import shared_out

PATIENCE: Final = 60.0
"""Seconds that a worker may take to begin, or to open a policy."""

SWAP: Final = 10.0
"""Seconds that a worker may take to say that it has committed; it takes a turn of its loop."""

YOUNG: Final = 10.0
"""A worker that did not live for so many seconds is replaced later and later."""

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 10.0
"""Seconds until one that died young is replaced: from, to."""

SILENCE: Final = 30.0
"""Seconds without a report. They come each second."""

OVERTIME: Final = 5.0
"""Seconds past the grace time until a worker that drains is killed."""

Plan = Mapping[Key, tuple[str, tuple[Bound, ...]]]
"""All sockets of a policy, as `Sockets` prepared them."""


class Crew:
    """So many workers.

    reported(serial, report): each report. gone(serial): that worker's process has ended. attach(descriptor): where a
    new worker's access log can be read. restarted: how often a worker was replaced.
    """

    def __init__(
        self,
        size: int,
        processors: list[int],
        attach: Callable[[int], None],
        reported: Callable[[int, Reported], None],
        gone: Callable[[int], None],
    ) -> None:
        self.size = size
        self.restarted = 0
        self._loop = asyncio.get_running_loop()
        self._processors = processors
        self._attach = attach
        self._reported = reported
        self._gone = gone
        self._members: dict[int, Member] = {}
        self._alive: set[Member] = set()
        self._waits: dict[int, float] = {}
        self._serial = 0
        self._quiet = asyncio.Lock()
        self._ending = False
        self._plan: Plan = {}
        self._policy = self._next = b""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def living(self) -> int:
        """How many workers serve."""
        return len(self._members)

    def pids(self) -> list[int]:
        """Their processes, in the order of their seats."""
        return [self._members[seat].pid for seat in sorted(self._members)]

    # -- policies

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Nobody is replaced meanwhile."""
        async with self._quiet:
            yield

    async def begin(self, policy: Policy, plan: Plan) -> None:
        """Start all and have them serve. Raises LoadRefused, and none lives then."""
        self._plan, self._policy = plan, self._pickled(policy)
        async with self.quiet():
            try:
                members = await asyncio.gather(*(self._start(seat) for seat in range(self.size)))
                await self._prepare_all(members)
                if not await self._commit_all(members):
                    raise LoadRefused(("a worker ended before it served",))
            except BaseException:
                self.kill()
                raise
            for member in members:
                self._members[member.seat] = member
                self._do(self._watch(member))

    async def prepare(self, policy: Policy, plan: Plan) -> None:
        """Have all open a policy. Raises LoadRefused, and nothing has changed. Within `quiet`."""
        self._next = self._pickled(policy)
        members = list(self._members.values())
        for member in members:
            member.lend(share(plan, member.seat, self.size))
        await self._prepare_all(members, self._next)

    async def commit(self, plan: Plan) -> None:
        """Put in force what was prepared; done when all have said so. Within `quiet`."""
        self._plan, self._policy = plan, self._next
        members = list(self._members.values())
        for member in members:
            member.keys = set(plan)
        await self._commit_all(members)

    def abandon(self) -> None:
        """Forget what was prepared. Within `quiet`."""
        for member in self._members.values():
            member.tell(Abandon())

    async def _prepare_all(self, members: list[Member], policy: bytes | None = None) -> None:
        said = await asyncio.gather(*(self._prepare(each, policy or self._policy) for each in members))
        refused = next((each for each in said if isinstance(each, Refused)), None)
        if refused is not None:
            for member in members:
                member.tell(Abandon())
            raise LoadRefused(refused.mistakes)

    async def _prepare(self, member: Member, policy: bytes) -> Refused | None:
        try:
            async with asyncio.timeout(PATIENCE):
                found = await member.prepare(policy)
        except TimeoutError:
            return Refused((f"worker {member.pid} did not open the policy within {PATIENCE:g} seconds",))
        except WorkerDied:
            return Refused((f"worker {member.pid} ended while it opened the policy",))
        return found if isinstance(found, Refused) else None

    async def _commit_all(self, members: list[Member]) -> bool:
        """Whether all have. Whoever replaces one that has not, begins with this policy."""
        for member in members:
            member.tell(Commit())
        return all(await asyncio.gather(*map(self._committed, members)))

    async def _committed(self, member: Member) -> bool:
        try:
            async with asyncio.timeout(SWAP):
                await member.answers()
                return True
        except TimeoutError:
            JOURNAL.error("worker %d did not take the policy within %g seconds: it is ended", member.pid, SWAP)
            member.kill()
        except WorkerDied:
            pass
        return False

    def _pickled(self, policy: Policy) -> bytes:
        # A fresh copy: what was compiled of a policy cannot travel.
        return pickle.dumps(replace(shared_out(policy, self.size)), protocol=pickle.HIGHEST_PROTOCOL)

    # -- lives

    async def _start(self, seat: int) -> Member:
        self._serial += 1
        member = Member(self._serial, seat, self._loop, self._reported)
        processor = self._processors[seat % len(self._processors)] if self._processors else None
        try:
            self._attach(await member.begin(processor))
        except OSError as error:
            raise LoadRefused((f"no worker can be started: {os.strerror(error.errno or 0).lower()}",)) from error
        self._alive.add(member)
        self._do(self._outlive(member))
        member.lend(share(self._plan, seat, self.size))
        member.keys = set(self._plan)
        return member

    async def _outlive(self, member: Member) -> None:
        await member.process.wait()
        self._alive.discard(member)
        member.close()
        self._gone(member.serial)

    async def _watch(self, member: Member) -> None:
        """Wait for a worker's end, and replace it unless it was told to."""
        status = await member.process.wait()
        del self._members[member.seat]
        if self._ending:
            return
        JOURNAL.error("worker %d ended (%s): its connections are lost", member.pid, _ending_text(status))
        if self._loop.time() - member.began >= YOUNG:
            self._waits.pop(member.seat, None)
        while not self._ending:
            wait = self._waits.get(member.seat, 0.0)
            self._waits[member.seat] = min(2 * wait or FIRST_WAIT, LONGEST_WAIT)
            await asyncio.sleep(wait)
            if self._ending or await self._replace(member.seat):
                return

    async def _replace(self, seat: int) -> bool:
        async with self.quiet():
            try:
                member = await self._start(seat)
            except LoadRefused as refused:
                return _not_replaced(refused)
            try:
                await self._prepare_all([member])
                if not await self._commit_all([member]):
                    raise LoadRefused((f"worker {member.pid} ended before it served",))
            except LoadRefused as refused:
                member.kill()
                return _not_replaced(refused)
            if self._ending:
                member.kill()
                return True
            self._members[seat] = member
            self.restarted += 1
            self._do(self._watch(member))
            JOURNAL.info("worker %d serves in its place", member.pid)
            return True

    def look(self) -> bool:
        """Kill who has been silent; whether all that should live do, and have reported of late."""
        now = self._loop.time()
        for member in self._members.values():
            if now - member.heard > SILENCE:
                JOURNAL.error("worker %d has not reported for %g seconds: it is ended", member.pid, SILENCE)
                member.kill()
        return all(now - member.heard <= SILENCE for member in self._members.values())

    async def report(self, within: float) -> None:
        """Have all report now; who does not within so many seconds has its last report stand."""
        asked = [self._loop.create_task(member.report()) for member in self._members.values()]
        if asked:
            _, late = await asyncio.wait(asked, timeout=within)
            for task in late:
                task.cancel()

    # -- the end

    async def drain(self, grace: float) -> None:
        """Have all finish within so many seconds, and wait for their end."""
        self._ending = True
        members = list(self._members.values())
        for member in members:
            member.tell(Drain(grace))
        ends = [self._loop.create_task(_ended(member)) for member in members]
        if ends:
            _, late = await asyncio.wait(ends, timeout=grace + OVERTIME)
            if late:
                self.kill()
                await asyncio.wait(late)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hurry(self) -> None:
        """Have those that drain end now."""
        for member in self._members.values():
            member.tell(Drain(0.0))

    def kill(self) -> None:
        """End every worker at once."""
        self._ending = True
        for member in self._alive:
            member.kill()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ended(member: Member) -> None:
    await member.process.wait()


def _not_replaced(refused: LoadRefused) -> bool:
    for mistake in refused.mistakes:
        JOURNAL.error("%s", mistake)
    JOURNAL.error("a worker could not be replaced; tried again")
    return False


def _ending_text(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
