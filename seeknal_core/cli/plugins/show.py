"""``seeknal plugins show``."""

from __future__ import annotations

import os
from typing import Any

import attrs
import click

from seeknal_core.cli.options import json_option
from seeknal_core.cli.output import say, say_json
from seeknal_core.contract.errors import ExitCode, PluginError
from seeknal_core.hints import canonical_type
from seeknal_core.plugins.dispatch import Dispatcher
from seeknal_core.plugins.host import BACKENDS, HOOKS, WRAPPERS, PluginHost


@click.command("show")
@click.argument("name")
@json_option
def show_plugin(name: str, as_json: bool) -> int:
    """Show a backend's hooks, guarantees and options.

    Or the hooks of a wrapper plugin.
    """
    host = PluginHost.from_environment(os.environ)
    type = canonical_type(name)
    if _is_wrapper(host, name):
        return _show_wrapper(host, name, as_json=as_json)
    host.load_backends([type])
    document = _describe(host, type)
    if as_json:
        say_json(document)
        return ExitCode.DONE
    say(f"{type}: {document['distribution']} {document['version']}")
    for line in document["guarantees"]:
        say(f"  {line}")
    say("hooks: " + ", ".join(document["hooks"]))
    for section, options in document["options"].items():
        if options:
            say(f"options of a {section}:")
        for option in options:
            notes = option["type"]
            if option["required"]:
                notes += ", required"
            elif option["default"] not in (None, "None"):
                notes += f", default {option['default']}"
            doc = f": {option['doc']}" if option["doc"] else ""
            say(f"  {option['name']} ({notes}){doc}")
    return ExitCode.DONE


def _is_wrapper(host: PluginHost, name: str) -> bool:
    backends = [info.name for info in host.installed(BACKENDS)]
    wrappers = [info.name for info in host.installed(WRAPPERS)]
    return name in wrappers and canonical_type(name) not in backends


def _show_wrapper(host: PluginHost, name: str, *, as_json: bool) -> int:
    loaded = host.load_wrapper(name)
    document = {
        **attrs.asdict(loaded.info),
        "hooks": [hook for hook in HOOKS if hook in loaded.hooks],
    }
    if as_json:
        say_json(document)
    else:
        say(f"plugin {name}: {loaded.info}")
        say("wraps hooks: " + ", ".join(document["hooks"]))
    return ExitCode.DONE


def _describe(host: PluginHost, type: str) -> dict[str, Any]:
    loaded = host.loaded(type)
    described = Dispatcher(host).options(type)
    classes = {
        "connection": described.connection if described else None,
        "source": described.source if described else None,
        "target": described.target if described else None,
    }
    return {
        "type": type,
        "distribution": loaded.info.distribution,
        "version": loaded.info.version,
        "module": loaded.info.module,
        "hooks": [hook for hook in HOOKS if hook in loaded.hooks],
        "missing_hooks": [hook for hook in HOOKS if hook not in loaded.hooks],
        "guarantees": [
            *_guarantees(loaded.hooks),
            *(described.limits if described is not None else ()),
        ],
        "options": {
            section: _options(cls) if cls is not None else [] for section, cls in classes.items()
        },
    }


def _guarantees(hooks: frozenset[str]) -> list[str]:
    lines = ["targets: yes, each written atomically for its readers"]
    lines.append("sources: yes" if "read_source" in hooks else "sources: no")
    lines.append(
        "adoption and missing tables are noticed"
        if "inspect_target" in hooks
        else "adoption and missing tables are not noticed"
    )
    lines.append(
        "promotion: staged unseen, verified, and published with all others"
        if "stage" in hooks
        else "promotion: not staged; written last, outside of all or nothing"
    )
    return lines


def _options(cls: Any) -> list[dict[str, Any]]:
    if not attrs.has(cls):
        raise PluginError(f"describe_options names {cls!r}, which is no attrs class")
    rows = []
    for field in attrs.fields(cls):
        required = field.default is attrs.NOTHING
        default = field.default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # typed as a function
            default = "empty"
        rows.append(
            {
                "name": field.alias,
                "type": _type_word(field.type),
                "required": required,
                "default": None if required else str(default),
                "doc": field.metadata.get("doc", ""),
            }
        )
    return rows


def _type_word(annotation: object) -> str:
    """Return an option's type in the words that a profile's author uses."""
    text = (
        annotation
        if isinstance(annotation, str)
        else str(getattr(annotation, "__name__", annotation))
    )
    text = text.removesuffix(" | None")
    if text.startswith(("list[", "tuple[")):
        return "list"
    if text.startswith(("Mapping[", "dict[")):
        return "mapping"
    return _WORDS.get(text, text)


_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Secret": "secret",
    "object": "any",
}
