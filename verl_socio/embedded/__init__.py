"""Tiny models of the real architectures, built from configurations, for machines without a GPU."""

from verl_socio.torchvision_cpu import make_importable

# Both transformers' and sam2's modules import torchvision as they load, so this comes before any of them.
make_importable()
