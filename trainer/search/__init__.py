"""Tries recipes on the same folds, each in a process of its own, and says which is ahead by what.

`python -m trainer.search` (`__main__`) runs it: `space` makes the combinations, `trials` keeps a
folder of each, `processes` runs them, `results` ranks them and `page` draws `search.html`.
"""
