"""One of two processes that train every method: `python -m tests.train.pair FOLDER`, as torchrun would.

`FOLDER` holds recipes `NAME.yaml`; each leaves a run folder `NAME`, and from each process the state with
which it ended, `NAME.0.pt` and `NAME.1.pt`, the paths that it learned from, and how many bytes of weights
and of the optimizer's memory it held. A run `NAME` before a `NAME+resume` is broken off after two steps. Of
`nan` and `broken` the error is kept: one has a loss that is not finite, the other fails in one process.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from torch import nn

from unseen.recipe import read_recipe
from unseen.train import fit
from unseen.train.course import Course
from unseen.train.learner import Learner
from unseen.train.sharding import held, whole_state
from unseen.types import InputError


class BrokenOff(Exception):
    """What stands for a kill."""


def main(folder: Path) -> None:
    rank = os.environ["RANK"]
    end, step, make_kernels = Course.__call__, Learner.training_step, nn.Module.compile
    names = json.loads((folder / "order.json").read_text())
    states, paths = {}, []

    def ended(course, learner, numbers):
        end(course, learner, numbers)
        state = whole_state(learner.model) if learner.shared else learner.model.state_dict()
        kept = [v for state in learner.optimizer.state.values() for v in state.values()]
        states[course.folder.name] = {
            "state": {k: v.clone() for k, v in state.items()},
            "history": course.history,
            "weights": held(learner.model.parameters()),
            "averages": 0 if learner.average is None else held(learner.average.parameters()),
            "memory": held(v for v in kept if isinstance(v, torch.Tensor) and v.ndim),
            "compiled": sum(m._compiled_call_impl is not None for m in learner.model.modules()),
        }
        if learner.step == 2 and f"{course.folder.name}+resume" in names:
            raise BrokenOff

    def stepped(learner, batch, number):
        paths.append([record.path for record in batch.records])
        if name == "nan" and rank == "1":
            learner.model.head.register_forward_hook(lambda module, args, out: out * float("nan"))
        if name == "broken" and rank == "1":
            raise InputError("a face of this process only")
        step(learner, batch, number)

    Course.__call__, Learner.training_step = ended, stepped
    nn.Module.compile = lambda module: make_kernels(module, backend="eager")  # kernels take minutes
    for name in names:
        paths.clear()
        run, _, again = name.partition("+")
        begun = time.monotonic()
        try:
            fit.train(read_recipe(folder / f"{name}.yaml"), folder / run, resume=bool(again))
        except BrokenOff:
            pass
        except Exception as error:
            if name not in ("nan", "broken"):
                raise
            states[name] = {"error": f"{type(error).__name__}: {error}"}
        seconds = time.monotonic() - begun
        torch.save({**states[run], "paths": list(paths), "seconds": seconds}, folder / f"{name}.{rank}.pt")
        if name != "broken":
            torch.distributed.barrier()  # the next may begin with the folder that the first process writes
    if "broken" in names:
        os._exit(0)  # nobody is left to take leave of
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
