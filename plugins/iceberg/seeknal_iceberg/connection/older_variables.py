"""Variables of older projects: where their one catalog was, and who they were there."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: The variables, by what they mean here.
VARIABLES = {
    "uri": "LAKEKEEPER_URI",
    "warehouse": "LAKEKEEPER_WAREHOUSE",
    "oauth2-server-uri": "KEYCLOAK_TOKEN_URL",
    "client-id": "KEYCLOAK_CLIENT_ID",
    "client-secret": "KEYCLOAK_CLIENT_SECRET",
}


def variables() -> Mapping[str, str]:
    """Return what older projects' variables say; the one place where they are read."""
    found = {name: os.environ.get(variable, "") for name, variable in VARIABLES.items()}
    return {name: value for name, value in found.items() if value}


def defaults(flat: Mapping[str, object]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what a REST catalog's properties lack and the variables say.

    Args:
        flat: the properties that the profile has.

    Returns:
        The properties to add, and the names of the variables that they come from.
    """
    said = variables()
    added: dict[str, str] = {}
    used: list[str] = []
    for name in ("uri", "warehouse"):
        if name in said and not flat.get(name):
            added[name] = said[name]
            used.append(VARIABLES[name])
    knows_itself = any(name in flat for name in ("credential", "token", "header.Authorization"))
    knows_itself = knows_itself or any(name.startswith("auth.") for name in flat)
    knows_itself = knows_itself or str(flat.get("rest.sigv4-enabled", "")).lower() == "true"
    client, secret = said.get("client-id"), said.get("client-secret")
    # A secret is for the identity provider that is named with it, for no other address.
    server = flat.get("oauth2-server-uri") or said.get("oauth2-server-uri")
    if client and secret and server and not knows_itself:
        added["credential"] = f"{client}:{secret}"
        used += [VARIABLES["client-id"], VARIABLES["client-secret"]]
        if not flat.get("oauth2-server-uri"):
            added["oauth2-server-uri"] = str(server)
            used.append(VARIABLES["oauth2-server-uri"])
    return added, tuple(used)
