"""Speed of the simulator as ratios to named baselines: ``python -m xbarsim.experiments.benchmarks``."""

from __future__ import annotations

from xbarsim.experiments.benchmarks.speed import BENCHMARKS, Measurement, main, run

__all__ = ["BENCHMARKS", "Measurement", "main", "run"]
