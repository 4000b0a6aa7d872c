"""What a fold's network looked at: Grad-CAM and feature maps of rows that it did not train on.

`look` picks the run, the fold of each row and its picture; `maps`, which alone starts TensorFlow,
asks the network; `draw` makes pictures of what it says.
"""
