from pathlib import Path
from unseen.recipe import read_recipe
from unseen.train.fit import train

def test_smoke(tiny, tmp_path):
    out = train(read_recipe(tiny()), tmp_path/"run")
    for p in sorted(out.rglob("*")): print(p, p.stat().st_size)
    print((out/"card.md").read_text()); print((out/"metrics.json").read_text())
    print((out/"logs/from_step_0/metrics.csv").read_text())
