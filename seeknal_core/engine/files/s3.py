"""Files on S3, downloaded before they are read: DuckDB's own extension for it is not at hand.

Region, endpoint and credentials come from the ``AWS_*`` variables (and whatever
else the AWS SDK looks at): ``AWS_ENDPOINT_URL``, ``AWS_REGION``, …
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.disk import disk_full, disk_guard, is_disk_full
from seeknal_core.files.own import make_folder

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, S3FileSystem

_CHUNK = 8 * 1024 * 1024


def download(node: str, url: str, scratch: Path) -> dict[str, Path]:
    """Download what a URL or a glob of one names; return URL -> local file, sorted.

    Raises:
        EngineError: nothing matches, S3 refuses or does not answer, or the disk is too small.
    """
    path = url.removeprefix("s3://")
    folder = scratch / "s3" / hashlib.sha256(url.encode()).hexdigest()[:16]
    try:
        system = _file_system()
        found = _matches(system, path)
    except OSError as error:
        raise _refused(node, url, error) from None
    if not found:
        raise EngineError(f"{node}: no file matches {url}", "look at the bucket and the key")
    with disk_guard(node):
        make_folder(folder)
    needed = sum(info.size or 0 for info in found)
    if needed > shutil.disk_usage(folder).free:
        raise disk_full(node)
    result = {}
    for number, info in enumerate(found):
        local = folder / f"{number:05}-{info.base_name}"
        try:
            with system.open_input_stream(info.path) as stream, local.open("wb") as file:
                while chunk := stream.read(_CHUNK):
                    file.write(chunk)
        except OSError as error:
            if is_disk_full(error):
                raise disk_full(node) from None
            raise _refused(node, f"s3://{info.path}", error) from None
        result[f"s3://{info.path}"] = local
    return result


def _file_system() -> S3FileSystem:
    from pyarrow.fs import S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, object] = {}
    if endpoint:
        scheme, _, host = endpoint.rpartition("://")
        options = {"endpoint_override": host.rstrip("/"), "scheme": scheme or "https"}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    return S3FileSystem(connect_timeout=10, request_timeout=60, **options)


def _matches(system: S3FileSystem, path: str) -> list[FileInfo]:
    from pyarrow.fs import FileSelector, FileType

    if not re.search(r"[*?\[]", path):
        info = system.get_file_info(path)
        return [info] if info.type == FileType.File else []
    fixed = re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0]
    wanted = re.compile(_glob_pattern(path))
    selector = FileSelector(fixed, allow_not_found=True, recursive=True)
    found = system.get_file_info(selector)
    return sorted(
        (info for info in found if info.type == FileType.File and wanted.fullmatch(info.path)),
        key=lambda info: info.path,
    )


def _glob_pattern(pattern: str) -> str:
    """Translate a glob: ``**/`` is any number of folders, ``*`` and ``?`` stop at ``/``."""
    result = ""
    for piece in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]*\]|.", pattern):
        match piece:
            case "**/":
                result += "(?:[^/]+/)*"
            case "**":
                result += ".*"
            case "*":
                result += "[^/]*"
            case "?":
                result += "[^/]"
            case _ if piece.startswith("[") and len(piece) > 2:
                inside = piece[1:-1]
                inside = f"^{inside[1:]}" if inside.startswith("!") else inside
                result += f"[{inside}]"
            case _:
                result += re.escape(piece)
    return result


def _refused(node: str, url: str, error: OSError) -> EngineError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return EngineError(
        f"{node}: {url}: {text[:300]}",
        "check AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    )
