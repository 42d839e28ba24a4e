"""A few images with coloured discs and boxes, and the average precision of detections on them, written as a loop."""

import numpy as np

from revisit_ssl.detection.annotations import Annotated

COLORS = np.array([[230, 60, 50], [60, 210, 80], [70, 80, 235]])


def drawn_images(count, side=64, seed=0, objects=2):
    """Annotated images of ``side`` pixels with ``objects`` of three classes each: discs, squares, and flat boxes."""
    draw, found = np.random.default_rng(seed), []
    for number in range(count):
        image = draw.integers(90, 130, (side, side, 3)).astype(np.uint8)
        boxes, classes, masks = [], [], []
        y, x = np.mgrid[:side, :side] + 0.5
        for i in range(objects):
            kind, half = int(draw.integers(3)), draw.uniform(0.11, 0.17) * side
            centre = np.array([(0.27 + 0.46 * i) * side, draw.uniform(0.25, 0.75) * side])
            tall = half * (0.6 if kind == 2 else 1.0)
            mask = (abs(y - centre[0]) < tall) & (abs(x - centre[1]) < half)
            if kind == 0:
                mask = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < half**2
            image[mask] = COLORS[kind] + draw.integers(-15, 15, (mask.sum(), 3))
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            boxes.append([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
            classes.append(kind)
            masks.append(mask)
        known = {"boxes": np.array(boxes), "classes": np.array(classes), "masks": np.stack(masks)}
        found.append(Annotated(image=image, image_id=number, **known))
    return found


def overlap(a, b):
    """IoU of two boxes, or of two masks."""
    if a.dtype == bool:
        return (a & b).sum() / max((a | b).sum(), 1)
    common = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def ap50(detections, images, what="boxes"):
    """Percent, the mean over the classes of the area under precision and recall at IoU 0.5."""
    found = []
    for c in sorted({int(k) for one in images for k in one.classes}):
        mine = ((i, j) for i, one in enumerate(detections) for j in np.flatnonzero(one["classes"] == c))
        ranked = sorted(((float(detections[i]["scores"][j]), i, j) for i, j in mine), reverse=True)
        total, used, hits, area = sum(int((one.classes == c).sum()) for one in images), set(), 0, 0.0
        for rank, (_, i, j) in enumerate(ranked, 1):
            own = [
                (overlap(detections[i][what][j], np.asarray(getattr(images[i], what)[g])), g)
                for g in np.flatnonzero(images[i].classes == c) if (i, g) not in used
            ]
            best = max(own, default=(0, None))
            if best[0] > 0.5:
                used.add((i, best[1]))
                hits += 1
                area += hits / rank / total
        found.append(area)
    return 100 * float(np.mean(found))
