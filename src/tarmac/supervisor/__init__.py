"""The supervisor starts the platform's parts, restarts those that end or hang, and stops them in order.

`part` lists the parts and keeps one of them running; `fork_server` has them forked, in milliseconds; `supervisor` puts
all of it together. A part that ends is restarted at once; one that ends again and again, after growing pauses. Before
the platform has answered for the first time, such a part makes the supervisor give up and report the reason: a start
that fails must not look like a start that takes long. Afterwards it never gives up.

Every process below the supervisor ends with it, however it ends (see `process`). A lock on a file, which the kernel
releases at the end of the process that has it, keeps a platform from having two supervisors.
"""
