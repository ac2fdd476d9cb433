"""Find plugins, load what a command needs, and hold them to the contract.

stevedore reads the entry points and imports by name; pluggy checks the
signatures and calls. What neither does is here: two distributions that claim
one name, a plugin that cannot be imported, required hooks that are missing, a
wrapper plugin that is none. See ``docs/hooks.md`` for the hooks themselves.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

from seeknal_core.contract import hooks as hookspecs
from seeknal_core.contract.errors import (
    BackendBroken,
    BackendNotInstalled,
    HookContractError,
    PluginError,
    SeeknalError,
    exhausted,
)
from seeknal_core.contract.hooks import Hook
from seeknal_core.contract.options import nearest
from seeknal_core.contract.shown import trace
from seeknal_core.hints import canonical_type, hints
from seeknal_core.project.trust import switch

if TYPE_CHECKING:
    from pluggy import HookCaller

BACKENDS = "seeknal.backends"
WRAPPERS = "seeknal.plugins"

#: Every hook of the contract, in the order of `seeknal_core.contract.hooks`.
HOOKS: tuple[Hook, ...] = tuple(Hook)


@attrs.frozen(kw_only=True)
class PluginInfo:
    """An installed plugin, as its metadata tells, without importing it."""

    group: str
    name: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@attrs.frozen(kw_only=True)
class LoadedPlugin:
    """A registered plugin and the hooks it implements."""

    info: PluginInfo
    plugin: object = attrs.field(repr=False)
    hooks: frozenset[str] = frozenset()


@contextmanager
def _without_stevedore_cache() -> Iterator[None]:
    """Keep stevedore from caching entry points below ``~/.cache``, where we must not write.

    It reads XDG_CACHE_HOME once, on import, and has no setting (``docs/adr/0005``).
    """
    before = os.environ.get("XDG_CACHE_HOME")
    # Below the null device nothing can be made, which stevedore takes for "no cache".
    os.environ["XDG_CACHE_HOME"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before


class PluginHost:
    """The plugins of one command.

    Args:
        disabled: names to leave out (``SEEKNAL_DISABLE_PLUGINS``).
        trace: called with one line for every hook call, or None (``SEEKNAL_TRACE_HOOKS``).
        strict: whether a wrapper plugin that cannot be used is an error, not a warning
            (``--strict-plugins``, ``SEEKNAL_STRICT_PLUGINS``).
    """

    def __init__(
        self,
        *,
        disabled: frozenset[str] = frozenset(),
        trace: Callable[[str], object] | None = None,
        strict: bool = False,
    ) -> None:
        self._disabled = disabled
        self._strict = strict
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._backends: dict[str, LoadedPlugin] = {}
        self._wrappers: dict[str, LoadedPlugin] = {}
        self._callers: dict[tuple[str, str], HookCaller] = {}
        self._installed: dict[str, tuple[PluginInfo, ...]] = {}
        if trace is not None:
            self._trace(trace)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> PluginHost:
        """Make a host as the process's environment variables say."""
        names = environ.get("SEEKNAL_DISABLE_PLUGINS", "")
        traced, strict = (
            switch(environ, name) for name in ("SEEKNAL_TRACE_HOOKS", "SEEKNAL_STRICT_PLUGINS")
        )
        return cls(
            disabled=frozenset(name.strip() for name in names.split(",") if name.strip()),
            trace=trace if traced else None,
            strict=strict,
        )

    def installed(self, group: str) -> tuple[PluginInfo, ...]:
        """List the plugins of a group without importing any, disabled ones left out."""
        if group not in self._installed:
            found: dict[tuple[str, str], PluginInfo] = {}
            for entry in importlib.metadata.entry_points(group=group):
                distribution = entry.dist.name if entry.dist else "unknown"
                info = PluginInfo(
                    group=group,
                    name=entry.name,
                    module=entry.value,
                    distribution=distribution,
                    version=entry.dist.version if entry.dist else "?",
                )
                # One distribution can be on the path twice (a checkout and its installation).
                found.setdefault((entry.name, distribution), info)
            self._installed[group] = tuple(sorted(found.values(), key=lambda info: info.name))
        return tuple(info for info in self._installed[group] if info.name not in self._disabled)

    def info(self, group: str, name: str) -> PluginInfo:
        """Return the one plugin of that name.

        Raises:
            BackendNotInstalled: there is none.
            PluginError: two distributions claim the name.
        """
        claims = [info for info in self.installed(group) if info.name == name]
        if len(claims) > 1:
            raise PluginError(
                f"{'type' if group == BACKENDS else 'name'} {name!r} is claimed by two plugins: {claims[0]} and {claims[1]}",
                f"uninstall one of them: pip uninstall {claims[1].distribution}",
            )
        if not claims:
            raise self._not_installed(name)
        return claims[0]

    def missing(self, type: str) -> BackendNotInstalled | None:
        """Return the error of a (canonical) type that no installed backend provides."""
        claimed = any(info.name == type for info in self.installed(BACKENDS))
        return None if claimed else self._not_installed(type)

    def unknown(self, type: str) -> bool:
        """Return whether nobody has heard of a type: no installed backend, no hint."""
        known = type in self._disabled or type in hints().distributions
        return not known and self.missing(type) is not None

    def _not_installed(self, name: str) -> BackendNotInstalled:
        if name in self._disabled:
            return BackendNotInstalled(
                f"type {name!r} is switched off by SEEKNAL_DISABLE_PLUGINS",
                "unset SEEKNAL_DISABLE_PLUGINS",
            )
        distribution = hints().distributions.get(name)
        if distribution:
            return BackendNotInstalled(
                f"type {name!r} needs a backend: pip install {distribution}",
                f"pip install {distribution}",
            )
        known = [info.name for info in self.installed(BACKENDS)]
        suggestion = nearest(name, [*known, *hints().distributions, *hints().aliases])
        return BackendNotInstalled(
            f"no installed backend provides type {name!r}"
            + (f"; {suggestion}" if suggestion else f"; installed: {', '.join(known) or 'none'}"),
            "fix the type, or install the plugin that provides it",
        )

    def load_backends(self, types: Iterable[str]) -> None:
        """Import and register the backends of these (canonical) types.

        All backends of a command must be loaded before the first hook call: a
        subset caller does not leave out plugins that are registered after it
        was made.

        Raises:
            PluginError: not installed, not importable or against the contract.
        """
        wanted = sorted({canonical_type(word) for word in types} - set(self._backends))
        for name in wanted:
            info = self.info(BACKENDS, name)
            with _loading(info):
                self.add_backend(info, self._import(info))

    def add_backend(self, info: PluginInfo, plugin: object) -> None:
        """Register a backend that was imported already, and hold it to the contract.

        Raises:
            BackendBroken: the plugin is against the contract.
        """
        self._register(info, plugin)
        fault = _incomplete(self._backends[info.name].hooks)
        if fault:
            self._manager.unregister(plugin)
            del self._backends[info.name]
            raise BackendBroken(
                f"backend {info.name!r} ({info}) {fault}",
                f"report it to the authors of {info.distribution}, or install another version",
            )
        self._callers.clear()

    def load_wrappers(self) -> tuple[PluginError, ...]:
        """Import and register every plugin of ``seeknal.plugins``.

        Returns:
            The plugins that could not be used, one error each: a wrapper that
            is broken must not stop a run it has no part in.

        Raises:
            PluginError: the host is strict, and there is such a plugin.
        """
        failures: list[PluginError] = []
        for name in dict.fromkeys(info.name for info in self.installed(WRAPPERS)):
            try:
                self.load_wrapper(name)
            except PluginError as error:
                failures.append(error)
        self._callers.clear()
        if failures and self._strict:
            raise PluginError(
                "\n".join(str(failure) for failure in failures),
                f"{failures[0].hint}; or leave the plugin out with SEEKNAL_DISABLE_PLUGINS, "
                "or run without --strict-plugins",
            )
        return tuple(failures)

    def load_wrapper(self, name: str) -> LoadedPlugin:
        """Import and register one plugin of ``seeknal.plugins``.

        Raises:
            PluginError: it is not installed, not importable or against the contract.
        """
        if name not in self._wrappers:
            info = self.info(WRAPPERS, name)
            with _loading(info):
                plugin = self._import(info)
                self._refuse_plain_hooks(info, plugin)
                self._register(info, plugin)
        return self._wrappers[name]

    def loaded(self, type: str) -> LoadedPlugin:
        """Return a loaded backend, by its canonical type."""
        try:
            return self._backends[type]
        except KeyError:
            raise self._not_installed(type) from None

    def implements(self, type: str, hook: Hook) -> bool:
        """Return whether a loaded backend implements a hook."""
        return hook in self.loaded(type).hooks

    def together(self, type: str, hook: Hook) -> bool:
        """Return whether a hook for several targets may be called in place of the single one.

        Not where a wrapper plugin knows the single one alone: it means to see each target.
        """
        single = hookspecs.TOGETHER[hook]
        return self.implements(type, hook) and not any(
            single in wrapper.hooks and hook not in wrapper.hooks
            for wrapper in self._wrappers.values()
        )

    def around(self, hook: Hook) -> tuple[PluginInfo, ...]:
        """Return the loaded wrapper plugins that take part in a hook."""
        return tuple(each.info for each in self._wrappers.values() if hook in each.hooks)

    def culprit(self, type: str, error: BaseException) -> PluginInfo:
        """Return the plugin in whose code an error was raised: a wrapper's, else the backend's."""
        loaded = [self.loaded(type), *self._wrappers.values()]
        modules = {_module_of(each.plugin): each.info for each in loaded}
        packages = {name.partition(".")[0]: info for name, info in reversed(modules.items())}
        for name in _modules_of(error):
            found = modules.get(name) or packages.get(name.partition(".")[0])
            if found is not None:
                return found
        # A wrapper that yields never, or twice: pluggy says so, and where its code is.
        for each in self._wrappers.values():
            file = getattr(sys.modules.get(_module_of(each.plugin)), "__file__", None)
            if isinstance(error, RuntimeError) and file and file in str(error):
                return each.info
        return self.loaded(type).info

    def caller(self, type: str, hook: Hook) -> HookCaller:
        """Return the caller that reaches the one backend of `type` and all wrappers."""
        key = (type, hook)
        caller = self._callers.get(key)
        if caller is None:
            backend = self.loaded(type)
            others = [
                loaded.plugin for name, loaded in self._backends.items() if loaded is not backend
            ]
            caller = self._manager.subset_hook_caller(hook, others)
            plain = [
                impl for impl in caller.get_hookimpls() if not (impl.wrapper or impl.hookwrapper)
            ]
            if len(plain) != 1:
                raise HookContractError(
                    f"hook {hook} of type {type!r} has {len(plain)} implementations, not one"
                )
            self._callers[key] = caller
        return caller

    def _import(self, info: PluginInfo) -> object:
        with _without_stevedore_cache():
            from stevedore.named import NamedExtensionManager
        failures: list[BaseException] = []

        def failed(_manager: object, _entry: object, error: BaseException) -> None:
            failures.append(error)

        manager: Any = NamedExtensionManager(
            info.group,
            names=[info.name],
            on_load_failure_callback=failed,
            on_missing_entrypoints_callback=lambda _names: None,
        )
        if failures or info.name not in manager:
            cause = failures[0] if failures else None
            if spent := exhausted(cause):
                raise spent from cause
            text = f"{type(cause).__name__}: {cause}" if cause else "the entry point is gone"
            raise BackendBroken(
                f"plugin {info.name!r} ({info}) cannot be imported: {text}",
                f"pip install --upgrade {info.distribution}",
            ) from cause
        return manager[info.name].plugin

    def _register(self, info: PluginInfo, plugin: object) -> None:
        api = getattr(plugin, "SEEKNAL_HOOK_API", hookspecs.HOOK_API)
        if not isinstance(api, int) or api > hookspecs.HOOK_API:
            raise BackendBroken(
                f"plugin {info.name!r} ({info}) is written for hook API {api}; "
                f"this Seeknal has {hookspecs.HOOK_API}",
                "pip install --upgrade seeknal-core",
            )
        try:
            self._manager.register(plugin, name=f"{info.group}:{info.name}")
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise BackendBroken(
                f"plugin {info.name!r} ({info}) breaks the hook contract: "
                f"{_misspelled(plugin) or ' '.join(str(error).split())}",
                f"report it to the authors of {info.distribution}; see: python -m pydoc seeknal_core.contract.hooks",
            ) from error
        callers = self._manager.get_hookcallers(plugin) or []
        loaded = LoadedPlugin(
            info=info, plugin=plugin, hooks=frozenset(caller.name for caller in callers)
        )
        (self._backends if info.group == BACKENDS else self._wrappers)[info.name] = loaded

    def _refuse_plain_hooks(self, info: PluginInfo, plugin: object) -> None:
        marker = f"{hookspecs.PROJECT}_impl"
        names = dir(plugin) if not isinstance(plugin, ModuleType) else vars(plugin)
        for name in names:
            options = getattr(getattr(plugin, name, None), marker, None)
            if options and not (options.get("wrapper") or options.get("hookwrapper")):
                raise BackendBroken(
                    f"plugin {info.name!r} ({info}) implements {name} without being a wrapper",
                    "a plugin of seeknal.plugins marks its hooks with @hookimpl(wrapper=True)",
                )

    def _trace(self, emit: Callable[[str], object]) -> None:
        from seeknal_core.contract.types import redact

        def before(hook: str, _impls: object, kwargs: Mapping[str, object]) -> None:
            shown = ", ".join(f"{k}={v!r}" for k, v in kwargs.items() if k != "context")
            emit(redact(f"hook {hook}({shown})"))

        def after(outcome: pluggy.Result[Any], hook: str, _impls: object, _kwargs: object) -> None:
            error = outcome.exception
            result = f"raised {error!r}" if error else f"-> {outcome.get_result()!r}"
            emit(redact(f"hook {hook} {result}"))

        self._manager.add_hookcall_monitoring(before, after)


