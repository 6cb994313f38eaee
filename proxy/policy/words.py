"""Facts and times in the policy file's words."""

from datetime import UTC, datetime

from proxy.policy.facts import Facts


def worded(facts: Facts) -> str:
    """The facts as `key value` pairs, those that are not known left out."""
    pairs = {
        "home": facts.home,
        "country": facts.country,
        "class": facts.data_class,
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
    return ", ".join(f"{key} {value}" for key, value in pairs.items() if value is not None)


def moment(time: float) -> str:
    """A time (seconds since the epoch) as a policy file would write it, in UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
