"""Asks the real TPU compiler, without a TPU: does the step compile, does it fit, what will it cost?

`python -m trainer.preflight`. TensorFlow traces the step that the trainer runs (`step`), what it
gives is looked through (`module`), and libtpu compiles it in a process of its own (`compiler`).
Whatever it answers is an estimate: nothing is run.
"""
