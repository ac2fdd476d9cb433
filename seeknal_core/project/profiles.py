"""Which profile, and what stands in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import attrs

from seeknal_core.contract.errors import ConfigError
from seeknal_core.contract.options import Mistake, join, kind_of, nearest
from seeknal_core.contract.types import ConnectionSpec, Location, Mode, Profile
from seeknal_core.hints import canonical_type, hints
from seeknal_core.project.allowed_files import allowed, wrong_place
from seeknal_core.project.documents import relative
from seeknal_core.project.environment_names import conventional_prefix
from seeknal_core.project.inline import INLINE
from seeknal_core.project.interpolation import expander, is_clear_secret
from seeknal_core.project.mistakes import Collector
from seeknal_core.project.params import check_file_params
from seeknal_core.project.places import Places
from seeknal_core.project.readable import rights_warning
from seeknal_core.project.specs import FILE_TYPES, ProjectSettings
from seeknal_core.project.targets import read_mode
from seeknal_core.project.trust import Trust
from seeknal_core.project.untrusted import refuse_inside
from seeknal_core.project.yaml import Document, Scalar, parse_one, read_text

#: The name of the connection that the legacy ``materialization.catalog`` becomes.
LEGACY_CONNECTION = "materialization.catalog"

_SECTIONS = ("connections", "source_defaults", "materialization", "namespace", "protected", "files")
_LEGACY_SECTIONS = frozenset(
    {"starrocks", "publish", "target", "outputs", "profiles", "atlas", "feature_store", "config"}
)
_LEGACY_MATERIALIZATION = frozenset(
    {"schema_evolution", "duckdb", "partition_by", "table", "warehouse", "offline", "online"}
)
_LEGACY_CATALOG = frozenset({"connection_timeout", "request_timeout"})
#: Goes before a schema's or a namespace's name, so every store must take it unquoted.
_PREFIX = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}", re.ASCII)


@attrs.frozen(kw_only=True)
class ProfileChoice:
    """Which file is the profile, and why.

    ``path`` is None where there is none. ``reason`` is shown to the user.
    ``convention``: it is the default one and the environment is not production,
    so names get the environment's prefix. ``given``: the user named it.
    """

    path: Path | None
    reason: str
    convention: bool = False
    given: bool = False


def choose_profile(
    settings: ProjectSettings,
    environment: str,
    *,
    explicit: str | None,
    home: Path | None,
    given_by: str = "--profile",
    trust: Trust | None = None,
) -> ProfileChoice:
    """Choose the profile of an environment (``docs/environments.md``, "Which profile").

    Args:
        environment: canonical name.
        explicit: the file that the user named, relative to the working folder.
        home: `seeknal_home`.
        given_by: what named `explicit`, for the reason.
        trust: a stranger's checkout has no say: its files are passed over. None trusts it.

    Raises:
        ConfigError: the named file is missing, or lies in a stranger's checkout, or a file
            is called almost as it should be, and would be passed over.
    """
    root = Path(settings.root)
    untrusted = trust is not None and trust.untrusted
    if explicit is not None:
        path = Path(explicit).expanduser().absolute()
        if not os.path.lexists(path):
            raise ConfigError(f"{given_by} {explicit}: no such file", "name a profile that exists")
        if untrusted:
            refuse_inside(path, root, given_by)
        return ProfileChoice(path=path, reason=f"{given_by} {explicit}", given=True)
    folders = [] if untrusted else [(root, "in the project")]
    if home is not None:
        if untrusted and os.path.lexists(home):
            refuse_inside(home, root, "the home of profiles")
        folders.append((home, f"in {_shown(home)}"))
    name = f"profiles-{environment}.yml"
    for folder, where in folders:
        if _has(folder, name):
            if untrusted:
                refuse_inside(folder / name, root, "the profile")
            return ProfileChoice(path=folder / name, reason=f"{name} {where}")
    convention = environment != settings.production
    prefixed = f", names prefixed with {conventional_prefix(environment)}" if convention else ""
    for folder, where in folders:
        if _has(folder, "profiles.yml"):
            if untrusted:
                refuse_inside(folder / "profiles.yml", root, "the profile")
            place = "" if where == "in the project" else f" {where}"
            reason = f"default profiles.yml{place}{prefixed}"
            return ProfileChoice(path=folder / "profiles.yml", reason=reason, convention=convention)
    return ProfileChoice(path=None, reason=f"no profile found{prefixed}", convention=convention)


def _shown(home: Path) -> str:
    user = os.environ.get("HOME")
    return "~/.seeknal" if user and home == Path(user) / ".seeknal" else str(home)


def _has(folder: Path, name: str) -> bool:
    # A dangling link counts: reading it fails, where passing over it would mean
    # to write with somebody else's connections. So does a slip in the name.
    if os.path.lexists(folder / name):
        return True
    try:
        entries = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in sorted(entries):
        if entry.casefold() in (name, name.removesuffix("yml") + "yaml"):
            raise ConfigError(
                f"{folder / entry} is not read under this name", f"rename it to {name}"
            )
    return False


def load_profile(
    choice: ProfileChoice, settings: ProjectSettings, variables: Mapping[str, str] | None = None
) -> Profile:
    """Read the chosen profile, ``${VAR}`` expanded and types canonical.

    Args:
        variables: what ``${VAR}`` names; None means this process's environment.

    Raises:
        ConfigError: with all mistakes of the file.
    """
    if choice.path is None:
        return Profile(path=None, reason=choice.reason, convention=choice.convention)
    file = relative(choice.path, Path(settings.root))
    expand = expander(os.environ if variables is None else variables)
    secrets: list[str] = []

    def noting(scalar: Scalar) -> object:
        if is_clear_secret(scalar.path, scalar.text):
            secrets.append(scalar.path)
        return expand(scalar)

    collector = Collector()
    document = parse_one(
        read_text(choice.path, file), file, expand=noting, problems=collector.problems
    )
    assert isinstance(document.value, Mapping)
    reader = _Reader(document, document.value, collector)
    profile = reader.read(choice)
    collector.check()
    rights = rights_warning(choice.path, file, secret=bool(secrets))
    return attrs.evolve(profile, warnings=(*rights, *collector.warnings()))


class _Reader:
    """Reads the sections of one profile."""

    def __init__(
        self, document: Document, value: Mapping[str, object], collector: Collector
    ) -> None:
        self._document = document
        self._value = value
        self._collector = collector
        self._inline_types: set[str] = set()

    def read(self, choice: ProfileChoice) -> Profile:
        self._check_sections()
        connections = self._connections()
        enabled, mode, catalog = self._materialization()
        if catalog is not None:
            if catalog.name in connections:
                self._add(join("connections", catalog.name), "is taken by materialization.catalog")
            connections[catalog.name] = catalog
        protected = self._value.get("protected")
        if protected is not None and not isinstance(protected, bool):
            self._add("protected", f"is {kind_of(protected)}, not true or false")
        return Profile(
            path=str(choice.path),
            reason=choice.reason,
            convention=choice.convention,
            connections=connections,
            source_defaults=self._source_defaults(),
            inline_types=frozenset(self._inline_types),
            default_mode=mode,
            catalog_connection=catalog.name if catalog is not None else None,
            materialization_enabled=enabled,
            prefix=self._prefix(),
            protected=protected is True,
            given=choice.given,
            files_allow=self._files(choice.path),
        )

    def _add(self, path: str, message: str, hint: str = "") -> None:
        self._collector.add(self._document, path, message, hint)

    def _check_sections(self) -> None:
        for key, value in self._value.items():
            if key in _SECTIONS:
                continue
            dbt_like = isinstance(value, Mapping) and ("outputs" in value or "target" in value)
            if key in _LEGACY_SECTIONS or dbt_like:
                self._collector.legacy(self._document, key, key)
            else:
                known = nearest(key, _SECTIONS)
                hint = known or f"the sections are {', '.join(_SECTIONS)}"
                self._add(key, "unknown section", hint)

    def _section(self, path: str, value: object) -> Mapping[str, object]:
        if isinstance(value, Mapping):
            return value
        if value is not None:
            self._add(path, f"is {kind_of(value)}, not a mapping")
        return {}

    def _connections(self) -> dict[str, ConnectionSpec]:
        found: dict[str, ConnectionSpec] = {}
        for name, value in self._section("connections", self._value.get("connections")).items():
            path = join("connections", name)
            if not isinstance(value, Mapping):
                hint = "write type: ..., and what the type needs"
                self._add(path, f"is {kind_of(value)}, not a mapping", hint)
                continue
            type = value.get("type")
            if not isinstance(type, str) or not type:
                slip = next((key for key in value if nearest(key, ["type"], cutoff=0.7)), None)
                if type is not None:
                    self._add(join(path, "type"), f"is {kind_of(type)}, not a type's name")
                elif slip is not None:
                    self._add(join(path, slip), "unknown field", "did you mean 'type'?")
                else:
                    self._add(path, "'type' is missing", "write type: and a backend's type")
                continue
            options = {key: item for key, item in value.items() if key not in ("type", INLINE)}
            found[name] = ConnectionSpec(
                name=name,
                type=canonical_type(type),
                options=options,
                locations=self._locations(path),
                inline=self._inline(path, value),
            )
        return found

    def _inline(self, path: str, value: Mapping[str, object]) -> bool:
        """Read whether nodes may say where to connect, which counts in a profile alone."""
        said = value.get(INLINE)
        if said is not None and not isinstance(said, bool):
            self._add(join(path, INLINE), f"is {kind_of(said)}, not true or false")
        return said is True

    def _locations(self, path: str) -> dict[str, Location]:
        below = path + "."
        return {
            key.removeprefix(below) if key != path else "": self._document.location(key)
            for key in self._document.places
            if key == path or key.startswith((below, path + "["))
        }

    def _source_defaults(self) -> dict[str, Mapping[str, object]]:
        found: dict[str, Mapping[str, object]] = {}
        written: dict[str, str] = {}
        section = self._section("source_defaults", self._value.get("source_defaults"))
        for word, value in section.items():
            path = join("source_defaults", word)
            type = canonical_type(word)
            if type in found:
                self._add(path, f"means the same type as {written[type]!r}")
            written[type] = word
            found[type] = self._section(path, value)
            if type not in FILE_TYPES and INLINE in found[type]:
                if self._inline(path, found[type]):
                    self._inline_types.add(type)
                found[type] = {key: item for key, item in found[type].items() if key != INLINE}
            if type in FILE_TYPES:
                check_file_params(self._document, found[type], type, path, self._collector)
            else:
                self._check_default_connection(path, found[type])
        return found

    def _check_default_connection(self, path: str, defaults: Mapping[str, object]) -> None:
        name = defaults.get("connection")
        known = self._value.get("connections")
        if name is None:
            return
        if not isinstance(name, str):
            self._add(join(path, "connection"), f"is {kind_of(name)}, not a connection's name")
        elif not isinstance(known, Mapping) or name not in known:
            names = list(known) if isinstance(known, Mapping) else []
            self._add(join(path, "connection"), f"no connection {name!r}", nearest(name, names))

    def _files(self, path: Path | None) -> tuple[str, ...]:
        """Return what ``files: allow`` adds; paths are relative to the profile's folder."""
        section = self._section("files", self._value.get("files"))
        for key in section:
            if key != "allow":
                self._add(join("files", key), "unknown field", "did you mean 'allow'?")
        allow = section.get("allow")
        if allow is None:
            return ()
        if not isinstance(allow, list) or not all(isinstance(each, str) for each in allow):
            self._add("files.allow", "is not a list of folders", "write allow: [folder]")
            return ()
        assert path is not None
        found = allowed(allow, path.parent)
        for each, place in zip(allow, found, strict=True):
            problem = wrong_place(each, place, Places.of(path.parent))
            if problem:
                self._add("files.allow", problem)
        return found

    def _prefix(self) -> str | bool | None:
        section = self._section("namespace", self._value.get("namespace"))
        for key in section:
            if key != "prefix":
                self._add(join("namespace", key), "unknown field", "did you mean 'prefix'?")
        prefix = section.get("prefix")
        if prefix is None or isinstance(prefix, bool) or prefix == "":
            return prefix
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            hint = "write true, false, or letters, digits and '_', as in alice_"
            self._add("namespace.prefix", "is not a prefix", hint)
            return None
        return prefix

    def _materialization(self) -> tuple[bool, Mode | None, ConnectionSpec | None]:
        path = "materialization"
        section = self._collector.without_legacy(
            self._document,
            self._section(path, self._value.get(path)),
            _LEGACY_MATERIALIZATION,
            path,
        )
        known = ("enabled", "catalog", "default_mode")
        for key in section:
            if key not in known:
                self._add(join(path, key), "unknown field", nearest(key, known))
        enabled = section.get("enabled")
        if enabled is not None and not isinstance(enabled, bool):
            self._add(join(path, "enabled"), f"is {kind_of(enabled)}, not true or false")
        mode = None
        if (word := section.get("default_mode")) is not None:
            try:
                if not isinstance(word, str):
                    raise Mistake(f"is {kind_of(word)}, not a mode's name")
                mode = read_mode(word)
            except Mistake as error:
                self._add(join(path, "default_mode"), error.quoted, error.hint)
        catalog = section.get("catalog")
        if catalog is None:
            return enabled is not False, mode, None
        return enabled is not False, mode, self._catalog(catalog)

    def _catalog(self, value: object) -> ConnectionSpec | None:
        if not isinstance(value, Mapping):
            self._add(LEGACY_CONNECTION, f"is {kind_of(value)}, not a mapping")
            return None
        fields = self._collector.without_legacy(
            self._document, value, _LEGACY_CATALOG, LEGACY_CONNECTION
        )
        inline = self._inline(LEGACY_CONNECTION, fields)
        fields.pop(INLINE, None)
        renamed = {"bearer_token": "token"}
        if "bearer_token" in fields and "token" in fields:
            self._add(f"{LEGACY_CONNECTION}.bearer_token", "means the same as 'token'")
        warehouse = fields.pop("warehouse", None)
        catalog = {renamed.get(key, key): item for key, item in fields.items() if item is not None}
        if "uri" in catalog:
            catalog.setdefault("type", "rest")
        options: dict[str, object] = {} if warehouse is None else {"warehouse": warehouse}
        if catalog:
            options["catalog"] = catalog
        locations = {"": self._document.location(LEGACY_CONNECTION)}
        for key, place in self._locations(LEGACY_CONNECTION).items():
            first, dot, rest = key.partition(".")
            if first == "warehouse":
                locations[key] = place
            elif first:
                locations[f"catalog.{renamed.get(first, first)}{dot}{rest}"] = place
        return ConnectionSpec(
            name=LEGACY_CONNECTION,
            type=hints().legacy_target_type,
            options=options,
            locations=locations,
            inline=inline,
        )
