"""Country databases whose files are replaced while they are in use.

- Files are looked at off the loop, and one that changed is read once it stayed the same from one look to the next:
  whoever writes it in place is given the time to finish.
- What cannot be used (missing, damaged, of the future) or is older than what is in use is refused, once, and what is in
  use stays, until its own max_age ends it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.identity.country import Countries, Slot, is_older
from proxy.identity.database import Database, FileState, Unready, file_state, open_database
from proxy.identity.refused import SourceRefused


@dataclass(frozen=True, slots=True)
class Renewed:
    """What came of a changed file. problem: why it was refused, None where it is in use now.

    built: when what is in use now was made, in epoch seconds.
    """

    name: str
    built: float | None
    problem: str | None


async def renew(countries: Countries, now: float) -> list[Renewed]:
    """Look at the databases' files once. Called on the loop, one call at a time, every few seconds.

    now: seconds since the epoch, against which the date of a new database is checked.
    """
    slots = [slot for slot in countries.slots if slot.path is not None]
    if not slots:
        return []
    came: list[Renewed] = []
    for slot, state in zip(slots, await asyncio.to_thread(_states, slots), strict=True):
        settled, slot.seen = state == slot.seen, state
        if not settled or state in (slot.database.file, slot.refused):
            continue
        found = await asyncio.to_thread(_opened, slot, now)
        if found is None:
            continue
        if isinstance(found, Database):
            countries.replace(slot, found)
            slot.refused = found.file
            slot.replacements.loaded += 1
            came.append(Renewed(slot.name, found.built, None))
        else:
            slot.refused = state
            slot.replacements.refused += 1
            came.append(Renewed(slot.name, slot.database.built, found))
    return came


def _states(slots: Sequence[Slot]) -> list[FileState | None]:
    return [None if slot.path is None else file_state(slot.path) for slot in slots]


def _opened(slot: Slot, now: float) -> Database | str | None:
    """The new database, why it is refused, or None where the next look may find out."""
    if slot.path is None:
        return None
    try:
        database = open_database(slot.path, now)
    except Unready:
        return None
    except SourceRefused as refused:
        return str(refused)
    if is_older(database, slot.database):
        return f"{slot.path}: it is older than the database in use"
    return database
