"""What `python -m trainer.predict` does, from trained folds to one table of predictions."""
