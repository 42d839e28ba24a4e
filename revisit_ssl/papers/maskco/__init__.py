"""The MaskCo paper."""
