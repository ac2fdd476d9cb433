"""What some catalogs can't do, in sentences; imported without pyiceberg."""

from __future__ import annotations

ONE_BY_ONE = (
    "the catalog changes one table at a time: for a moment of a promotion, readers may see new "
    "tables beside old ones"
)
CURRENT_ONLY = (
    "the catalog shows only the current snapshot of a table: a rollback adds a snapshot with the "
    "earlier files, and is not possible once they are gone from storage"
)
NO_PURGE = (
    "the catalog doesn't delete the files of dropped tables: Seeknal deletes those that it wrote, "
    "and the others stay in storage"
)
RENAMED = (
    "the catalog doesn't begin a table in two steps: a new table is created as "
    "..._seeknal_new_..., and renamed once its rows are in it"
)
EMPTY_FIRST = (
    "the catalog doesn't begin a table in two steps, and doesn't rename one: a new table is seen "
    "empty until its first rows are committed, in a promotion from staging to publishing"
)
ANY_CASE = "the catalog takes names that differ only in case for one"

#: For ``plugins show``: which of them hold depends on the catalog.
DEPENDS = (
    "rollback: references move back to the earlier snapshot; a catalog that shows only the "
    "current one (Nessie) gets a new snapshot with the earlier files, as long as they are in storage",
    "several tables of one catalog change in one commit where it can do that (transactions/commit), "
    "else one after the other, and all are brought back where one is refused",
    "dropped tables: the catalog deletes the files; where it refuses to (purge), Seeknal deletes "
    "those that it wrote",
    "new tables appear with all of their rows; a catalog that doesn't begin a table in two steps "
    "(S3 Tables, Glue) gets one under another name, which is then renamed, or, where it renames "
    "nothing (Glue), an empty one first",
    "what your catalog can't do is said by: seeknal check --connections",
)
