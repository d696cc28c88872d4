"""Which way to prune suits crossbars: many methods on several networks, what each frees, and what it bears.

``python -m xbarsim.experiments.studies.pruning`` measures the stored networks: accuracy on all test images in float and
mapped onto a chip with 8-bit converters, weights, arrays, area, energy and latency an image, the bits that say which
weights stay, and kappa, full scale squared over the mean square of the weights. Then it takes of each network and way
to prune the smallest that loses little on images held back, and measures which share of stuck cells it bears. It writes
tables and pictures into experiments/figures.

``--train FOLDER`` repeats the trainings of experiments/recipes/pruning_NETWORK.toml, or goes on where they stopped; all
ways to prune have equally many epochs in all. A GPU does them in minutes each, a core of a processor in an hour.
"""
