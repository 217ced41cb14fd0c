"""The zipapp's first code: one sentence under a Python it was not built for, else on to launch.py.

Written so that any Python from 2.7 on parses it; launch.py uses what this one has.
"""

# ruff: noqa: PTH100, PTH120, UP031
import json
import os
import sys

archive = os.path.dirname(os.path.abspath(__file__))
# by its name alone: the loader compares paths as they were written, and ./qpud is not what abspath makes of it
build = json.loads(__loader__.get_data("build.json").decode())  # type: ignore[name-defined]
found = "%d.%d" % sys.version_info[:2]
machine = os.uname()[4]

if found != build["python"] or sys.implementation.name != "cpython":
    sys.exit(
        "%s needs Python %s, this is %s (%s): run it as python%s %s, or take the file built for your Python."
        % (build["name"], build["python"], found, sys.executable, build["python"], archive)
    )
if machine != build["machine"]:
    sys.exit("%s was built for %s, this machine is %s." % (build["name"], build["machine"], machine))

import launch  # noqa: E402

sys.exit(launch.main(archive, build["id"]))
