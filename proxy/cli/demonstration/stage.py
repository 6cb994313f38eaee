"""Everything that the tour needs, started in order and always taken down."""

import shutil
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.cli.demonstration.accounts import Account, Identity
from proxy.cli.demonstration.authority import Authority
from proxy.cli.demonstration.client import Client, Place
from proxy.cli.demonstration.policy_file import OURS, TELECOM, write_policy
from proxy.cli.demonstration.proxy_process import ProxyProcess, start_proxy
from proxy.cli.demonstration.records import Records
from proxy.cli.demonstration.scrape import Scraper
from proxy.cli.demonstration.storage import Storage
from proxy.config import load

LI_NA = Account("Li Na", "CN")
ANNA = Account("Anna", "DE")
KA_MING = Account("Ka-ming", "HK")
JOE = Account("Joe", "US")
ACCOUNTS = (LI_NA, ANNA, KA_MING, JOE)

BEIJING = Place("Beijing", "219.142.76.3")
SHANGHAI = Place("Shanghai", "116.228.111.118")
HONG_KONG = Place("Hong Kong", "203.198.7.66")
FRANKFURT = Place("Frankfurt", "81.91.170.12")
STANFORD = Place("Stanford", "171.67.215.200")


@dataclass(frozen=True, slots=True)
class Stage:
    """tokens: by account. reasons: the `because` of each rule of the policy, by its name."""

    folder: Path
    policy: Path
    identity: Identity
    tokens: Mapping[Account, str]
    telecom: Storage
    ours: Storage
    proxy: ProxyProcess
    client: Client
    scraper: Scraper
    records: Records
    reasons: Mapping[str, str]

    @property
    def providers(self) -> tuple[Storage, Storage]:
        return self.telecom, self.ours


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Two providers and a proxy that serves. Raises ProxyFailed. When it is left, nothing of it remains."""
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="domicile-demo-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        authority = Authority(folder)
        identity = Identity(folder)
        authority.issue("edge", "storage.example")
        telecom = Storage(TELECOM, "China Telecom", authority.issue(TELECOM, "storage.ct.example"), identity)
        stack.push_async_callback(telecom.close)
        ours = Storage(OURS, "Example Inc", authority.issue(OURS, "storage.example"), identity)
        stack.push_async_callback(ours.close)
        for storage in (telecom, ours):
            storage.switch_on()
        policy = write_policy(folder, telecom.port, ours.port)
        proxy = await start_proxy(policy)
        stack.push_async_callback(proxy.end)
        rules = load(policy, {}, time.time()).policy.rules
        trusted = ssl.create_default_context(cafile=str(authority.certificate))
        yield Stage(
            folder=folder,
            policy=policy,
            identity=identity,
            tokens={account: identity.token(account) for account in ACCOUNTS},
            telecom=telecom,
            ours=ours,
            proxy=proxy,
            client=await stack.enter_async_context(Client(proxy.edge, trusted)),
            scraper=await stack.enter_async_context(Scraper(proxy.admin)),
            records=Records(folder / "access.log"),
            reasons={rule.name: rule.because or "" for rule in rules},
        )
