"""A client: deploys the app that lies in the current folder; tells the milliseconds."""

import json
import sys
import time

sys.path.insert(0, ".")

import webapp

import flyte

flyte.init_from_config(root_dir=".")
began = time.perf_counter()
flyte.deploy(webapp.sleeper)
print(json.dumps([(time.perf_counter() - began) * 1e3]))
