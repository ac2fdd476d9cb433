"""Options that several commands share, and what they turn into."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from seeknal_core.workspace.session import Request

#: Characters of a wrong value that are worth another try.
_MOST_SHOWN = 200

F = TypeVar("F", bound=Callable[..., Any])


def environment_options(function: F) -> F:
    """Add ``--env`` and the options that go with it."""
    return click.option(
        "--env", "environment", metavar="NAME", help="Environment to use; production if left out."
    )(shared_options(function))


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
profile_option = click.option("--profile", metavar="FILE", help="Use this profile file.")
exact_option = click.option(
    "--exact",
    is_flag=True,
    help="Compare the rows of every target, even if nothing looks changed.",
)


def run_options(function: F) -> F:
    """Add ``--threads`` and ``--fail-fast``."""
    for option in (
        click.option("--fail-fast", is_flag=True, help="Start nothing new after a failure."),
        click.option(
            "--threads",
            metavar="N",
            type=click.IntRange(1, 64),
            default=4,
            show_default=True,
            help="How many nodes and targets to work on at a time.",
        ),
    ):
        function = option(function)
    return function


def shared_options(function: F) -> F:
    """Add ``--profile``, ``--vars`` and ``--ignore-unsupported``."""
    for option in reversed(
        [
            click.option(
                "--profile", metavar="FILE", help="Use this profile file, whatever the environment."
            ),
            click.option(
                "--vars",
                "variables",
                metavar="JSON",
                callback=_variables,
                help="Values for {{ var(...) }}, as JSON: '{\"key\": 1}'.",
            ),
            click.option(
                "--ignore-unsupported",
                is_flag=True,
                help="Skip nodes of kinds that Seeknal does not run.",
            ),
        ]
    ):
        function = option(function)
    return function


def _variables(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> Mapping[str, object]:
    if value is None:
        return {}
    try:
        data = json.loads(value)
    except (ValueError, RecursionError) as error:
        meant = shlex.quote(_meant(value) or '{"key": 1}')
        raise click.BadParameter(f"not JSON: {error}; write --vars {meant}") from None
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise click.BadParameter("half a character: \\ud800 to \\udfff come in pairs") from None
    if not isinstance(data, dict):
        raise click.BadParameter("must be a JSON object, such as '{\"key\": 1}'")
    return data


def _meant(value: str) -> str:
    """Return the JSON that ``key=value`` or YAML stands for; empty where that is not plain."""
    # JSON needs no YAML, and most commands have neither.
    import yaml

    pairs = re.fullmatch(r"\w+=[^,=\s]*(,\w+=[^,=\s]*)*", value)
    text = value.replace("=", ": ").replace(",", ", ") if pairs else value
    if len(text) > _MOST_SHOWN or any(mark in text for mark in "&*!\n"):
        return ""
    try:
        data = yaml.safe_load(text if text.lstrip().startswith("{") else f"{{{text}}}")
        plain = isinstance(data, dict) and all(isinstance(key, str) for key in data)
        given = plain and None not in data.values()
        return json.dumps(data, ensure_ascii=False, default=str) if given else ""
    except (ValueError, TypeError, yaml.YAMLError):
        return ""


def request_from(
    context: click.Context,
    *,
    environment: str | None,
    profile: str | None,
    variables: Mapping[str, object],
    ignore_unsupported: bool,
    adopt: bool = False,
    full_refresh: bool = False,
    others: Mapping[str, str] | None = None,
) -> Request:
    """Make a `Request` of the shared options."""
    from seeknal_core.workspace.session import Request

    return Request(
        project_dir=context.obj["project_dir"],
        environment=environment,
        profile=profile,
        variables=variables,
        ignore_unsupported=ignore_unsupported,
        adopt=adopt,
        full_refresh=full_refresh,
        others=others or {},
        trust=context.obj["trust"],
    )
