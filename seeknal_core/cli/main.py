"""The entry point: lazy commands, and the one frame where every error ends.

Each command's module is imported when the command is called, so that
``--help`` and ``--version`` cost no more than click itself.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from seeknal_core import __version__
from seeknal_core.cli.output import (
    catch_logs,
    indented,
    printable,
    say,
    say_below,
    say_json,
    say_usage,
    without_input,
)
from seeknal_core.contract.errors import (
    ConfigError,
    ExitCode,
    Interrupted,
    OptionError,
    SeeknalError,
    exhausted,
)
from seeknal_core.contract.types import redact
from seeknal_core.project.trust import Trust

#: Command name -> (module, attribute, one line of help). The line stands here
#: so that listing the commands imports none of them.
COMMANDS = {
    "init": ("seeknal_core.cli.init", "init", "Create a new project, or a complete example."),
    "run": ("seeknal_core.cli.run", "run", "Bring nodes and their targets up to date."),
    "check": ("seeknal_core.cli.check", "check", "Find every mistake without running anything."),
    "plan": ("seeknal_core.cli.env.plan", "plan", "Show what applying an environment would do."),
    "promote": (
        "seeknal_core.cli.env.promote",
        "promote",
        "Publish an environment's verified result.",
    ),
    "env": (
        "seeknal_core.cli.env",
        "env",
        "Plan, apply, promote, compare and delete environments.",
    ),
    "query": (
        "seeknal_core.cli.query",
        "query",
        "Run a SELECT over an environment's stored outputs.",
    ),
    "state": ("seeknal_core.cli.state", "state", "Rebuild lost records from the stores."),
    "gc": ("seeknal_core.cli.gc", "gc", "Remove stored outputs that nothing uses."),
    "plugins": (
        "seeknal_core.cli.plugins",
        "plugins",
        "List the installed backends, or start a new one.",
    ),
}


_INTERRUPTED = ExitCode.INTERRUPTED

#: Set by a shell that asks click for completions, which ends the process by itself.
_COMPLETING = "_SEEKNAL_COMPLETE"


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        _take_common_options(command)
        catch_logs()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        rows = [(name, line) for name, (_, _, line) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was probably meant."""
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-"):
            import difflib

            close = difflib.get_close_matches(name, COMMANDS, n=1)
            if not close:
                close = [f"env {each}" for each in _env_commands() if each == name]
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)


def _env_commands() -> Sequence[str]:
    """Return the names of the commands below ``env``."""
    from seeknal_core.cli.env import env

    return tuple(env.commands)


