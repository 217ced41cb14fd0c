"""A Pulser script of somebody who does not care where it runs: the sweep on whatever the shim finds.

`python pulser_anywhere.py SHOTS`
"""

import json
import sys

import afm
from qpud_pulser import QpudBackend, connect

connection = connect()
(device,) = connection.fetch_available_devices().values()
results = QpudBackend(afm.sequence(device), connection).run(job_params=[{"runs": int(sys.argv[1])}], wait=True)
print(json.dumps({"where": connection.qpu, "counts": dict(results[0].final_bitstrings)}))
