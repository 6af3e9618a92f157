"""The judge: a small network that says what a sprite shows, trained on the real ones alone.

Sprites of all canvases are brought to 32x32. It has two answers: the kind, and the subject among all names that at least
three sprites have. One source's sprites of a subject are all trained on or all held out.
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

TRAINING = Path(__file__).parent.parent / "train_sprite_xl"
sys.path.append(str(TRAINING))

from captions import KINDS, Record  # noqa: E402
from data import load_records, outlined  # noqa: E402

HELD_OUT = 0.12
LEAST_SPRITES = 3
SIDE = 32


def subject_of(record: Record) -> str:
    """The name that the judge answers with: for the old tiles the general word, else the name."""
    return record.names[-1] if record.file.startswith("t") else record.names[0]


def at_32(sprite: np.ndarray) -> np.ndarray:
    """u8 RGBA of any canvas as 32x32: small ones in the middle or doubled, large ones made smaller by means."""
    size = len(sprite)
    if size == 16:
        return sprite.repeat(2, 0).repeat(2, 1)
    if size in (24, 32):
        room = (SIDE - size) // 2
        return np.pad(sprite, ((room, room), (room, room), (0, 0)))
    if size == 40 and sprite[:4, :, 3].sum() + sprite[-4:, :, 3].sum() + sprite[:, :4, 3].sum() + sprite[:, -4:, 3].sum() == 0:
        return sprite[4:36, 4:36]
    image = torch.from_numpy(sprite.copy()).permute(2, 0, 1)[None].float()
    alpha = image[:, 3:] / 255
    mean = functional.adaptive_avg_pool2d(torch.cat([image[:, :3] * alpha, alpha], 1), SIDE)
    seen = (mean[:, 3:] > 0.45).float()
    made = torch.cat([mean[:, :3] / mean[:, 3:].clamp_min(1e-3) * seen, 255 * seen], 1)
    return made[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


class Judge(nn.Module):
    """Premultiplied RGBA `[n, 4, 32, 32]` → logits of kinds and of subjects."""

    def __init__(self, kinds: int, subjects: int):
        super().__init__()

        def block(c_in: int, c_out: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
                nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(),
            )  # fmt: skip

        self.body = nn.Sequential(block(4, 48), nn.MaxPool2d(2), block(48, 96), nn.MaxPool2d(2), block(96, 192), nn.MaxPool2d(2), block(192, 256))
        self.drop = nn.Dropout(0.3)
        self.kind, self.subject = nn.Linear(4 * 256, kinds), nn.Linear(4 * 256, subjects)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.drop(functional.adaptive_avg_pool2d(self.body(x), 2).flatten(1))
        return self.kind(found), self.subject(found)


def premultiplied(rgba: Tensor) -> Tensor:
    return torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)


def prepared(data: Path) -> tuple[list[Record], Tensor, list[str]]:
    """The records, their sprites as u8 `[n, 4, 32, 32]`, and the subjects that the judge knows."""
    records, pixels = load_records(data)
    sprites = np.stack([at_32(pixels[record.size][record.place]) for record in records])
    counts: dict[str, int] = {}
    for record in records:
        counts[subject_of(record)] = counts.get(subject_of(record), 0) + 1
    return records, torch.from_numpy(sprites).permute(0, 3, 1, 2).contiguous(), sorted(name for name, n in counts.items() if n >= LEAST_SPRITES)


def fit(
    data: Path, device: torch.device, steps: int, hold_out: bool = True, batch: int = 512, seed: int = 0
) -> tuple[Judge, list[str], dict[str, float]]:
    """The network, the subjects it knows, and its accuracy on held-out sprites: kind, subject, subject among 50.

    Without `hold_out` it learns from all sprites, and the accuracy is empty.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    records, sprites, subjects = prepared(data)
    index = {name: i for i, name in enumerate(subjects)}
    groups = sorted({(subject_of(record), record.source) for record in records})
    sources = {name: [source for subject, source in groups if subject == name] for name in subjects}
    # Held out are sprites of subjects that another source has too, so that the name can be known.
    held = {(name, rng.choice(found)) for name, found in sources.items() if hold_out and len(found) > 1 and rng.random() < 3 * HELD_OUT}
    kept = torch.tensor([(subject_of(record), record.source) not in held for record in records], device=device)
    kinds = torch.tensor([list(KINDS).index(record.kind) for record in records], device=device)
    names = torch.tensor([index.get(subject_of(record), -1) for record in records], device=device)
    flips = torch.tensor([record.flip for record in records], device=device)
    lined = torch.stack([torch.from_numpy(outlined(sprite.permute(1, 2, 0).numpy())).permute(2, 0, 1) for sprite in sprites])
    looks = torch.stack([sprites, lined]).to(device)
    weight = kept.float() * torch.bincount(kinds, minlength=len(KINDS))[kinds].float() ** -0.4
    model = Judge(len(KINDS), len(subjects)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        which = torch.multinomial(weight, batch, replacement=True)
        x = looks[torch.randint(2, (batch,), device=device), which].float() / 255
        x = augmented(premultiplied(x), flips[which])
        kind, subject = model(x)
        loss = functional.cross_entropy(kind, kinds[which], label_smoothing=0.05)
        loss = loss + functional.cross_entropy(subject, names[which], ignore_index=-1, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"judge: step {step}, loss {loss.item():.3f}", flush=True)
    model.eval()
    if not hold_out:
        return model, subjects, {}
    with torch.no_grad():
        rows = ((~kept) & (names >= 0)).nonzero().squeeze(1)
        kind, subject = (torch.cat(part) for part in zip(*(model(premultiplied(looks[0, part].float() / 255)) for part in rows.split(512))))
        accuracy = {
            "kind": (kind.argmax(1) == kinds[rows]).float().mean().item(),
            "subject": (subject.argmax(1) == names[rows]).float().mean().item(),
            "subject among 50": among(subject, names[rows], rng, 50).float().mean().item(),
            "sprites": len(rows),
        }
    return model, subjects, accuracy


def augmented(x: Tensor, flips: Tensor) -> Tensor:
    """Mirrored where that keeps the thing, shifted, in other light and hues, with a little noise."""
    rows = len(x)
    turned = flips & (torch.rand(rows, device=x.device) < 0.5)
    x = torch.where(turned[:, None, None, None], x.flip(-1), x)
    dy, dx = torch.randint(-3, 4, (2,)).tolist()
    x = torch.roll(x, (dy, dx), (2, 3))
    if torch.rand(()) < 0.5:
        mix = torch.eye(3, device=x.device) + 0.15 * torch.randn(rows, 3, 3, device=x.device)
        x = torch.cat([torch.einsum("nij,njhw->nihw", mix, x[:, :3]).clamp(0, 1), x[:, 3:]], 1)
    return x + 0.03 * torch.randn_like(x)


def among(logits: Tensor, wanted: Tensor, rng: random.Random, count: int) -> Tensor:
    """Whether the wanted subject is the likeliest of it and `count - 1` others drawn at random."""
    found = []
    for row, right in zip(logits, wanted.tolist()):
        others = rng.sample(range(logits.shape[1]), count)
        others = [other for other in others if other != right][: count - 1]
        found.append(row[right] > row[others].max())
    return torch.stack(found)


def fit_whole(data: Path, device: torch.device, steps: int) -> tuple[Judge, list[str], dict[str, float]]:
    """A network that has learned from all sprites, with the accuracy of one that learned from a part of them."""
    _, _, accuracy = fit(data, device, steps)
    model, subjects, _ = fit(data, device, steps, hold_out=False)
    return model, subjects, accuracy


def main() -> None:
    """Trains the judge and saves it: `judge.py DATA STEPS FILE`."""
    data, steps, file = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, subjects, accuracy = fit_whole(data, device, steps)
    print({name: round(value, 3) for name, value in accuracy.items()}, flush=True)
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    torch.save({"model": half, "subjects": subjects, "accuracy": accuracy}, file)


if __name__ == "__main__":
    main()
