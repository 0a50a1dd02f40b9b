"""A page for people, made with Streamlit. This one file is both the declaration and the page.

    pip install streamlit
    flyte serve examples/streamlit_dashboard.py env

The app is a command; `streamlit` runs this file again with the word `page` behind it.
"""

import pathlib
import sys

import flyte
import flyte.app

env = flyte.app.AppEnvironment(
    name="dashboard",
    description="Squares, as a table and a chart",
    args=[
        *["streamlit", "run", pathlib.Path(__file__).name, "--server.port", "8080", "--server.headless", "true"],
        *["--browser.gatherUsageStats", "false", "--", "page"],
    ],
    port=8080,
    image=flyte.Image.from_debian_base().with_pip_packages("streamlit"),
    requires_auth=False,
)


def page() -> None:
    import streamlit

    streamlit.title("Squares")
    last = streamlit.slider("Up to", min_value=1, max_value=50, value=10)
    squares = {"number": list(range(1, last + 1)), "square": [n * n for n in range(1, last + 1)]}
    streamlit.metric("Largest", squares["square"][-1])
    streamlit.bar_chart(squares, x="number", y="square")


if __name__ == "__main__":
    if sys.argv[1:] == ["page"]:
        page()
    else:
        flyte.init_from_config(root_dir=pathlib.Path(__file__).parent)
        print(flyte.serve(env).url)
