"""Scores to numbers: metrics, score tables, calibration, and the loop that scores a manifest.

Only `run` needs torch; everything else measures anybody's score file with numpy and polars alone.
"""
