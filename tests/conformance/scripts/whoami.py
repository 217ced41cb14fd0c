"""Print the uid, after importing the client: whether an ordinary user can run it at all."""

import json
import os

import qrmi

print(json.dumps({"uid": os.geteuid(), "qrmi": qrmi.__file__}))
