"""What the model card promises, read off its figure, and what this project aims at."""

IMAGES_PER_SECOND = 142  # NVIDIA T4, TensorRT, 640x640
AIM = 2 * IMAGES_PER_SECOND  # T4, FP16, batch 8
