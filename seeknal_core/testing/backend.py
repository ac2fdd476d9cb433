"""Which backend a conformance suite is about, and how its plugin is loaded."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import sys

import attrs

from seeknal_core.plugins.host import BACKENDS, PluginHost, PluginInfo


@attrs.frozen(kw_only=True)
class Backend:
    """The backend under test: what the fixture ``backend`` returns.

    ``type`` is the word that users write. ``plugin`` is where its hooks are, written
    like an entry point (``package.module`` or ``package.module:object``); left out, the
    installed entry point of the group ``seeknal.backends`` is used, as in production.
    ``table`` says how a target's ``table`` is written, with the fields ``namespace``
    and ``table``.
    """

    type: str
    plugin: str | None = None
    table: str = "{namespace}.{table}"

    def host(self) -> PluginHost:
        """Return the plugins of a command that needs this backend alone.

        Raises:
            PluginError: it is not installed, not importable or against the contract.
        """
        return _host(self, tuple(sys.path))

    def info(self) -> PluginInfo:
        """Return the plugin's distribution and version, as far as they are known."""
        return _info(self, tuple(sys.path))

    def hooks(self) -> frozenset[str]:
        """Return the hooks that the backend implements."""
        return self.host().loaded(self.type).hooks


# A suite makes hundreds of commands, and what is installed stays as it is meanwhile: the
# metadata of all distributions is read, and the hooks are registered, once per search path.


@functools.cache
def _host(backend: Backend, _path: tuple[str, ...]) -> PluginHost:
    host = PluginHost()
    if backend.plugin is None:
        host.load_backends([backend.type])
    else:
        host.add_backend(backend.info(), _object(backend.plugin))
    return host


@functools.cache
def _info(backend: Backend, _path: tuple[str, ...]) -> PluginInfo:
    host = PluginHost()
    installed = [info for info in host.installed(BACKENDS) if info.name == backend.type]
    if installed and backend.plugin in (None, installed[0].module):
        return installed[0]
    if backend.plugin is None:
        return host.info(BACKENDS, backend.type)
    package = backend.plugin.partition(":")[0].partition(".")[0]
    distribution, version = _distribution(package)
    return PluginInfo(
        group=BACKENDS,
        name=backend.type,
        module=backend.plugin,
        distribution=distribution,
        version=version,
    )


def _object(reference: str) -> object:
    module, _, name = reference.partition(":")
    found: object = importlib.import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)
    return found


@functools.cache
def _distribution(package: str) -> tuple[str, str]:
    """Return the name and version of the distribution that brings a package."""
    names = importlib.metadata.packages_distributions().get(package, [])
    for name in (*names, package):  # an editable installation names no packages
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(name)
            return found.name, found.version
    return package, "?"
