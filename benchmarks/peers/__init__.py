"""Other engines beside KNHK: each in a virtual environment and a process of its own, doing the same work in turns."""
