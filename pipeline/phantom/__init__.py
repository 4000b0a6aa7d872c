"""Phantoms: drawn dermoscopy-like pictures with a table, so that demos and tests need no patient.

`write.write_phantom(PhantomSpec(...), folder)` or `python -m pipeline.phantom`. What makes a lesion
malignant shows in its shape and colours (`lesion`); skin, hairs, ruler, light and size know nothing
of the label.
"""
