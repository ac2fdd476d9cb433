"""What the user's files say: the project, its nodes, its profiles, its environments' names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seeknal_core.contract.lazy import lazily

if TYPE_CHECKING:
    from seeknal_core.project.allowed_files import places_of
    from seeknal_core.project.checkout import refuse_brought_target
    from seeknal_core.project.dotenv_file import load_env_file
    from seeknal_core.project.environment_names import environment_for, parse_environment_name
    from seeknal_core.project.home import seeknal_home
    from seeknal_core.project.interpolation import remember_variables
    from seeknal_core.project.parsed import open_parsed
    from seeknal_core.project.profiles import ProfileChoice, choose_profile, load_profile
    from seeknal_core.project.project_file import (
        PROJECT_FILE,
        LoadedProject,
        find_root,
        load_project,
        load_settings,
    )

# Imported when first used: a command that opens no project needs one or two of them.
_HOME = {
    "allowed_files": ("places_of",),
    "checkout": ("refuse_brought_target",),
    "dotenv_file": ("load_env_file",),
    "environment_names": (
        "environment_for",
        "parse_environment_name",
    ),
    "home": ("seeknal_home",),
    "interpolation": ("remember_variables",),
    "parsed": ("open_parsed",),
    "profiles": (
        "ProfileChoice",
        "choose_profile",
        "load_profile",
    ),
    "project_file": (
        "PROJECT_FILE",
        "LoadedProject",
        "find_root",
        "load_project",
        "load_settings",
    ),
}

__all__ = [
    "PROJECT_FILE",
    "LoadedProject",
    "ProfileChoice",
    "choose_profile",
    "environment_for",
    "find_root",
    "load_env_file",
    "load_profile",
    "load_project",
    "load_settings",
    "open_parsed",
    "parse_environment_name",
    "places_of",
    "refuse_brought_target",
    "remember_variables",
    "seeknal_home",
]

__getattr__ = lazily(globals(), _HOME)
