"""What goes wrong while the files of a project are read, gathered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from seeknal_core.contract.errors import ConfigError, OptionError, Problem
from seeknal_core.contract.options import join, structure
from seeknal_core.project.yaml import Document

T = TypeVar("T")


class Collector:
    """Gathers mistakes, and the uses of fields of older versions, of many documents."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._legacy: dict[str, list[Problem]] = {}

    @property
    def noted(self) -> int:
        """How much was noted by now, mistakes and uses of legacy fields."""
        return len(self.problems) + sum(map(len, self._legacy.values()))

    def add(self, document: Document, path: str, message: str, hint: str = "") -> None:
        """Note a mistake at `path` of `document`."""
        if path in document.broken:
            return
        self.problems.append(document.problem(path, message, hint))

    def structure(
        self, document: Document, value: object, cls: type[T], path: str = ""
    ) -> T | None:
        """Structure a value of `document`; note its mistakes and return None if it has any."""
        try:
            # A value that is no mapping at all is one of the mistakes.
            return structure(value, cls, path=path, public=True)  # type: ignore[arg-type]
        except OptionError as error:
            self.problems += document.problems(error)
            return None

    def without_legacy(
        self,
        document: Document,
        value: Mapping[str, object],
        known: Collection[str],
        path: str = "",
    ) -> dict[str, object]:
        """Return `value` without the fields that only Seeknal 2.x uses, noting each."""
        for key in value:
            if key in known:
                self.legacy(document, join(path, key), key)
        return {key: item for key, item in value.items() if key not in known}

    def legacy(self, document: Document, path: str, name: str, message: str = "") -> None:
        """Note the use of something that older projects have and that has no effect here."""
        message = message or f"{name!r} is of Seeknal 2.x and has no effect"
        self._legacy.setdefault(name, []).append(document.problem(path, message))

    def warnings(self) -> tuple[Problem, ...]:
        """Return one warning per legacy name, at the place of its first use."""
        found = []
        for first, *others in self._legacy.values():
            count = f" (and {len(others)} more)" if others else ""
            found.append(first._replace(message=first.message + count))
        return tuple(found)

    def check(self) -> None:
        """Raise all mistakes, each once, in the order of files and lines.

        Raises:
            ConfigError: there are any.
        """
        if self.problems:
            unique = dict.fromkeys(self.problems)
            raise ConfigError(sorted(unique, key=lambda each: (each.file, each.line, each.column)))
