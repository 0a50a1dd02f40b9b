"""Links: unix sockets between the processes of a platform, with frames in and out."""
