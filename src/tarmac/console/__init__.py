"""The console: pages for people, rendered by the server from the records of the API.

Every page depends on its address alone: filters, expanded actions and the selected action are in the query, so a page
can be sent to a colleague and works without a script. The script (`static/console.js`) only makes it live: when an
event arrives it fetches the same address with `fragment=1` and replaces the parts that have changed.

`pages` has the routes, `rendering` the templates and their filters, `tree` the expanded part of a run, `forms` the form
that starts a task, `session` signing in and out, `reference` the page that describes the API.
"""
