"""One file, one verdict: what the embedded model says of the sample photograph, and why.

Run: python examples/01_verdict.py [FILE...]
"""

import sys
from pathlib import Path

import unseen

files = sys.argv[1:] or [Path(__file__).parent / "portrait.jpg"]
inspector = unseen.Inspector("default")
for file in files:
    verdict = inspector.inspect(file)
    print(f"{verdict.file}: {verdict.headline} ({verdict.verdict}, {verdict.reason})")
    print(f"  {verdict.threshold_rule}")
    for person in verdict.people:
        if person.probability is None:
            print(f"  person {person.id}: not judged, {person.reason}")
        else:
            seen = len(person.scored)
            frames = "1 frame" if seen == 1 else f"{seen} frames"
            print(f"  person {person.id}: probability of fake {person.probability:.2f} in {frames}")
    for warning in verdict.warnings:
        print(f"  note: {warning}")
