"""The policies that truth_table.txt speaks of, and its reader."""

from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from proxy.policy.facts import UNKNOWN, Facts
from proxy.policy.rules import DataClass, Rule
from tests.policy.samples import ANY, a_policy, a_provider, operator, provider, some_zones, term, when, zone


def at(text):
    return datetime.fromisoformat(text).timestamp()


USUAL = {
    "time": "2026-06-01T00:00:00+00:00",
    "host": "storage.example",
    "path": "/docs/1",
    "method": "GET",
    "listener": "edge",
    "client": "192.0.2.1",
    "source": "jwt",
    "actor": "subject",
    "ech": "false",
    "upgrade": "false",
}

# The model case of the design: a state-run telecom carries mainland China, and nobody else.
MODEL = a_policy(
    some_zones(cn_mainland=["CN"], eu=["EEA"], elsewhere="*"),
    [
        a_provider("china-telecom", "China Telecom", "cn-mainland"),
        a_provider("ct-candidate", "China Telecom", "cn-mainland"),
        a_provider("own-cloud", "Example Inc", "elsewhere"),
        a_provider("own-eu", "Example Inc", "eu"),
    ],
    [
        Rule(
            "mainland",
            when(home="cn-mainland"),
            allow=(term(zones=["cn-mainland"], operators=["China Telecom"]),),
            because="PIPL art. 40, CSL art. 37",
        ),
        Rule(
            "europe",
            when(home="eu"),
            allow=(
                *zone("eu"),
                term(zones=["elsewhere"], operators=["Example Inc"], until=at("2031-12-27T00:00:00+00:00")),
            ),
        ),
        Rule("everyone-else", when(home="elsewhere"), allow=zone("elsewhere")),
        Rule(
            "support-reads-only",
            when(home="eu", actor="support", method="write"),
            unless=when(country="EEA"),
            forbid=ANY,
        ),
        Rule(
            "european-payments",
            when(home="eu", data_class="payment"),
            only=zone("eu"),
            from_=at("2027-01-01T00:00:00+08:00"),
        ),
    ],
    classes=(DataClass("payment", when(path="/pay/*")),),
)

# Russia since July 2025: the first write is at home; a mirror abroad is another permission.
RUSSIA = a_policy(
    some_zones(russia=["RU"], abroad="*"),
    [a_provider("moscow", "Yandex", "russia"), a_provider("cloud", "Example Inc", "abroad")],
    [
        Rule("russians", when(home="russia"), allow=zone("russia", "abroad")),
        Rule(
            "primary-record",
            when(home="russia", method="write"),
            unless=when(path="/mirror/*"),
            only=zone("russia"),
            from_=at("2025-07-01T00:00:00+03:00"),
            because="152-FZ art. 18 (5)",
            authority="https://rkn.example",
        ),
    ],
)

# India: payment data is in India only. Nothing else is bound.
INDIA = a_policy(
    some_zones(india=["IN"], abroad="*"),
    [a_provider("mumbai", "Example Inc", "india"), a_provider("cloud", "Example Inc", "abroad")],
    [
        Rule("indians", when(home="india"), allow=ANY),
        Rule("payments", when(data_class=["payment"]), only=zone("india"), because="RBI 2018"),
        Rule("others", when(home="abroad"), allow=zone("abroad")),
    ],
    classes=(
        DataClass("payment", when(path="/pay/*"), unless=when(path="/pay/help")),
        DataClass("payment-support", when(path="/pay/*")),
        DataClass("mail", when(host="*.mail.example")),
    ),
)

# Korea: a regulator stops the transfer to one operator, now; the law of another day is untouched.
KOREA = a_policy(
    some_zones(korea=["KR"], abroad="*"),
    [
        a_provider("seoul", "Naver", "korea"),
        a_provider("cloud", "Example Inc", "abroad"),
        a_provider("other-cloud", "Other Inc", "abroad"),
    ],
    [
        Rule("koreans", when(home="korea"), allow=zone("abroad")),
        Rule("stop", when(home="korea"), forbid=operator("Example Inc"), authority="https://pipc.example"),
        Rule("stop-all", when(home="korea", listener="corridor"), forbid=zone("abroad")),
    ],
)

# Signing in comes before anybody is known; two laws that cannot both be kept; a law without a provider.
MIXED = a_policy(
    some_zones(eu=["EU"], uk=["GB"], swiss=["CH"], rest="*"),
    [
        a_provider("frankfurt", "Example Inc", "eu"),
        a_provider("london", "Example Inc", "uk"),
        a_provider("virginia", "Example Inc", "rest"),
    ],
    [
        Rule("sign-in", when(home=UNKNOWN, path="/login"), allow=zone("eu")),
        Rule("anywhere", when(path="/public/*"), allow=zone("eu")),
        Rule("europeans", when(home="eu"), allow=zone("eu", "uk")),
        Rule("adequacy", when(home="eu"), only=(*zone("eu"), *zone("uk", until=at("2031-12-27T00:00:00+00:00")))),
        Rule("health-at-home", when(home="eu", path="/health/*"), only=zone("uk"), authority="https://nhs.example"),
        Rule("secrets-at-home", when(path="/secret/*"), only=zone("eu"), authority="https://cnil.example"),
        Rule("british", when(home="uk"), allow=zone("uk")),
        Rule("british-secrets", when(home="uk", path="/secret/*"), only=zone("uk")),
        Rule("swiss", when(home="swiss"), allow=zone("swiss")),
        Rule("no-tor", when(country="unknown", path="/admin/*"), forbid=ANY),
        Rule(
            "office", when(home="rest"), unless=when(client=["10.0.0.0/8", "2001:db8::/32"], path="/raw/*"), allow=ANY
        ),
        Rule("hidden-names", when(ech=True), only=zone("rest")),
        Rule("embargo", when(country=["RU", "BY"]), forbid=provider("virginia")),
    ],
)

POLICIES = {"model": MODEL, "russia": RUSSIA, "india": INDIA, "korea": KOREA, "mixed": MIXED}


def facts_of(pairs):
    """Facts from `key=value` pairs, the rest as in USUAL; `-` is not known."""
    values = USUAL | dict(pair.split("=", 1) for pair in pairs.split())
    values = {key: None if value == "-" else value for key, value in values.items()}
    values["time"] = at(values["time"])
    values["client"] = values["client"] and ip_address(values["client"])
    for key in ("ech", "upgrade"):
        values[key] = {"true": True, "false": False, None: None}[values[key]]
    return Facts(**values)


def read_table():
    """(situation, policy, facts, outcome) of each line."""
    lines = Path(__file__).with_name("truth_table.txt").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line and not line.startswith("#")]
    return [(situation, POLICIES[policy], facts_of(facts), outcome) for situation, policy, facts, outcome in rows]


TABLE = read_table()
