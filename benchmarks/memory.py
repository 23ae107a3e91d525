"""What `keep_memory` saves: a training step and a scored batch with freed memory kept, against without.

    python benchmarks/memory.py [NETWORK] [SIZE]

Each side runs in a process of its own, on one thread; times are of the processor, the kernel's share apart.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys


def side(keep: bool, name: str, size: int) -> None:
    """Print milliseconds a picture: of the process and of the kernel, training and scoring."""
    import timm
    import torch

    from unseen.data.memory import keep_memory

    torch.set_num_threads(1)
    if keep:
        assert keep_memory(), "this C library keeps its own counsel"
    network = timm.create_model(name, num_classes=1).to(memory_format=torch.channels_last)
    images = torch.rand(32, 3, size, size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters())

    def learn() -> None:
        network(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def score() -> None:
        with torch.inference_mode():
            network(images)

    found = {}
    for work in (learn, score):
        network.train(work is learn)
        work()
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(3):
            work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = (after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
        found[work.__name__] = [1000 * seconds / 96 for seconds in spent]
    print(json.dumps(found))


def main() -> None:
    """Run both sides, print the ratios."""
    name = sys.argv[1] if len(sys.argv) > 1 else "tf_efficientnet_lite0"
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 192
    found = []
    for word in ("plain", "keep"):
        command = [sys.executable, __file__, "--side", word, name, str(size)]
        found.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for work in ("learn", "score"):
        plain, kept = (sum(side[work]) for side in found)
        of = ", ".join(f"{sum(s[work]):.1f} ms ({s[work][1]:.1f} in the kernel)" for s in found)
        print(f"{work}: {of} a picture; {plain / kept:.2f} times faster")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side(sys.argv[2] == "keep", sys.argv[3], int(sys.argv[4]))
    else:
        main()
