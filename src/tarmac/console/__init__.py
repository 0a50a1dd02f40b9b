"""The console: pages for people, drawn by the server from the same records that the API answers with.

Every page is a function of its address: filters, what is unfolded and what is selected stand in the query, so a page
can be sent to a colleague and works without a script. The script (`static/console.js`) only makes it live: when an
event arrives it fetches the same address with `fragment=1` and swaps the parts that have changed.

`pages` has the routes, `rendering` the templates and their words, `tree` the unfolded part of a run, `forms` the form
that starts a task, `session` signing in and out, `reference` the page that describes the API.
"""
