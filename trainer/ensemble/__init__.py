"""Ensembles of runs: chosen on some folds, scored on the others, written as plain numbers."""

from pipeline.align import align as align
