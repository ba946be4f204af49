"""What is measured on a set: its columns, their rules, and how rows add up to them."""

from verl_socio.evaluate.protocols.choose import PROTOCOLS, check_samples, protocol_of
from verl_socio.evaluate.protocols.protocol import Column, Protocol, Tally

__all__ = ["PROTOCOLS", "Column", "Protocol", "Tally", "check_samples", "protocol_of"]
