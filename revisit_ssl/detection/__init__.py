"""Images with boxes, detectors on any backbone, and what is measured of detections; RoIAlign for pretexts, too."""
