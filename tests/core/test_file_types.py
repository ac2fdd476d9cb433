"""A type of file sources has a name, params and a reader."""

from __future__ import annotations

from seeknal_core.engine.sources.load import _READERS
from seeknal_core.project.formats import _CLASSES
from seeknal_core.project.specs import FILE_TYPES


def test_every_type_has_params_and_a_reader() -> None:
    assert set(FILE_TYPES) == set(_CLASSES) == set(_READERS)
