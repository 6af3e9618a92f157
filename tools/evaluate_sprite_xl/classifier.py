"""A small network that names the kind of a sprite, trained on the real ones."""

import random
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

TRAINING = Path(__file__).resolve().parent.parent / "train_sprite_xl"
sys.path.insert(0, str(TRAINING))
from colour import COLOURS, recolour  # noqa: E402
from data import load_records  # noqa: E402

# What is told apart; kinds that a person would not tell apart share a class.
CLASSES = {
    "monster": ["monster", "character"],
    "weapon": ["weapon"],
    "armour": ["armour"],
    "potion": ["potion"],
    "scroll or book": ["scroll", "book"],
    "jewellery": ["ring", "amulet"],
    "wand or staff": ["wand", "staff"],
    "food": ["food"],
    "wall": ["wall"],
    "floor": ["floor", "water"],
    "tree": ["plant"],
    "door or portal": ["door", "portal"],
    "statue or altar": ["statue", "altar"],
    "effect": ["effect"],
}
HELD_OUT = 0.12


def net() -> nn.Module:
    """`[n, 4, 32, 32]`, premultiplied → a score for each class."""

    def block(c_in: int, c_out: int) -> list[nn.Module]:
        return [nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()]

    layers = [*block(4, 48), *block(48, 48), nn.MaxPool2d(2), *block(48, 96), *block(96, 96), nn.MaxPool2d(2)]
    layers += [*block(96, 160), *block(160, 160), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(640, len(CLASSES))]
    return nn.Sequential(*layers)


def premultiplied(rgba: Tensor) -> Tensor:
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)


def fit(data: Path, device: torch.device, steps: int, batch: int = 256, seed: int = 0) -> tuple[nn.Module, float, dict[str, str]]:
    """The network, its accuracy on sprites whose names it has not seen (mean over classes), and that of each class.

    Variants of one subject are all trained on or all held out. The network that is returned has seen all but these.
    """
    torch.manual_seed(seed)
    pixels, records = load_records(data)
    of = {kind: i for i, kinds in enumerate(CLASSES.values()) for kind in kinds}
    rows = [i for i, record in enumerate(records) if record.kind in of]
    labels = torch.tensor([of[records[i].kind] for i in rows], device=device)
    names = [f"{records[i].kind}: {records[i].things[0]}" for i in rows]
    rng = random.Random(seed)
    held: set[str] = set()
    for kinds in CLASSES.values():
        group = sorted({name for name in names if name.split(":")[0] in kinds})
        rng.shuffle(group)
        room = HELD_OUT * sum(name.split(":")[0] in kinds for name in names)
        for name in group:
            if names.count(name) <= room:
                held.add(name)
                room -= names.count(name)
    kept = torch.tensor([name not in held for name in names], device=device)
    real = pixels[rows].to(device).float() / 255
    looks = [real]
    for colour in COLOURS:
        made, worked = zip(*(recolour(part, colour) for part in real.split(512)))
        looks.append(torch.where(torch.cat(worked)[:, None, None, None], torch.cat(made), real))
    looks = torch.stack([premultiplied(look) for look in looks])

    weight = kept / torch.bincount(labels[kept], minlength=len(CLASSES)).clamp_min(1)[labels] ** 0.75
    model = net().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        which = torch.multinomial(weight, batch, replacement=True)
        # Half of them as they are: kinds have colours of their own.
        look = torch.randint(len(looks), (batch,), device=device) * (torch.rand(batch, device=device) < 0.5)
        x = looks[look, which]
        x = torch.where((torch.rand(batch, device=device) < 0.5)[:, None, None, None], x.flip(-1), x)
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        x = functional.pad(x, (dx, -dx, dy, -dy)) + 0.03 * torch.randn_like(x)
        loss = functional.cross_entropy(model(x), labels[which], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = model(looks[0][~kept]).argmax(1) == labels[~kept]
    each = {}
    shares = []
    for i, name in enumerate(CLASSES):
        of_class = right[labels[~kept] == i]
        each[name] = f"{int(of_class.sum())} of {len(of_class)}"
        shares.append(of_class.float().mean().item())
    return model, sum(shares) / len(shares), {"all": f"{int(right.sum())} of {len(right)}", **each}
