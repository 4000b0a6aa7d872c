"""What a run or an ensemble is worth: tables for the terminal, and `report.html`.

    python -m trainer.report RUN --output report.html

`trainer.task`, `trainer.ensemble` and `trainer.search` print `fold_tables`; the page is made by
`trainer.report.__main__`. Nothing here starts TensorFlow.
"""

from trainer.report.fold_tables import Figures as Figures
from trainer.report.fold_tables import fold_figures as fold_figures
from trainer.report.fold_tables import fold_table as fold_table
from trainer.report.fold_tables import score_table as score_table
