"""One of two processes that train every method: `python -m tests.train.pair FOLDER`, as torchrun would.

`FOLDER` holds recipes `NAME.yaml`; each leaves a run folder `NAME`, and from each process the state with
which it ended, `NAME.0.pt` and `NAME.1.pt`, and the paths that it learned from.
"""

import json
import os
import sys
from pathlib import Path

import torch

from unseen.recipe import read_recipe
from unseen.train import fit
from unseen.train.course import Course
from unseen.train.learner import Learner


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    end, step = Course.__call__, Learner.training_step
    states, paths = {}, []

    def ended(course, learner, numbers):
        end(course, learner, numbers)
        states[course.folder.name] = (
            {k: v.clone() for k, v in learner.model.state_dict().items()},
            course.history,
        )

    def stepped(learner, batch, number):
        paths.append([record.path for record in batch.records])
        step(learner, batch, number)

    Course.__call__, Learner.training_step = ended, stepped
    for name in json.loads((folder / "order.json").read_text()):
        paths.clear()
        fit.train(read_recipe(folder / f"{name}.yaml"), folder / name)
        state, history = states[name]
        torch.save({"state": state, "history": history, "paths": list(paths)}, folder / f"{name}.{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
