"""`domicile serve`: runs the proxy."""

import sys
from pathlib import Path

import click

from proxy.server.serve import run


@click.command()
@click.argument("policy", type=click.Path(path_type=Path))
@click.option("--upgrade", is_flag=True, help="Take over from the program that runs, found by the policy's `control`.")
def serve(policy: Path, upgrade: bool) -> None:
    """Run the proxy with POLICY until SIGTERM.

    SIGHUP reads the policy again (all or nothing), SIGTERM and SIGINT drain (a second one ends at once), SIGUSR1
    reopens the access log, SIGUSR2 starts the program anew on the same sockets and drains this one. Exits 0 after a
    drain, 1 when it cannot start; what is wrong is on standard error.
    """
    sys.exit(run(policy, upgrade))