def _take_common_options(command: click.Command) -> None:
    """Let the options of ``seeknal`` stand behind a command's name, too."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _take_common_options(inner)
    if any(parameter.name == "debug" for parameter in command.params):
        return
    for names, is_flag in (
        (["-C", "--project-dir"], False),
        (["-v", "--verbose"], True),
        (["--debug"], True),
        (["--no-python"], True),
    ):
        option = click.Option(
            names, is_flag=is_flag, expose_value=False, hidden=True, callback=_note_option
        )
        command.params.append(option)
    command.params.append(
        click.Option(
            ["--strict-plugins"],
            is_flag=True,
            expose_value=False,
            hidden=True,
            callback=_be_strict,
        )
    )


def _be_strict(context: click.Context, option: click.Parameter, value: object) -> None:
    if value:
        # Where the plugins' host looks for the other switches of plugins, too.
        os.environ["SEEKNAL_STRICT_PLUGINS"] = "1"


def _note_option(context: click.Context, option: click.Parameter, value: object) -> None:
    if value:
        context.obj[option.name] = value
        if option.name == "debug":
            context.obj["verbose"] = True
        if option.name == "no_python":
            context.obj["trust"] = Trust.from_environment(os.environ, no_python=True)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="seeknal")
@click.option(
    "-C",
    "--project-dir",
    metavar="DIR",
    help="Look for the project in DIR and in the folders above it.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print more: reasons, paths, what was reused.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--strict-plugins",
    is_flag=True,
    expose_value=False,
    callback=_be_strict,
    help="Fail if an installed plugin cannot be used, instead of warning.",
)
@click.option(
    "--no-python",
    is_flag=True,
    help="Do not run the project's Python; use its stored results.",
)
@click.pass_context
def cli(
    ctx: click.Context, project_dir: str | None, verbose: bool, debug: bool, no_python: bool
) -> None:
    """Run data pipelines that know their environment.

    A project is a folder of YAML sources and SQL or Python transforms. Each
    environment reads its own sources and writes its own tables.
    """
    given = ctx.obj or {}
    ctx.obj = {
        **given,
        "project_dir": project_dir,
        "verbose": verbose or debug,
        "debug": debug,
        # Before anything of the project is read: no .env has a say in it.
        "trust": Trust.from_environment(os.environ, no_python=no_python),
    }


def _show_tracebacks() -> None:
    """Print the traceback of whatever fails without ending the command, too."""
    import logging

    class Redacting(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Redacting("%(message)s"))
    log = logging.getLogger("seeknal")
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)


#: How standard output refuses what is written to it: full, broken, or closed from the start.
#: Of a reader that went away (seeknal ... | head) click makes exit code 1 without a word.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a code of ``docs/commands.md``, "Exit codes"."""
    code = _run(list(sys.argv[1:] if args is None else args))
    if code == _INTERRUPTED:
        # Threads that still wait for a store would hold up an orderly exit; everything
        # that must be closed or saved has been by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run(args: list[str]) -> int:
    debug = "--debug" in args
    as_json = "--json" in args
    if debug:
        _show_tracebacks()
    try:
        result: Any = cli.main(
            args=args, prog_name="seeknal", standalone_mode=False, obj={"typed": tuple(args)}
        )
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail(Interrupted("stopped by the user"), debug=False, as_json=as_json)
    except click.ClickException as error:
        say_usage(error)
        if as_json:
            _print_failure(ConfigError(error.format_message()))
        return ExitCode.USAGE
    except SeeknalError as error:
        return _fail(error, debug=debug, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever comes here the user gets one sentence and no secret
        told = _lost_output(error)
        lost = told is not None
        told = told or exhausted(error) or _refused(error)
        told = told or SeeknalError(
            f"unexpected {error.__class__.__name__}: {error}",
            "this is a defect in Seeknal: run again with --debug for the details to report",
        )
        told.__cause__ = error
        return _fail(told, debug=debug, as_json=as_json and not lost)
    # Whoever ends the process in a command's middle must not make it look like a success.
    except BaseException as error:
        if os.environ.get(_COMPLETING):
            raise
        if _reader_left(error):
            return ExitCode.FAILED
        what = f"sys.exit({error.code})" if isinstance(error, SystemExit) else repr(error)
        told = SeeknalError(
            f"{_place(error)} ended the command by {what}",
            "a plugin, or a package that it uses, has a defect: run again with --debug for the "
            "traceback, and report it to the plugin's authors",
        )
        told.__cause__ = error
        return _fail(told, debug=debug, as_json=as_json)
    return result if isinstance(result, int) else 0


def _reader_left(error: BaseException) -> bool:
    """Return whether click ended the command because nobody reads its output any more.

    Click notes that by ``sys.exit`` in its own outermost frame, and nothing else.
    """
    import traceback

    frames = [
        frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    return isinstance(error, SystemExit) and frames == [__name__, "click.core"]


def _place(error: BaseException) -> str:
    """Return the module and line that raised an error."""
    import traceback

    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    return f"{frame.f_globals.get('__name__', '?')}:{line}"


def _lost_output(error: Exception) -> SeeknalError | None:
    """Return the error for output that nobody takes; None where it is something else."""
    if not isinstance(error, OSError) or error.errno not in _UNWRITABLE or error.filename:
        return None
    return SeeknalError(
        f"the output cannot be written: {error.strerror}", "see where it goes, then run again"
    )


def _refused(error: Exception) -> SeeknalError | None:
    """Return the error for a file that this account may not use; None for anything else."""
    if not isinstance(error, OSError) or error.errno not in (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ):
        return None
    where = f"cannot use {error.filename}: " if error.filename else ""
    return SeeknalError(
        f"{where}{error.strerror}", "check the owner and the rights of the file and its folder"
    )


def _fail(error: SeeknalError, *, debug: bool, as_json: bool) -> int:
    if debug:
        _traceback(error)
    if isinstance(error, Interrupted):
        say(indented(error.message), err=True)
    elif isinstance(error, ConfigError) and len(error.problems) > 1:
        problems = "\n".join(indented(str(problem)) for problem in error.problems)
        say(f"Error: {len(error.problems)} mistakes\n{problems}", err=True)
    else:
        say_below("Error", str(error), err=True)
    if error.hint:
        say_below("Next", error.hint, err=True)
    if as_json:
        _print_failure(error)
    return error.exit_code


def _print_failure(error: SeeknalError) -> None:
    """Print the document of a command that ended with an error, for ``--json``."""
    problems = error.problems if isinstance(error, ConfigError | OptionError) else ()
    chosen = error.profile
    document = {
        "status": "interrupted" if isinstance(error, Interrupted) else "failed",
        **({"profile": chosen[0], "profile_reason": chosen[1]} if chosen else {}),
        "error": {
            "type": error.__class__.__name__,
            "message": redact(error.message),
            "hint": redact(error.hint),
            "problems": [
                {
                    name: redact(value) if isinstance(value, str) else value
                    for name, value in problem._asdict().items()
                }
                for problem in problems
            ],
        },
    }
    say_json(document)


def _traceback(error: BaseException) -> None:
    import traceback

    say(without_input("".join(traceback.format_exception(error))), err=True)
