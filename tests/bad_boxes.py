"""Sets with boxes that cannot be read, and detectors that cannot be: cases of ``test_bad_inputs``, as seen from the
command line. Every annotation that is refused is in ``detection/test_bad_annotations.py``.
"""

import pathlib
import tempfile

from detection.test_bad_annotations import coco_folder, counts, first, image, thing, voc_folder, xml


def detector(*words, probe="detection"):
    return ["rotation", "--preset", "smoke", "--max-steps", "2", "--probes", probe, *words]


def with_voc(said, *words, probe="detection"):
    """A line on six images in VOC's layout; ``said``: what the first annotation says."""

    def line(folder):
        root = voc_folder(pathlib.Path(tempfile.mkdtemp(dir=folder)), said, train="abcd", test="ef")
        (root / "classes.txt").write_text("cat\ndog\n")
        return detector("--probe-dataset", f"voc:{root}", *words, probe=probe)

    return line


def with_coco(change, probe="segmentation"):
    """The same on four images in COCO's layout, whose JSON ``change`` changes."""

    def line(folder):
        root = coco_folder(pathlib.Path(tempfile.mkdtemp(dir=folder)), change)
        return detector("--probe-dataset", f"coco:{root}", probe=probe)

    return line


BOXES = [
    ("a detector on a set without boxes", detector(), "detection needs boxes"),
    ("a set with boxes that nobody knows", detector("--probe-dataset", "voc08"), "boxes and voc08 has none"),
    ("no VOC with boxes there", detector("--probe-dataset", "voc07:/no/such"), "no VOC 2007 at /no/such; unpack"),
    ("no COCO there", detector("--probe-dataset", "coco:/no/such"), "in /no/such; unpack"),
    ("boxes of one's own without a folder", detector("--probe-dataset", "voc"), "voc:/path"),
    ("a detector without steps", detector("--detection.iterations", "0"), "detection.iterations 0 must be at least 1"),
    ("regions of an odd side", detector("--detection.pool", "7"), "detection.pool 7 must be an even number"),
    ("masks of boxes", with_voc(None, probe="segmentation"), "has boxes alone; take --probes detection"),
    ("an annotation that is no XML", with_voc("<annotation"), "a.xml is no XML"),
    ("a box over the border", with_voc(xml(thing(x2=90))), "reaches over the border of an image of 40 x 30"),
    ("a box without an inside", with_voc(xml(thing(x1=20, x2=3))), "has no inside"),
    ("a class that is not listed", with_voc(xml(thing("catt"))), "unknown class 'catt'"),
    ("an image that is not there", with_coco(image(file_name="x.png")), "x.png is not there"),
    ("an annotation of no image", with_coco(first(image_id=99)), "is of image 99, which is not among the images"),
    ("run lengths of fewer pixels", with_coco(counts([32, 4, 6])), "broken run lengths"),
    ("a polygon of two points", with_coco(first(segmentation=[[1, 2, 3, 4]])), "a polygon of 4 numbers"),
]
