"""`domicile serve`: runs the proxy."""

import sys
from pathlib import Path

import click

from proxy.server.serve import run


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
def serve(policy: Path) -> None:
    """Run the proxy with POLICY until SIGTERM.

    SIGHUP reads the policy again (all or nothing), SIGTERM and SIGINT drain (a second one ends at once), SIGUSR1
    reopens the access log. Exits 0 after a drain, 1 when it cannot start; what is wrong is on standard error.
    """
    sys.exit(run(policy))
