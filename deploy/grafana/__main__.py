"""Writes the dashboards that Grafana is provisioned with: `make dashboards`."""

import json
from pathlib import Path

from deploy.grafana.boards import BOARDS

FOLDER = Path(__file__).parent / "dashboards"


def files() -> dict[Path, str]:
    """Each file and its content."""
    return {
        FOLDER / f"{name}.json": json.dumps(board.json(), indent=1) + "\n" for name, board in BOARDS.items()
    }


if __name__ == "__main__":
    for path, content in files().items():
        path.write_text(content, encoding="utf-8")
