"""What MoCo and the methods built on it share: a target that encodes the keys, and the queue of its keys."""

from revisit_ssl.errors import require
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.heads import projected
from revisit_ssl.pretext.target import momentum_update, shuffled


class MomentumEncoder(Pretext):
    """A pretext with ``backbone`` and ``head``, ``target`` and ``target_head`` that follow them, and ``queue``, which
    its ``__init__`` makes; its options have momentum, queue_size and shuffle_bn."""

    @property
    def exported(self):
        return projected(self.backbone, self.head)

    def check_keys(self, count):
        """InputError where the ``count`` keys of a step are more than the queue holds."""
        size = self.options.queue_size
        require(count <= size, f"{count} keys of a step do not fit into task.queue_size {size}; raise it")

    def encode_keys(self, images, seed):
        """float32 [B, s, s, 3] -> [B, d], unit rows of the target."""

        def encode(rows):
            return self.target_head(self.target(rows, training=True)["pre_logits"])[0]

        return shuffled(encode, images, seed) if self.options.shuffle_bn else encode(images)

    def update_target(self):
        """The target's parameters move towards those of the network and the head."""
        for target, online in ((self.target, self.backbone), (self.target_head, self.head)):
            momentum_update(target, online, self.options.momentum)
