"""Workers: the processes that run actions, and which of them runs which."""
