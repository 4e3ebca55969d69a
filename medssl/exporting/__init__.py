"""Encoders and segmenters for ONNX, MONAI and nnU-Net."""
