"""The REST catalog: pyiceberg's, whose requests end and are repeated where that is safe."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pyiceberg.catalog import TOKEN
from pyiceberg.catalog.rest import (
    API_PREFIX,
    DEFAULT_ENDPOINTS,
    VIEW_ENDPOINTS,
    Capability,
    Endpoint,
    Endpoints,
    HttpMethod,
)
from pyiceberg.catalog.rest.response import _handle_non_200_response
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
)
from pyiceberg.table import CommitTableResponse
from pyiceberg.table.update import AssertTableUUID
from requests import HTTPError, Response

from seeknal_iceberg.connection.rest import commit_body
from seeknal_iceberg.connection.rest.table_files import FilesRestCatalog

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.update import TableRequirement, TableUpdate

#: The endpoint of commits to several tables.
_TRANSACTIONS = "transactions/commit"
#: The same, as catalogs list it in their configuration.
_COMMITS = Endpoint(http_method=HttpMethod.POST, path=f"{API_PREFIX}/{_TRANSACTIONS}")
#: Bytes that a write adds to a commit once its rows are placed.
_ROOM = 64 * 1024
#: Answers of catalogs that do not carry out such commits, or none so large.
_NOT_TOGETHER = frozenset({400, 404, 405, 413, 501})


class NotTogether(Exception):
    """A catalog does not commit several tables at once; nothing of the commit landed."""


class PatientRestCatalog(FilesRestCatalog):
    """pyiceberg's REST catalog, whose requests end, and are repeated where that is safe."""

    def commit_table(
        self,
        table: Table,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> CommitTableResponse:
        """Commit to one table, in the form that older readers of the specification take.

        Raises:
            CommitFailedException: the table is not as it was required to be.
            CommitStateUnknownException: the server failed in the middle.
        """
        name = table.name()
        body = commit_body.body_of(name, table.metadata, requirements, updates)
        place = self._split_identifier_for_path(name)
        response = self._sent(self.url(Endpoints.update_table, **place), body, table)
        _refuse(response)
        return CommitTableResponse.model_validate_json(response.text)

    def takes(self, table: Table, updates: tuple[TableUpdate, ...]) -> int | None:
        """Test whether a commit is small enough, by sending one of that size which can't land.

        Only large commits are tested.

        Returns:
            The commit's bytes where the catalog refuses so many, else None.
        """
        never = AssertTableUUID(uuid=uuid.uuid4())
        body = commit_body.body_of(table.name(), table.metadata, (never,), updates)
        size = len(commit_body.encoded(body))
        if size < commit_body.MOST - _ROOM:
            return None
        place = self._split_identifier_for_path(table.name())
        response = self._sent(self.url(Endpoints.update_table, **place), body, table)
        return size if response.status_code == 413 else None

    def commit_tables(self, bodies: Sequence[commit_body.Body]) -> None:
        """Commit changes of several tables at once: all of them, or none.

        pyiceberg 0.12 has no call for it; the endpoint is the specification's
        ``POST /v1/{prefix}/transactions/commit``.

        Args:
            bodies: made by `commit_body.body_of`.

        Raises:
            CommitFailedException: a table is not as it was required to be.
            CommitStateUnknownException: the server failed in the middle.
            NotTogether: the catalog does not carry out such a commit.
        """
        response = self._sent(self.url(_TRANSACTIONS), {"table-changes": list(bodies)})
        if response.status_code in _NOT_TOGETHER:
            raise NotTogether(f"HTTP {response.status_code}")
        _refuse(response)

    def renames_tables(self) -> bool | None:
        """Return whether the catalog renames tables, by its list of endpoints."""
        if self._lists_endpoints():
            return Capability.V1_RENAME_TABLE in self._supported_endpoints
        return None

    def rename(self, name: tuple[str, ...], to: tuple[str, ...]) -> None:
        """Rename a table, in one request and without asking for anything else.

        Raises:
            NoSuchTableError: it is not there, or the catalog doesn't know the request.
            TableAlreadyExistsError: the new name is taken.
            CommitStateUnknownException: the server failed in the middle.
        """
        body = {
            end: {"namespace": list(each[:-1]), "name": each[-1]}
            for end, each in (("source", name), ("destination", to))
        }
        response = self._sent(self.url(Endpoints.rename_table), body)
        try:
            response.raise_for_status()
        except HTTPError as error:
            unknown = dict.fromkeys((500, 502, 503, 504), CommitStateUnknownException)
            known = {404: NoSuchTableError, 409: TableAlreadyExistsError, **unknown}
            _handle_non_200_response(error, known)

    def _lists_endpoints(self) -> bool:
        without = (DEFAULT_ENDPOINTS, DEFAULT_ENDPOINTS | VIEW_ENDPOINTS)
        return self._supported_endpoints not in without

    def commits_tables(self) -> bool | None:
        """Return whether the catalog commits several tables at once; None if nothing tells.

        Decided by the list of endpoints in its configuration. A catalog without one is
        sent a commit of nothing.

        Raises:
            ServerError, TooManyRequestsError: the catalog is busy or fails, which says
                nothing of what it can.
        """
        if _COMMITS in self._supported_endpoints:
            return True
        if self._lists_endpoints():
            return False  # the catalog has a list, and this is not on it
        response = self._sent(self.url(_TRANSACTIONS), {"table-changes": []})
        status = response.status_code
        if status == 429 or (status >= 500 and status != 501):
            try:
                response.raise_for_status()
            except HTTPError as error:
                _handle_non_200_response(error, {})
        if response.ok:
            return True
        # A server that can may refuse a commit of nothing, and one that can't may do so too.
        return None if status in (400, 422) else False

    def _sent(self, url: str, body: commit_body.Body, table: Table | None = None) -> Response:
        """Send a commit, and once more where the token had expired: it was not carried out."""
        content = commit_body.encoded(body)
        headers = {"Content-Type": "application/json"}
        if table is not None and (token := table.config.get(TOKEN)):
            headers["Authorization"] = f"Bearer {token}"
        response = self._session.post(url, data=content, headers=headers)
        if response.status_code in (401, 419):  # as pyiceberg does with an expired token
            self._refresh_token()
            response = self._session.post(url, data=content, headers=headers)
        return response


def _refuse(response: Response) -> None:
    """Raise for a commit's answer that is not "done"."""
    if response.status_code == 413:
        sent = response.request.body
        size = len(sent) if isinstance(sent, bytes) else 0
        raise RESTError(f"the commit has {size:,} bytes, more than the catalog takes (HTTP 413)")
    try:
        response.raise_for_status()
    except HTTPError as error:
        unknown = dict.fromkeys((500, 502, 503, 504), CommitStateUnknownException)
        _handle_non_200_response(
            error, {404: NoSuchTableError, 409: CommitFailedException, **unknown}
        )