def ended(error: BaseException) -> str:
    """Return what an error of a plugin's says, also of one that means to end the process."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    return f"{error.__class__.__name__}: {error}"


def is_users_stop(error: BaseException) -> bool:
    """Return whether an exception is the user's Ctrl-C, which only the main thread hears."""
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)


@contextmanager
def _loading(info: PluginInfo) -> Iterator[None]:
    """Call whatever goes wrong while a plugin is loaded its own fault.

    stevedore reports exceptions, but lets pass what means to end the process, and asserts.
    """
    try:
        yield
    except SeeknalError:
        raise
    except BaseException as error:
        if is_users_stop(error):
            raise
        if spent := exhausted(error):
            raise spent from error
        raise BackendBroken(
            f"plugin {info.name!r} ({info}) cannot be imported: {ended(error)}",
            f"pip install --upgrade {info.distribution}",
        ) from error


def _modules_of(error: BaseException) -> Iterator[str]:
    """Yield the modules that an error came through, innermost first, and those of its cause.

    Python turns a StopIteration in a generator into an error whose own traceback lacks the
    generator: only its cause's has it.
    """
    import traceback

    frames = list(traceback.walk_tb(error.__traceback__))
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        yield from _modules_of(error.__cause__)
    for frame, _ in reversed(frames):
        yield str(frame.f_globals.get("__name__", ""))


