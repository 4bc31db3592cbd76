"""The networks, how their inputs are laid out (models.inputs), their files, and the device they run on."""

from models.devices import keep_freed_memory, usable_device
from models.expert import SyncNetExpert, p_sync, pair_p_sync
from models.files import CheckpointError, read_checkpoint, write_checkpoint
from models.generator import Generator
from models.lipgan import LipGanDiscriminator, LipGanGenerator
from models.loading import (
    export_official,
    load_expert,
    load_generator,
    load_syncnet_v2,
    load_visual_discriminator,
    trained_with,
)
from models.speech2vid import Speech2VidGenerator
from models.speech_encoder import as_generators
from models.syncnet_v2 import SyncNetV2
from models.visual_discriminator import VisualDiscriminator

__all__ = [
    "CheckpointError",
    "Generator",
    "LipGanDiscriminator",
    "LipGanGenerator",
    "Speech2VidGenerator",
    "SyncNetExpert",
    "SyncNetV2",
    "VisualDiscriminator",
    "as_generators",
    "export_official",
    "keep_freed_memory",
    "load_expert",
    "load_generator",
    "load_syncnet_v2",
    "load_visual_discriminator",
    "p_sync",
    "pair_p_sync",
    "read_checkpoint",
    "trained_with",
    "usable_device",
    "write_checkpoint",
]
