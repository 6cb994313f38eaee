"""What can be tried while the demo stays up: lines for a shell, each of which works as printed."""

import os
import shutil
import sys
from pathlib import Path
from shlex import quote

from proxy.cli.demonstration.accounts import forged
from proxy.cli.demonstration.stage import ANNA, FRANKFURT, LI_NA, SHANGHAI, STANFORD, Stage

_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def write_credentials(stage: Stage) -> None:
    """A file for each account, and one for a forger, that curl takes as header fields."""
    tokens = {account.stem: token for account, token in stage.tokens.items()}
    for name, token in {**tokens, "forged": forged(LI_NA)}.items():
        path = stage.folder / f"{name}.header"
        path.touch(0o600)
        path.write_text(f"Authorization: Bearer {token}\n", encoding="ascii")


def invitation(stage: Stage) -> str:
    """The lines. They need the files of `write_credentials`, and POSIX sh with curl."""
    edge, admin = f"https://{stage.proxy.edge}", f"http://{stage.proxy.admin}"
    # curl sends even requests for loopback to a proxy that the environment names.
    direct = " --noproxy '*'" if any(os.environ.get(name) for name in _PROXIES) else ""
    curl = f"curl -s{direct}"

    def visit(comment: str, address: str, credential: str | None, rest: str = "/hello") -> str:
        header = "" if credential is None else f" -H @{credential}.header"
        target = rest if rest.startswith("-") else edge + rest
        return (
            f"# {comment}\n"
            f"{curl} --cacert ca.pem{header} -H 'X-Forwarded-For: {address}' \\\n"
            f"  -w '\\n%{{http_code}}\\n' {target}"
        )

    return "\n".join(
        (
            f"cd {quote(str(stage.folder))}",
            visit("Li Na, a mainland account, in Frankfurt", FRANKFURT.address, LI_NA.stem),
            visit("Anna, a German account, in Shanghai", SHANGHAI.address, ANNA.stem),
            visit("nobody, in Shanghai: nobody knows whose law applies", SHANGHAI.address, None),
            visit("a token that somebody else has signed", STANFORD.address, "forged"),
            visit("Li Na uploads a file", FRANKFURT.address, LI_NA.stem, f"-T policy.yaml {edge}/file"),
            "# the access log, and the metrics",
            "tail -n 3 access.log",
            f"{curl} {admin}/metrics | grep ^domicile_requests_total",
            "# change the policy, prove it, and put it in force",
            f"{_domicile()} check policy.yaml && kill -HUP {stage.proxy.pid}",
        )
    )


def _domicile() -> str:
    """The command of this very installation, which may not be the shell's, as from a virtual environment."""
    own = Path(sys.executable).parent / "domicile"
    if not own.exists():
        return f"{quote(sys.executable)} -m proxy.cli"
    found = shutil.which("domicile")
    return "domicile" if found is not None and Path(found).resolve() == own.resolve() else quote(str(own))
