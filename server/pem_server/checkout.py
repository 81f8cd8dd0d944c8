"""Where this checkout is: every package of the repository is installed from it, editable."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL_REPOSITORY = ROOT / "model_repository"
