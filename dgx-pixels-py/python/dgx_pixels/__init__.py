"""Game-ready pixel art from a prompt, on your own machine.

>>> import dgx_pixels as dp
>>> sprite = dp.generate("a green slime", seed=7, model="sketch")
>>> sprite.size
(32, 32)
"""

from . import backend, errors
from ._models import Model, models
from .assets import Deployed, DeployedSprite, Finding, Report, Sheet, deploy, sheet, validate
from .backend import Backend
from .engine import Engine, default_engine, generate
from .errors import DgxPixelsError, InvalidRequestError, OutOfMemoryError
from .events import (
    Cancelled,
    Event,
    Failed,
    Finished,
    Loading,
    Preview,
    Queued,
    Redraw,
    Started,
    Step,
)
from .fields import Control, PixelFields, SpriteFields
from .job import Job, Request
from .sprite import Sprite, pixelize

__version__ = "0.2.0"

__all__ = [
    "Backend",
    "Cancelled",
    "Control",
    "Deployed",
    "DeployedSprite",
    "DgxPixelsError",
    "Engine",
    "Event",
    "Failed",
    "Finding",
    "Finished",
    "InvalidRequestError",
    "Job",
    "Loading",
    "Model",
    "OutOfMemoryError",
    "PixelFields",
    "Preview",
    "Queued",
    "Redraw",
    "Report",
    "Request",
    "Sheet",
    "Sprite",
    "SpriteFields",
    "Started",
    "Step",
    "backend",
    "default_engine",
    "deploy",
    "errors",
    "generate",
    "models",
    "pixelize",
    "sheet",
    "validate",
]
