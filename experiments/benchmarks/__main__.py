"""``python -m xbarsim.experiments.benchmarks``."""

import typer

from xbarsim.experiments.benchmarks.speed import main

if __name__ == "__main__":
    typer.run(main)