def _module_of(plugin: object) -> str:
    return plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__


def _misspelled(plugin: object) -> str:
    """Name the first hook or argument of a plugin that the contract has not, or nothing."""
    marker = f"{hookspecs.PROJECT}_impl"
    for name in dir(plugin):
        function = getattr(plugin, name, None)
        if not hasattr(function, marker) or not callable(function):
            continue
        if name not in HOOKS:
            return f"there is no hook {name!r}; {nearest(name, HOOKS)}".removesuffix("; ")
        known = list(inspect.signature(getattr(hookspecs, name)).parameters)
        for argument in inspect.signature(function).parameters.values():
            if argument.name not in known and argument.default is argument.empty:
                meant = nearest(argument.name, known) or f"it has {', '.join(known) or 'none'}"
                return f"hook {name} has no argument {argument.name!r}; {meant}"
    return ""


def _incomplete(hooks: frozenset[str]) -> str:
    """Return what a backend's hooks lack, or nothing."""
    missing = [hook for hook in hookspecs.REQUIRED if hook not in hooks]
    if missing:
        return f"lacks the required hook{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    for group in hookspecs.GROUPS:
        there = [hook for hook in group if hook in hooks]
        if there and len(there) < len(group):
            absent = [hook for hook in group if hook not in hooks]
            return f"implements {', '.join(there)} without {', '.join(absent)}"
    for hook, needed in hookspecs.NEEDS:
        if hook in hooks and needed not in hooks:
            return f"implements {hook} without {needed}"
    return ""
