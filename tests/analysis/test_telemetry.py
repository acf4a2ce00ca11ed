import os
import subprocess
import sys
from pathlib import Path

from ..small_release import write_small_release

ANALYZE = """
import sys
from pathlib import Path
from dermfuse import Analyzer
Analyzer(Path(sys.argv[1]))
"""


def test_onnx_runtime_reports_nothing_and_makes_no_id_of_this_machine(tmp_path: Path) -> None:
    release, home = write_small_release(tmp_path / "release"), tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment = kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    subprocess.run([sys.executable, "-c", ANALYZE, str(release)], env=environment, check=True)
    assert list(home.iterdir()) == []
