"""What a frozen network makes of images: input range, patches, pooled endpoints, BatchNorm statistics."""
