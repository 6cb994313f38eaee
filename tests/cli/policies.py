"""Policy files for the command line's tests, and a way to run the commands in this process."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from proxy.cli import domicile

GOOD = """\
version: 1
zones:
  eu: {countries: [EEA]}
  cn: {countries: [CN]}
  rest: {countries: ["*"], except: [AQ]}
providers:
  ours: {operator: Ours Inc, zone: eu, endpoints: ["https://ours.example"]}
  telecom: {operator: China Telecom, zone: cn, endpoints: ["https://ct.example", "https://[2001:db8::1]:8443"]}
  far: {operator: Ours Inc, zone: rest, endpoints: ["https://far.example"]}
subject:
  actors: [support]
classes:
  - {class: payment, when: {path: /pay/*}}
rules:
  - {name: china, because: PIPL art. 40, when: {home: cn}, allow: cn}
  - {name: europe, because: GDPR art. 44, authority: "https://law.example/gdpr", when: {home: eu}, allow: [eu, rest]}
  - {name: others, when: {home: rest}, allow: rest}
  - {name: payments, when: {home: eu, class: payment}, only: [eu]}
  - {name: support-reads, when: {home: eu, actor: support, method: write}, unless: {country: EEA}, forbid: any}
routes:
  - {when: {host: fast.example}, prefer: [{provider: far, weight: 1}, {provider: ours, weight: 3}]}
guarantees:
  - {unless: {home: cn}, never: {operators: China Telecom}}
listeners:
  - {name: edge, bind: ["0.0.0.0:8443", "[::]:8443", "unix:edge.sock"]}
"""


def write(folder: Path, text: str = GOOD) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def run(*arguments: str | Path, stdin: str | None = None, **environ: str) -> Result:
    """A command's result; whatever it raised but for its exit is raised again."""
    result = CliRunner().invoke(domicile, [str(each) for each in arguments], input=stdin, env=environ)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_json(*arguments: str | Path, stdin: str | None = None) -> Any:
    """What a command that exits 0 printed as one JSON value."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)
