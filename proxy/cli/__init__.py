"""Floor 4: the command line, one file a command.

A command's module is imported when that command runs, so that `check` starts without an event loop.
Exit status: 0 good, 1 the policy or a test falls short, 2 usage.
"""

import importlib
import importlib.metadata
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a command is, as `module:function`, and its line in the list of commands."""

    target: str
    summary: str


_COMMANDS = {
    "serve": _Entry("proxy.cli.serve:serve", "Run the proxy."),
    "check": _Entry("proxy.cli.check:check", "Read and prove a policy file."),
    "explain": _Entry("proxy.cli.explain:explain", "Show the decision for given facts, and each rule's say."),
    "status": _Entry("proxy.cli.status:status", "Show how a running proxy stands, live or once."),
    "directory": _Entry("proxy.cli.directory:directory", "Say who lives where, in the policy's own directory."),
    "demo": _Entry("proxy.cli.demo:demo", "Send real traffic through a proxy of its own, and show where it went."),
}


class _Commands(click.Group):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, function = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])


def _version() -> str:
    try:
        return importlib.metadata.version("domicile")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"domicile {_version()}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def domicile() -> None:
    """A reverse proxy that keeps data where the law lets it live.

    Exit status: 0 good, 1 the policy or a test falls short, 2 usage.
    """


def main() -> None:
    """The console script."""
    domicile(prog_name="domicile")
