"""Regions of feature maps: RoIAlign, for pretexts that compare regions and for detectors."""
