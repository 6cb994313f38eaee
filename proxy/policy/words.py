"""Facts and times in the policy file's words."""

from collections.abc import Container
from datetime import UTC, datetime

from proxy.policy.facts import Facts


def worded(facts: Facts, keys: Container[str]) -> str:
    """The home, the time and, of the facts that are known, those that `keys` names (as Condition does), as pairs."""
    pairs = {
        "home": facts.home,
        "country": facts.country,
        "data_class": facts.data_class,
        "host": facts.host,
        "path": facts.path,
        "method": f"{facts.method} (upgrade)" if facts.method and facts.upgrade else facts.method,
        "listener": facts.listener,
        "client": facts.client,
        "source": facts.source,
        "actor": facts.actor,
        "ech": None if facts.ech is None else str(facts.ech).lower(),
        "time": moment(facts.time),
    }
    shown = (
        (key, value) for key, value in pairs.items() if value is not None and (key in ("home", "time") or key in keys)
    )
    return ", ".join(f"{'class' if key == 'data_class' else key} {value}" for key, value in shown)


def moment(time: float) -> str:
    """A time (seconds since the epoch) as a policy file would write it, in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
