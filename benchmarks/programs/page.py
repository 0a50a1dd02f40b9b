"""A Streamlit page that goes to sleep. This one file is both the declaration and the page."""

import pathlib
import sys

import flyte.app

env = flyte.app.AppEnvironment(
    name="bench-page",
    args=[
        *["streamlit", "run", pathlib.Path(__file__).name, "--server.port", "8080", "--server.headless", "true"],
        *["--browser.gatherUsageStats", "false", "--", "page"],
    ],
    port=8080,
    requires_auth=False,
    scaling=flyte.app.Scaling(replicas=(0, 1), scaledown_after=1),
)

if sys.argv[1:] == ["page"]:
    import streamlit

    streamlit.title("Hello")
