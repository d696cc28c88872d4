"""One die: what is broken in it, what its cells hold, and what reads see of them."""
