"""The REST catalog: pyiceberg's, whose requests end and are repeated where that is safe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.rest.response import _handle_non_200_response
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
)
from pyiceberg.table import CommitTableRequest
from requests import HTTPError, Response, Session

from seeknal_iceberg.patience import Patience, PatientAdapter

#: The endpoint of commits to several tables.
_TRANSACTIONS = "transactions/commit"


class PatientRestCatalog(RestCatalog):
    """pyiceberg's REST catalog, whose requests end, and are repeated where that is safe."""

    def __init__(self, name: str, patience: Patience, **properties: Any) -> None:
        self._patience = patience
        super().__init__(name, **properties)

    def _config_headers(self, session: Session) -> None:
        # The first thing done with each new session, also with the one that the
        # constructor and the request for a token use.
        for scheme in ("http://", "https://"):
            session.mount(scheme, PatientAdapter(self._patience))
        super()._config_headers(session)

    def commit_tables(self, changes: Sequence[CommitTableRequest]) -> None:
        """Commit changes of several tables at once: all of them, or none.

        pyiceberg 0.12 has no call for it; the endpoint is the specification's
        ``POST /v1/{prefix}/transactions/commit``.

        Raises:
            CommitFailedException: a table is not as it was required to be.
            CommitStateUnknownException: the server failed in the middle.
        """
        body = {"table-changes": [json.loads(change.model_dump_json()) for change in changes]}
        response = self._post(body)
        try:
            response.raise_for_status()
        except HTTPError as error:
            unknown = dict.fromkeys((500, 502, 503, 504), CommitStateUnknownException)
            _handle_non_200_response(
                error, {404: NoSuchTableError, 409: CommitFailedException, **unknown}
            )

    def commits_tables(self) -> bool:
        """Ask whether `commit_tables` will be answered: by a commit of nothing.

        Raises:
            ServerError, TooManyRequestsError: the catalog is busy or fails, which says
                nothing of what it can.
        """
        response = self._post({"table-changes": []})
        status = response.status_code
        if status == 429 or (status >= 500 and status != 501):
            try:
                response.raise_for_status()
            except HTTPError as error:
                _handle_non_200_response(error, {})
        # A server may refuse a commit of nothing, but knows the endpoint then.
        return response.ok or status in (400, 422)

    def _post(self, body: Any) -> Response:
        response = self._session.post(self.url(_TRANSACTIONS), json=body)
        if response.status_code in (401, 419):  # as pyiceberg does with an expired token
            self._refresh_token()
            response = self._session.post(self.url(_TRANSACTIONS), json=body)
        return response
