"""The server that the bench starts for itself."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from explorer.bench import measure
from explorer.bench.browser import ROOT

CLIENT = """
import sys, time
from pathlib import Path
from explorer.bench.browser import server
with server(Path(sys.argv[1])) as (address, _):
    print(address, flush=True)
    time.sleep(60)
"""


def answers(address: str) -> bool:
    try:
        urlopen(f"{address}/_stcore/health", timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="there all signals end a process at once")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_the_server_ends_with_who_started_it(ending: signal.Signals, tmp_path: Path) -> None:
    """Also where that has no time to say so."""
    script = tmp_path / "empty.py"
    script.write_text("", encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(script)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as client:
        assert client.stdout is not None
        address = client.stdout.readline().decode().strip()
        assert answers(address)
        client.send_signal(ending)
        client.wait(120)
    end = time.monotonic() + 20
    while answers(address):
        assert time.monotonic() < end, "the server is left"
        time.sleep(0.1)


def test_exports_are_checked_by_what_they_compute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every form of a network in a line, with its time and the largest difference of its scores."""
    monkeypatch.setattr(measure, "EXPORTED", (("resnet20_fashion", 28),))
    (row,) = measure.exports()
    assert re.fullmatch(
        r"ResNet-20 for Fashion-MNIST as ONNX; scores in onnxruntime within \de-0\d of the largest", row.what
    )
    line = capsys.readouterr().out.splitlines()[-1]
    apart = [float(one) for one in re.findall(r" ms, (\S+)", line)]
    assert len(apart) == 4
    assert max(apart) < 1e-4
    assert apart[:2] == [0.0, 0.0]  # the same weights in the same code
