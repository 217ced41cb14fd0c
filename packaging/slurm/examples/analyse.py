"""Classical post-processing: `qpud result JOB --json | python3 analyse.py` prints the pattern the atoms settled into.

Standard library only. The second line says how many of the shots show it, which differs from run to run by chance.
"""

import json
import sys

counts = json.load(sys.stdin)["counts"]
pattern = max(counts, key=counts.get)
print(f"pattern {pattern}")
print(f"in {counts[pattern]} of {sum(counts.values())} shots")
