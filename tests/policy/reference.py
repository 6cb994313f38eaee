"""What DESIGN.md says of deciding, word by word: no index, no cleverness. The fast one is held against this.

Three answers: True, False, and None for what is not known.
"""

from proxy.policy.facts import READING_METHODS, UNCLASSIFIED, UNKNOWN

KEYS = ("home", "country", "data_class", "host", "path", "method", "listener", "client", "source", "actor", "ech")


def host_matches(pattern, host):
    # "*.suffix": any depth, not the suffix itself
    return host.endswith(pattern[1:]) and host != pattern[1:] if pattern.startswith("*.") else host == pattern


def path_matches(pattern, path):
    # /p/*: /p, /p/ and all below; case counts
    return path == pattern[:-2] or path.startswith(pattern[:-1]) if pattern.endswith("/*") else path == pattern


def method_matches(word, method, upgrade):
    # names; read is GET, HEAD, OPTIONS; write all else and every upgrade
    reads = method in READING_METHODS and not upgrade
    return reads if word == "read" else not reads if word == "write" else word == method


def client_matches(network, client):
    client = getattr(client, "ipv4_mapped", None) or client
    return client.version == network.version and client in network


def key_matches(key, wanted, facts, classes):
    if key == "data_class":
        answers = {each in wanted for each in classes}
        return answers.pop() if len(answers) == 1 else None
    value = getattr(facts, key)
    if value is None or (key == "country" and value == UNKNOWN and UNKNOWN not in wanted):
        return None
    match key:
        case "host":
            return any(host_matches(each, value) for each in wanted)
        case "path":
            return any(path_matches(each, value) for each in wanted)
        case "method":
            return any(method_matches(each, value, facts.upgrade) for each in wanted)
        case "client":
            return any(client_matches(each, value) for each in wanted)
        case "ech":
            return value == wanted
    return value in wanted


def matches(condition, facts, classes):
    """Every key must match, any value of a list will do."""
    answers = [
        key_matches(key, getattr(condition, key), facts, classes) for key in KEYS if getattr(condition, key) is not None
    ]
    return False if False in answers else None if None in answers else True


def surely(each, facts, classes):
    canceled = False if each.unless is None else matches(each.unless, facts, classes)
    return matches(each.when, facts, classes) is True and canceled is False


def maybe(each, facts, classes):
    canceled = False if each.unless is None else matches(each.unless, facts, classes)
    return matches(each.when, facts, classes) is not False and canceled is not True


def classes_of(policy, facts):
    """The classes that are possible: first match, else unclassified."""
    if facts.data_class is not None:
        return {facts.data_class}
    possible = set()
    for each in policy.classes:
        if maybe(each, facts, {object(), each.name}):  # what class it is, is not known here
            possible.add(each.name)
        if surely(each, facts, {object(), each.name}):
            return possible
    return possible | {UNCLASSIFIED}


def in_force(dated, time):
    return not (dated.from_ is not None and time < dated.from_) and not (
        dated.until is not None and time >= dated.until
    )


def fits(selector, provider, time):
    def described(term):
        return (
            (term.zones is None or provider.zone in term.zones)
            and (term.operators is None or provider.operator in term.operators)
            and (term.providers is None or provider.name in term.providers)
        )

    return any(in_force(term, time) and described(term) for term in selector)


def decide(policy, facts):
    """(reason or None, names of the permitted, names of the rules that applied, names of the laws of a denial)."""
    classes = classes_of(policy, facts)
    now = facts.time
    rules = [rule for rule in policy.rules if in_force(rule, now)]
    narrowing = [rule for rule in rules if maybe(rule, facts, classes)]
    granting = [rule for rule in rules if rule.allow is not None and surely(rule, facts, classes)]
    if facts.home == UNKNOWN:
        granting = [rule for rule in granting if rule.when.home is not None and UNKNOWN in rule.when.home]

    def left_out(rule, provider):
        return any(each is not None and not fits(each, provider, now) for each in (rule.allow, rule.only))

    def forbidden(rule, provider):
        return rule.forbid is not None and fits(rule.forbid, provider, now)

    granted = [p for p in policy.providers if any(fits(rule.allow, p, now) for rule in granting)]
    left = [p for p in granted if not any(left_out(rule, p) for rule in narrowing)]
    permitted = [p for p in left if not any(forbidden(rule, p) for rule in narrowing)]
    laws = []
    if facts.home != UNKNOWN and facts.home not in {zone.name for zone in policy.zones}:
        reason, permitted = "no-zone", []
    elif permitted:
        reason = None
    elif not granting:
        reason = "home-unknown" if facts.home == UNKNOWN else "no-rule"
    elif not granted:
        reason, laws = "no-provider", granting
    elif not left:
        reason = "conflict"
        laws = [
            rule
            for rule in policy.rules
            if (rule in narrowing and any(left_out(rule, p) for p in granted))
            or (rule in granting and any(fits(rule.allow, p, now) for p in granted))
        ]
    else:
        reason, laws = "forbidden", [rule for rule in narrowing if any(forbidden(rule, p) for p in left)]
    return (
        reason,
        [p.name for p in permitted],
        [rule.name for rule in narrowing],
        [rule.name for rule in laws],
    )


def route_of(policy, facts):
    """The place of the first route that surely matches."""
    classes = classes_of(policy, facts)
    return next((i for i, route in enumerate(policy.routes) if surely(route, facts, classes)), None)
