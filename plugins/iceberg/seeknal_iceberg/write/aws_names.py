"""Names that AWS's catalogs are known to refuse for a new table."""

from __future__ import annotations

import re

from seeknal_core.contract.errors import WriteRefused
from seeknal_iceberg.names import quote

#: What AWS documents of names, by service: Glue folds them to lower case.
_NAMES = {
    "glue": re.compile(r"[a-z0-9_]{1,255}"),
    "s3tables": re.compile(r"[a-z0-9][a-z0-9_]{0,254}"),
}


def check_aws(service: str, parts: tuple[str, ...]) -> None:
    """Refuse the name of a new table that one of AWS's catalogs doesn't take.

    Other catalogs have rules of their own, which they tell when the table is made.

    Args:
        service: as `capabilities.aws_service` names it.

    Raises:
        WriteRefused: the name is not taken, with what to write.
    """
    name = quote(parts)
    if len(parts) > 2:
        raise WriteRefused(
            f"{name}: AWS's catalogs have namespaces of one level",
            "write catalog.namespace.table",
            target=name,
        )
    odd = [part for part in parts if not _NAMES[service].fullmatch(part)]
    if odd:
        raise WriteRefused(
            f"{name}: AWS's catalogs don't take the name {odd[0]!r}",
            "write names of lower-case letters, digits and underscores, of 255 characters at most",
            target=name,
        )
