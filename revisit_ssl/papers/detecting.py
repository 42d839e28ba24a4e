"""How several papers fine-tune a detector: MoCo's configurations (facebookresearch/moco, detection/configs) on
detectron2's defaults, R50-C4 with one more BatchNorm in the head, 16 images a step."""

from dataclasses import replace

from revisit_ssl.evaluators import Detection, Segmentation

C4 = {
    "batch_size": 16, "learning_rate": 0.02, "endpoint": "block3", "longest": 1333, "test_shorter": 800,
    "test_longest": 1333, "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0), "anchor_ratios": (0.5, 1.0, 2.0),
    "anchors_per_image": 256, "train_proposals": (12_000, 2_000), "test_proposals": (6_000, 1_000), "regions": 512,
    "pool": 14, "precise_batches": 200,
}
# VOC 2007 and 2012 trainval, tested on VOC 2007; drops at 18,000 and 22,000.
VOC0712 = Detection(
    iterations=24_000, decay_at=(18 / 24, 22 / 24), warmup=100, shorter_sides=tuple(range(480, 801, 32)), **C4
)
# VOC 2007 trainval. Not stated where the rate falls: after the same shares of the steps.
VOC07 = replace(VOC0712, iterations=9_000)
# COCO train2017, 180,000 steps, drops at 120,000 and 160,000.
COCO_2X = Segmentation(
    iterations=180_000, decay_at=(120 / 180, 160 / 180), warmup=1_000, shorter_sides=tuple(range(640, 801, 32)), **C4
)
# Disputed: OpenSelfSup's file, which MaskCo cites, has 1200 in training, MoCo's 1333.
COCO_2X_OPENSELFSUP = replace(COCO_2X, longest=1200)
