"""Kitchen-HC by name: cut out of GMU-Kitchens' videos, or of CLD's ready folder, at its first use."""

import dataclasses

from revisit_ssl.data.tfds_sets import TfdsSet, manual_folder


@dataclasses.dataclass(frozen=True)
class KitchenHC(TfdsSet):
    """See ``kitchen_hc_builder``; made where its source lies in the manual folder."""

    def can_make(self, place):
        return _builder().find_source(manual_folder(place)) is not None

    def how_to_get(self, place):
        return f"put {_builder().WHERE} into {manual_folder(place)}"


def _builder():
    from revisit_ssl.data import kitchen_hc_builder  # imports TFDS

    return kitchen_hc_builder
