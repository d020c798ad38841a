"""Lets the tests here run from any folder, without installing the package first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
