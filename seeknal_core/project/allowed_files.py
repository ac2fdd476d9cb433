"""``files: allow``: which folders beside itself a project may read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from seeknal_core.contract.types import Profile
from seeknal_core.project.places import Places
from seeknal_core.project.specs import ProjectSettings
from seeknal_core.project.trust import Trust


def allowed(written: Sequence[str], base: Path) -> tuple[str, ...]:
    """Return the paths of ``allow`` as absolute ones; ``~`` is the user's home."""
    return tuple(os.path.abspath(base / os.path.expanduser(each)) for each in written)


def wrong_place(written: str, place: str, places: Places) -> str:
    """Return what is wrong with an entry of ``allow``, empty if nothing."""
    if not written.strip() or not written.isprintable():
        return f"{written!r} is not a folder"
    what = places.what_is_closed(os.path.realpath(place))
    return f"{written} is {what}, which is never read as data" if what else ""


def places_of(
    root: Path, settings: ProjectSettings | None, trust: Trust, profile: Profile | None = None
) -> Places:
    """Return what a project may read.

    What an untrusted project allows itself counts as far as the machine allows it; what
    its profile allows always counts, which is the machine's then.

    Args:
        settings: None where the project file has mistakes.
    """
    from seeknal_core.project.home import seeknal_home

    written = settings.files_allow if settings else ()
    wanted = allowed(written, root)
    counts = [each for each in wanted if trust.allows_folder(Path(each))]
    closed = []
    home = seeknal_home()
    if home is not None:
        closed.append((home, "Seeknal's own folder"))
    if profile is not None and profile.path is not None:
        closed.append((Path(profile.path), "the profile"))
    return Places.of(
        root,
        [*counts, *(profile.files_allow if profile else ())],
        closed,
        written,
        [each for each in wanted if each not in counts],
    )
