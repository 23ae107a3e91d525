"""From nothing to a measured detector in a minute: synthetic people, a tiny network, both levels.

The numbers mean nothing: eight people and twenty steps. The path is the one that real data take.

Run: python examples/02_train_and_measure.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

from unseen.checkpoint import load_run
from unseen.data.manifest import Manifest
from unseen.evaluate.run import score_records
from unseen.evaluate.summary import summary, to_markdown
from unseen.forge.sample import write_sample
from unseen.recipe import read_recipe
from unseen.train.fit import train


def main() -> None:
    """Make, train, measure."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    recipes = Path(__file__).parents[1] / "recipes"

    # 1. A benchmark of synthetic people, forged by every family; nobody is in two splits.
    manifest = write_sample(folder / "bench", clips=False)

    # 2. Train a tiny network on self-blended images of the people of split "train".
    recipe = read_recipe(recipes / "tiny.yaml", [f"data.manifest={manifest}", "trainer.accelerator=cpu"])
    run = load_run(train(recipe, folder / "run"))

    # 3. Score the people of split "test" once; every number is a function of that table.
    records = Manifest.read(manifest).where(split="test").records()
    table = score_records(run.detector, records, run.transforms, out=folder / "scores.parquet")
    print(to_markdown(summary(table)))


if __name__ == "__main__":  # worker processes import this file again; they must not run it again
    main()
