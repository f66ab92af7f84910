"""Region features that lie in several files, such as those of train and of val, read as one."""

from oscar_paddle.datasets.regions.source import RegionSource


class JoinedFeatures(RegionSource):
    """Regions of several sources; of an image that two of them have, the first one's (see `RegionSource`).

    Args:
        parts: list of RegionSource that cut and keep nothing.
        options: feature_dim, max_region, cache_bytes, see `RegionSource`.
    """

    def __init__(self, parts, **options):
        self._parts = parts
        super().__init__(" and ".join(part.path for part in parts), **options)

    def _open(self):
        return {part._key(image_id): part for part in reversed(self._parts) for image_id in part.ids}

    def _read(self, key):
        return self._place(key)._read(key)
