"""Install a plugin as a distribution would: a module and its metadata on a path."""

from __future__ import annotations

from pathlib import Path


def install(
    site: Path,
    *,
    distribution: str,
    module: str,
    source: str,
    entry_points: dict[str, dict[str, str]],
    version: str = "1.0",
) -> Path:
    """Write a module and a ``.dist-info`` into `site`, which belongs on ``sys.path``.

    Args:
        entry_points: group -> name -> object reference.
    """
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
    )
    lines = []
    for group, names in entry_points.items():
        lines.append(f"[{group}]")
        lines += [f"{name} = {reference}" for name, reference in names.items()]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return site
