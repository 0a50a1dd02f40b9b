"""What runs inside the processes that the platform starts: fork servers, workers and replicas.

Nothing here is for user code. The agent starts `flyte.runtime.fork_server`, which imports the user's modules (`loader`)
and forks *units*: a worker (`worker.serve`) claims actions and calls their functions, a replica (`apphost.serve`) is
one process of an app.
"""
