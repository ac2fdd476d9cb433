"""The files of a REST catalog's tables: each table comes with its own way to them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog.rest import (
    Capability,
    Endpoints,
    TableResponse,
)
from pyiceberg.catalog.rest.response import _handle_non_200_response
from pyiceberg.exceptions import NoSuchTableError, RESTError
from pyiceberg.io import load_file_io
from pyiceberg.schema import Schema
from pyiceberg.table import StagedTable, Table
from pyiceberg.types import LongType, NestedField
from requests import HTTPError

from seeknal_core.contract.errors import SeeknalError
from seeknal_core.contract.types import redact
from seeknal_iceberg.connection.storage import access as accesses
from seeknal_iceberg.connection.storage.access import Offer
from seeknal_iceberg.connection.storage.object_store import TABLE_LOCATION
from seeknal_iceberg.connection.storage.vended_files import LeftFiles, VendedFileIO
from seeknal_iceberg.connection.storage.vended_keys import VendedKeys

if TYPE_CHECKING:
    from pyiceberg.io import FileIO

from seeknal_iceberg.connection.rest.base import BaseRestCatalog

log = logging.getLogger("seeknal")

#: Schemes that pyiceberg opens by other file systems than pyarrow's.
_OTHERS = frozenset({"hf", "oss"})
#: Azure's keys that only fsspec takes.
_FSSPEC_KEYS = ("adls.connection-string", "adls.credential", "adls.token", "adls.anon")


class FilesRestCatalog(BaseRestCatalog):
    """A REST catalog that opens the files of its tables by the keys that it gives for them."""

    def _load_file_io(
        self, properties: Mapping[str, Any] = {}, location: str | None = None
    ) -> FileIO:
        return self._io(
            VendedKeys(self.profile, self.offered, Offer.of(properties, ())), location or ""
        )

    def _io(self, lease: VendedKeys, location: str) -> FileIO:
        access, _ = lease.at(location)
        scheme = location.partition("://")[0] if "://" in location else ""
        fsspec = any(access.properties.get(name) for name in _FSSPEC_KEYS)
        if "py-io-impl" in self.profile or scheme in _OTHERS or fsspec:
            return load_file_io(dict(access.properties), location)
        if not access.vended and not access.signed_only:
            plain = {
                **access.properties,
                "py-io-impl": "seeknal_iceberg.connection.storage.object_store.WatchedFileIO",
                TABLE_LOCATION: location,
            }
            return load_file_io(plain, location)
        return VendedFileIO(lease, location, self._shared.spool, self._refusal)

    def _refusal(self) -> SeeknalError:
        return accesses.refusal(self._shared.name, str(self.profile["uri"]), "")

    def _response_to_table(
        self, identifier_tuple: tuple[str, ...], table_response: TableResponse
    ) -> Table:
        def renew() -> Offer:
            return self._asked_offer(identifier_tuple)

        return Table(
            identifier=identifier_tuple,
            metadata_location=table_response.metadata_location or "",
            metadata=table_response.metadata,
            io=self._opened(table_response, renew),
            catalog=self,
        )

    def _response_to_staged_table(
        self, identifier_tuple: tuple[str, ...], table_response: TableResponse
    ) -> StagedTable:
        def renew() -> Offer:
            # By now it may have been made.
            try:
                return self._asked_offer(identifier_tuple)
            except NoSuchTableError:
                return self._staged_offer(identifier_tuple, table_response.metadata.location)

        return StagedTable(
            identifier=identifier_tuple,
            metadata_location=table_response.metadata_location or "",
            metadata=table_response.metadata,
            io=self._opened(table_response, renew),
            catalog=self,
        )

    def _opened(self, response: TableResponse, renew: Callable[[], Offer]) -> FileIO:
        """Return what opens a table's files, and remember it by the table's place."""
        location = response.metadata.location
        io = self._io(self._lease(response, renew), location)
        # Its files are deleted after it is dropped, when no keys come with it any more.
        self._shared.places[location.rstrip("/")] = io
        return io

    def _lease(self, response: TableResponse, renew: Any) -> VendedKeys:
        lease = VendedKeys(self.profile, self.offered, _offer_of(response), renew)
        self._shared.leases[response.metadata.location.rstrip("/")] = lease
        return lease

    def _asked_offer(self, identifier: tuple[str, ...]) -> Offer:
        """Request a table's keys: alone if the catalog supports that, else with the table."""
        if Capability.V1_LOAD_CREDENTIALS in self._supported_endpoints:
            try:
                found = self._load_credentials(identifier).storage_credentials
            except NoSuchTableError:
                raise
            except Exception:  # noqa: BLE001 - Lakekeeper up to 0.8 lists the address and does not know it
                found = []
            if any(accesses.has_keys(each.config) for each in found):
                return Offer.of({}, ((each.prefix, each.config) for each in found))
        response = self._session.get(
            self.url(Endpoints.load_table, **self._split_identifier_for_path(identifier))
        )
        if response.status_code in (401, 419):
            self._refresh_token()
            response = self._session.get(response.request.url or "")
        try:
            response.raise_for_status()
        except HTTPError as error:
            _handle_non_200_response(error, {404: NoSuchTableError})
        return _offer_of(TableResponse.model_validate_json(response.text))

    def _staged_offer(self, identifier: tuple[str, ...], location: str | None) -> Offer:
        """Request the keys of a missing table, by beginning to create it at its location.

        Some catalogs (Polaris, Lakekeeper) begin a table only where no files are. Where they
        choose the place by the table's name, they choose the same one again.
        """
        schema = Schema(NestedField(1, "id", LongType(), required=False))
        try:
            return _offer_of(self._create_table(identifier, schema, location, stage_create=True))
        except RESTError:
            if location is None:
                raise
            begun = self._create_table(identifier, schema, None, stage_create=True)
            if begun.metadata.location.rstrip("/") != location.rstrip("/"):
                raise
            return _offer_of(begun)

    def access_of(self, table: Table) -> accesses.Access | None:
        """Return how a table's files are opened; None if the profile's own class does."""
        if "py-io-impl" in self.profile:
            return None
        with self._shared.lock:
            lease = self._shared.leases.get(table.metadata.location.rstrip("/"))
        return lease.at(table.metadata.location)[0] if lease is not None else None

    def known_io(self, location: str) -> FileIO | None:
        """Return the file access for a location that this command knows without asking."""
        if accesses.has_keys(self.profile) or not accesses.is_kept_by_keys(location):
            return self._load_file_io(location=location)
        place = location.rstrip("/") + "/"
        # A copy: other threads add to it.
        fitting = [root for root in list(self._shared.places) if place.startswith(f"{root}/")]
        return self._shared.places[max(fitting, key=len)] if fitting else None

    def io_at(self, identifier: tuple[str, ...], location: str) -> FileIO:
        """Return the file access for a table that is being made, or was dropped.

        Args:
            location: the table's.
        """
        known = self.known_io(location)
        if known is not None:
            return known

        def renew() -> Offer:
            return self._staged_offer(identifier, location)

        try:
            io = self._io(VendedKeys(self.profile, self.offered, renew(), renew), location)
        except Exception as error:  # noqa: BLE001 - the catalog can't stage, or not at a location with files
            log.debug("no keys for %s: %s", location, redact(str(error)))
            io = self._io_without_keys(identifier, location)
        with self._shared.lock:
            self._shared.places[location.rstrip("/")] = io
        return io

    def _io_without_keys(self, identifier: tuple[str, ...], location: str) -> FileIO:
        """Return the file access for files for which the catalog gives no keys: AWS's own, or none.

        Where it lends keys with other tables, these are tried, and nobody else's: some
        catalogs (R2) lend keys to the whole warehouse.
        """
        other = (*identifier[:-1], f"seeknal_keys_{uuid.uuid4().hex[:8]}")
        try:
            offer = self._staged_offer(other, None)
        except Exception:  # noqa: BLE001 - it stages nothing at all
            return self._load_file_io(location=location)
        place = location if not offer.credentials else offer.credentials[0][0]
        access, _ = VendedKeys(self.profile, self.offered, offer).at(place)
        if not access.vended and not access.signed_only:
            return self._load_file_io(location=location)
        lease = VendedKeys(
            self.profile, self.offered, offer, lambda: self._staged_offer(other, None)
        )
        if lease.at(location)[0].vended:
            io = self._io(lease, location)
            if _opens(io, location):
                return io
        log.warning(
            "%s: the files at %s stay: the catalog gives no keys for a table that is not there",
            self._shared.name,
            location,
        )
        return LeftFiles(lambda: accesses.no_keys(self._shared.name, location))


def _opens(io: FileIO, location: str) -> bool:
    """Return whether files at a location can be accessed."""
    try:
        io.new_input(f"{location.rstrip('/')}/metadata/seeknal-looks").exists()
    except Exception as error:  # noqa: BLE001 - no matter what it says: these keys are not for it
        log.debug("another table's keys don't open %s: %s", location, redact(str(error)))
        return False
    return True


def _offer_of(response: TableResponse) -> Offer:
    given = ((each.prefix, each.config) for each in response.storage_credentials)
    return Offer.of(response.config, given)
