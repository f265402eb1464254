"""Amazon review data of 2014, 2018 and 2023 as downloaded: gzipped or not, full or ratings."""

from rlrf4rec.data.amazon.loading import load_amazon

__all__ = ["load_amazon"]
