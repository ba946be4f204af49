"""What a segmenter has done, in numbers that add up over segmenters."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Work done since the segmenter started or its counters were last reset.

    Attributes:
        requests: Calls of `segment`.
        encodes: Images put through the image encoder.
        cache_hits: Requests whose image's features were there, or on their way, already.
        decodes: Batches of prompts put through the mask decoder.
        prompts: Prompts answered with a mask.
        failures: Requests that raised SegmentationError inside the segmenter.
        restarts: Segmenters that took the place of a crashed one; what that one had counted is lost.
        encode_s: Seconds spent in the image encoder.
        decode_s: Seconds spent in the mask decoder.
    """

    requests: int = 0
    encodes: int = 0
    cache_hits: int = 0
    decodes: int = 0
    prompts: int = 0
    failures: int = 0
    restarts: int = 0
    encode_s: float = 0.0
    decode_s: float = 0.0

    def __add__(self, other: Counters) -> Counters:
        """The work of both."""
        names = [field.name for field in fields(self)]
        return Counters(**{name: getattr(self, name) + getattr(other, name) for name in names})
