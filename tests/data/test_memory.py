"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from unseen.data.memory import keep_memory
torch.set_num_threads(1)
kept = sys.argv[1] == "keep" and keep_memory()
def work():
    for _ in range(20):
        torch.ones(16_000_000)  # 64 MB, 16,000 pages
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_pages_are_asked_for_once() -> None:
    found = {}
    for word in ("keep", "plain"):
        done = subprocess.run([sys.executable, "-c", COUNT, word], capture_output=True, text=True, check=True)
        found[word] = [int(number) for number in done.stdout.split()]
    kept, faults = found["keep"]
    assert kept == 1 and found["plain"][0] == 0
    assert faults * 20 < max(found["plain"][1], 1000)
