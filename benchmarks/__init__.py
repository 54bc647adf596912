"""Benchmarks: what KNHK costs, as ratios against a calibration of the same run wherever the machine's mood matters."""
