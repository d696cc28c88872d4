"""Networks, dies and matrices in files: safetensors that hold the arrays, with all else as TOML in the metadata."""

from __future__ import annotations

from xbarsim.network.files.contents import Contents, digest, read_contents, reading, write_contents
from xbarsim.network.files.dies import DieRecord, read_adjustments, read_die, read_given, write_die
from xbarsim.network.files.layers import LayerRecord, read_layer, write_layer
from xbarsim.network.files.networks import NetworkRecord, SavedNetwork, read_network, write_network
from xbarsim.network.files.probe import choose_probe

__all__ = [
    "Contents",
    "DieRecord",
    "LayerRecord",
    "NetworkRecord",
    "SavedNetwork",
    "choose_probe",
    "digest",
    "read_adjustments",
    "read_contents",
    "read_die",
    "read_given",
    "read_layer",
    "read_network",
    "reading",
    "write_contents",
    "write_die",
    "write_layer",
    "write_network",
]
