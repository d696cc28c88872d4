"""Studies of our own: what the simulator says about a question, and whether it can be trusted."""
