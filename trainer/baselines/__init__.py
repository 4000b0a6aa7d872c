"""What a network has to beat: linear models on small pixels, colours and metadata.

`python -m trainer.baselines` trains them (`__main__`). `features` turns records into vectors,
`linear` fits one yes-or-no question, `fold_run` a fold of a run, `table` is what is printed.
"""
