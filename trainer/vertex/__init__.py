"""Training on Vertex AI: `python -m trainer.vertex`. Nothing here starts TensorFlow."""
