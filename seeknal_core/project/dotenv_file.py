"""``.env`` in the project's folder: variables for this process, and those that it can't set."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from seeknal_core.contract.errors import ConfigError, Problem
from seeknal_core.hints import hints
from seeknal_core.project.allowed_variables import is_secret_name
from seeknal_core.project.interpolation import remember
from seeknal_core.project.readable import rights_warning
from seeknal_core.project.yaml import read_text

ENV_FILE = ".env"
#: They say which profile, which folders and whether the project is trusted.
_OURS = re.compile(r"SEEKNAL_.*", re.IGNORECASE | re.DOTALL)
#: They make programs load code or trust other servers, or send what is secret elsewhere.
_DANGEROUS = re.compile(
    r"PATH|HOME|SHELL|IFS|ENV|BASH_ENV|TMPDIR|TMP|TEMP|XDG_.*|LD_.*|DYLD_.*|PY.*"
    r"|GLIBC_TUNABLES|GCONV_PATH|LOCPATH|MALLOC_.*|JAVA_TOOL_OPTIONS|_JAVA_OPTIONS|JDK_JAVA_OPTIONS"
    r"|COVERAGE_.*|SSL_.*|SSLKEYLOGFILE|OPENSSL_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|AWS_CA_BUNDLE"
    r"|(.*_)?PROXY|HOSTALIASES|LOCALDOMAIN|RES_OPTIONS|KRB5.*|GSS.*|GIT_.*|SSH_.*"
    r"|AWS_CONFIG_FILE|AWS_SHARED_CREDENTIALS_FILE|AWS_WEB_IDENTITY_TOKEN_FILE|AWS_ROLE_.*"
    r"|AWS_CONTAINER_.*|AWS_EC2_METADATA_.*|AWS_STS_.*"
    r"|PGHOSTADDR|PGSERVICE|PGSERVICEFILE|PGSYSCONFDIR|PGPASSFILE|PGOPTIONS|PGSSL.*|PGREQUIRE.*"
    r"|PGGSS.*|PGKRB.*|PGCHANNELBINDING",
    re.IGNORECASE | re.DOTALL,
)
#: Where a server is, and the secret that is sent there: both come from ``.env``, or neither.
_PAIRS = {
    "PGHOST": "PGPASSWORD",
    "PGPORT": "PGPASSWORD",
    "AWS_ENDPOINT_URL": "AWS_SECRET_ACCESS_KEY",
    # Of the examples of wrapper plugins.
    "OPENLINEAGE_URL": "OPENLINEAGE_API_KEY",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "OTEL_EXPORTER_OTLP_HEADERS",
}
_REFERENCE = re.compile(r"\$\{([^}:]*)")


def load_env_file(root: Path) -> tuple[Problem, ...]:
    """Load ``.env`` of the project into this process's environment; what is set wins.

    Returns:
        Warnings about variables that are not taken from there.

    Raises:
        ConfigError: the file cannot be read, holds a line that is no assignment, or sets
            a variable of Seeknal itself.
    """
    path = root / ENV_FILE
    if not os.path.lexists(path):
        return ()
    from dotenv.parser import parse_stream

    if path.is_file() and path.stat().st_size == 0:
        return ()
    text = read_text(path, ENV_FILE)
    bindings = list(parse_stream(io.StringIO(text)))
    problems = [
        Problem("is no assignment", ENV_FILE, binding.original.line, hint="write NAME=value")
        for binding in bindings
        if binding.error
    ]
    lines = {binding.key: binding.original.line for binding in bindings if binding.key}
    problems += [
        Problem(
            f"{name} cannot be set here",
            ENV_FILE,
            line,
            hint="a checkout must not decide that: set it where the command runs",
        )
        for name, line in lines.items()
        if _OURS.fullmatch(name)
    ]
    problems += [
        Problem(
            f"{binding.key} is made of {secret}, which is a secret",
            ENV_FILE,
            binding.original.line,
            hint=f"give it a name that says so, such as {binding.key}_PASSWORD",
        )
        for binding in bindings
        if binding.key and not is_secret_name(binding.key)
        for secret in _REFERENCE.findall(binding.value or "")
        if is_secret_name(secret)
    ]
    if problems:
        raise ConfigError(problems)
    secret = any(each.value and is_secret_name(each.key or "") for each in bindings)
    return (*rights_warning(path, ENV_FILE, secret=secret), *_take(text, lines))


def _take(text: str, lines: Mapping[str, int]) -> tuple[Problem, ...]:
    from dotenv import dotenv_values

    values = dotenv_values(stream=io.StringIO(text))
    warnings = []
    for name, value in values.items():
        if value is None:
            continue
        if name not in os.environ:
            why = _why_not(name, values)
            if why:
                warnings.append(
                    Problem(f"{name} is not taken from here: {why}", ENV_FILE, lines[name])
                )
                continue
            os.environ[name] = value
        remember(name, os.environ[name])
    return tuple(warnings)


def _why_not(name: str, values: Mapping[str, str | None]) -> str:
    if _DANGEROUS.fullmatch(name) or name.upper().startswith(tuple(hints().steering_variables)):
        return "it steers programs and connections; set it where the command runs"
    secret = _PAIRS.get("AWS_ENDPOINT_URL" if name.startswith("AWS_ENDPOINT_URL") else name)
    if secret is None:
        return ""
    own = values.get(secret)
    # Keys of AWS may come from elsewhere than the environment.
    absent = secret not in os.environ and not secret.startswith("AWS")
    if absent or (own and os.environ.get(secret, own) == own):
        return ""
    return f"another {secret} would be sent there; set both here, or both where the command runs"
