"""The supervisor: it starts the platform's parts, starts again what dies or hangs, stops them in order; that is all.

`part` says which parts there are, and keeps one of them alive; `stem` has them forked, in milliseconds; `whole` puts
them together. A part that dies is started again at once; one that does not come up again and again, after ever longer
pauses. As long as the platform has not answered for the first time, such a part is a reason to give up and to say why:
a start that fails must not look like one that takes long. Later it never gives up.

Everything beneath ends with the supervisor, however that ends (see `process`). Two supervisors of one platform are
kept apart by a lock on a file, which the system releases when its holder is gone.
"""
