"""Which way to prune suits crossbars: many methods on several networks, and what each frees and bears."""
