from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DISTRIBUTIONS = {
    "seeknal_core": ROOT,
    "seeknal_postgres": ROOT / "plugins" / "postgres",
    "seeknal_iceberg": ROOT / "plugins" / "iceberg",
}

pytestmark = pytest.mark.xdist_group("wheels")


@pytest.fixture(scope="module")
def wheel_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], zipfile.ZipFile]:
    """Build a distribution's wheel, once."""
    built: dict[str, zipfile.ZipFile] = {}

    def build(package: str) -> zipfile.ZipFile:
        if package not in built:
            folder = tmp_path_factory.mktemp(package)
            command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
            done = subprocess.run(
                [*command, str(folder), str(DISTRIBUTIONS[package])],
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (wheel,) = folder.glob("*.whl")
            built[package] = zipfile.ZipFile(wheel)
        return built[package]

    return build


def metadata_of(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_wheel_holds_its_package_the_license_and_nothing_else(
    package: str, wheel_of: Callable[[str], zipfile.ZipFile]
) -> None:
    names = wheel_of(package).namelist()
    tops = {name.split("/")[0].partition("-")[0] for name in names}
    assert tops == {package}
    assert f"{package}/py.typed" in names
    assert [name for name in names if name.endswith("/licenses/LICENSE")]
    assert not [name for name in names if "test_" in name or name.endswith((".pyc", ".orig"))]


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_wheel_holds_every_file_of_its_package(
    package: str, wheel_of: Callable[[str], zipfile.ZipFile]
) -> None:
    source = DISTRIBUTIONS[package] / package
    wanted = {
        f"{package}/{path.relative_to(source).as_posix()}"
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wanted - set(wheel_of(package).namelist()) == set()


@pytest.mark.parametrize("package", DISTRIBUTIONS)
def test_a_wheels_page_tells_what_it_is(
    package: str, wheel_of: Callable[[str], zipfile.ZipFile]
) -> None:
    metadata = metadata_of(wheel_of(package))
    assert metadata["Name"] == package.replace("_", "-")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    assert metadata.get_payload()


@pytest.mark.parametrize(
    ("package", "entry"),
    [
        ("seeknal_core", "seeknal = seeknal_core.cli:main"),
        ("seeknal_postgres", "postgresql = seeknal_postgres.plugin"),
        ("seeknal_iceberg", "iceberg = seeknal_iceberg.plugin"),
    ],
)
def test_a_wheel_registers_its_command_or_its_type(
    package: str, entry: str, wheel_of: Callable[[str], zipfile.ZipFile]
) -> None:
    wheel = wheel_of(package)
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert entry in wheel.read(name).decode().splitlines()


def test_the_backends_ask_for_the_core_that_is_built_beside_them(
    wheel_of: Callable[[str], zipfile.ZipFile],
) -> None:
    version = metadata_of(wheel_of("seeknal_core"))["Version"]
    major, minor = version.split(".")[:2]
    for package in ("seeknal_postgres", "seeknal_iceberg"):
        needs = metadata_of(wheel_of(package)).get_all("Requires-Dist") or []
        assert f"seeknal-core<{major}.{int(minor) + 1},>={major}.{minor}" in needs


def test_the_core_asks_for_no_driver(wheel_of: Callable[[str], zipfile.ZipFile]) -> None:
    needs = " ".join(metadata_of(wheel_of("seeknal_core")).get_all("Requires-Dist") or [])
    assert "duckdb" in needs
    assert not [word for word in ("psycopg", "pgpq", "adbc", "iceberg") if word in needs]
