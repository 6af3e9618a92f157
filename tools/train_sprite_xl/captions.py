"""Captions of sprites, as people write prompts."""

import random
from dataclasses import dataclass

from words import COLOUR_SYNONYMS, MATERIALS, OTHER_COLOURS, SYNONYMS

# How often each kind is drawn in training, and other words for it.
KINDS: dict[str, tuple[float, list[str]]] = {
    "monster": (0.12, ["creature", "enemy", "beast", "foe"]),
    "character": (0.125, ["person", "adventurer", "figure", "hero"]),
    "animal": (0.12, ["creature", "beast"]),
    "food": (0.08, ["meal", "snack"]),
    "weapon": (0.08, ["arms"]),
    "item": (0.08, ["object", "thing"]),
    "armour": (0.06, ["armor", "gear"]),
    "vehicle": (0.05, ["transport"]),
    "plant": (0.045, ["vegetation"]),
    "building": (0.04, ["structure"]),
    "potion": (0.035, ["flask", "bottle", "vial", "elixir"]),
    "tool": (0.03, ["equipment"]),
    "clothing": (0.035, ["clothes", "outfit"]),
    "furniture": (0.03, ["prop", "object"]),
    "treasure": (0.03, ["loot"]),
    "wall": (0.03, ["wall tile"]),
    "floor": (0.03, ["floor tile", "ground"]),
    "icon": (0.03, ["symbol"]),
    "face": (0.02, ["head"]),
    "scenery": (0.025, ["landscape"]),
    "book": (0.02, ["tome", "spellbook", "grimoire"]),
    "weather": (0.02, ["sky"]),
    "effect": (0.02, ["spell effect", "magic"]),
    "staff": (0.015, ["rod", "magic staff"]),
    "scroll": (0.015, ["parchment", "paper"]),
    "ring": (0.015, ["jewel"]),
    "terrain": (0.015, ["ground tile"]),
    "door": (0.012, ["gate"]),
    "gem": (0.015, ["jewel", "crystal", "stone"]),
    "wand": (0.01, ["magic wand"]),
    "amulet": (0.01, ["necklace", "pendant", "talisman"]),
    "statue": (0.012, ["sculpture"]),
    "portal": (0.01, ["gateway"]),
    "water": (0.008, ["water tile"]),
    "altar": (0.008, ["shrine"]),
    "trap": (0.008, ["hazard"]),
    "hand": (0.008, ["gesture"]),
    "body part": (0.006, ["part of a body"]),
    "shop": (0.003, ["store"]),
}
# What each style's sprites are called, and how often a caption says so. Plain prompts mean pixel art.
STYLES: dict[str, tuple[float, list[str]]] = {
    "pixel": (0.3, ["pixel art", "pixel art sprite", "16-bit", "8-bit", "retro game", "game sprite", "rpg item", "sprite"]),
    "emoji": (0.35, ["emoji", "flat icon", "flat emoji"]),
    "outlined": (0.25, ["pixel art", "game sprite", "sprite", "outlined", "with a dark outline"]),
    "1-bit": (1.0, ["1-bit", "black and white", "1-bit pixel art", "monochrome"]),
    "shaded icon": (0.7, ["icon", "soft shading", "shaded icon"]),
}
VIEWS = {
    "front": ["front view", "facing forward", "facing the viewer"],
    "back": ["back view", "from behind", "facing away"],
    "side": ["side view"],
    "top-down": ["top-down", "from above", "top-down view"],
    "three-quarter front": ["three-quarter view"],
    "three-quarter back": ["three-quarter back view"],
}
DIRECTIONS = {"left": ["facing left", "looking left"], "right": ["facing right", "looking right"], "down": ["facing down"], "up": ["facing up"]}
ACTIONS = {"walk": "walking", "run": "running", "idle": "standing", "attack": "attacking", "jump": "jumping", "hit": "hurt", "fall": "falling"}
TAILS = ["32x32", "game icon", "16x16", "64x64", "game asset", "simple", "detailed", "high quality", "video game", "cute", "transparent background"]
ADJECTIVES = ["small", "big", "old", "magic", "simple", "shiny", "cute", "evil", "ancient", "broken", "beautiful", "detailed", "cool", "little", "glowing", "tiny", "large"]
LEADS = ["pixel art of", "a sprite of", "picture of", "an icon of", "sprite of", "pixel art"]
NUMBERS = {2: ["two", "2", "a pair of"], 3: ["three", "3"], 4: ["four", "4"]}
GROUNDS = {"grass": ["on grass", "in a meadow"], "water": ["on water", "in the sea"], "sand": ["on sand", "in the desert"], "stone": ["on a stone floor"]}
# Words that people write and the sets do not: given a place so that they are one token each.
EVERYDAY = """blurry photo realistic text watermark low quality high best background transparent simple scene view walking running attack
idle standing boy girl king thief archer priest monk ninja pirate castle house bridge road path cave ship boat wagon table chair bed
stove anvil fence ladder rope chain hook net lever bag barrel crate map candle moon sun star heart cross skull snow rain night day
fantasy medieval dungeon cave forest village space alien car gun game item hand face head body wings tail horn claw tooth holding
with and on left right of under beside wearing carrying riding sitting sleeping flying swimming""".split()


@dataclass
class Record:
    """What a sprite is. `names` go from the exact to the general; none of them is a colour."""

    file: str
    kind: str
    names: list[str]
    words: list[str]
    above: list[str]
    like: list[str]
    style: str
    view: str
    direction: str
    action: str
    source: str
    licence: str
    group: str
    flip: bool
    # The canvas, and the place among the sprites of that canvas.
    size: int = 0
    place: int = 0


def own_words() -> list[str]:
    """All that our own lists say."""
    lists = [[*KINDS, *COLOUR_SYNONYMS, *MATERIALS, *EVERYDAY, *TAILS, *ADJECTIVES, *LEADS, *ACTIONS.values(), *VIEWS, *GROUNDS]]
    lists += [group for group in [*SYNONYMS, *COLOUR_SYNONYMS.values(), *VIEWS.values(), *DIRECTIONS.values(), *NUMBERS.values(), *GROUNDS.values()]]
    lists += [words for _, words in [*KINDS.values(), *STYLES.values()]]
    return [word for words in lists for word in words]


def article(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def name(record: Record, rng: random.Random) -> str:
    """One of the ways to call it: mostly its own name, else a synonym, a keyword, what it is, or what is like it."""
    roll = rng.random()
    thing = rng.choice(record.names)
    if roll < 0.09 and record.words:
        return rng.choice(record.words)
    if roll < 0.15 and record.above:
        return rng.choice(record.above[:2])
    if roll < 0.20 and record.like:
        return rng.choice(record.like)
    if roll < 0.26:
        return rng.choice([record.kind, *KINDS[record.kind][1]])
    if roll < 0.36:
        return _swap(thing, rng)
    if roll < 0.39:
        return _mistyped(thing, rng)
    return thing


def uncoloured(name: str) -> str:
    """The name without its colour words, for a sprite that is told its colour."""
    return " ".join(word for word in name.split() if word not in OTHER_COLOURS) or name


def sentence(record: Record, colour: str | None, style: str | None, rng: random.Random, flipped: bool = False) -> str:
    """One caption. `colour` plus name is the commonest form by far; `style` is a key of `STYLES`, by default the record's."""
    named = name(record, rng)
    if colour:
        if rng.random() < 0.2:
            colour = rng.choice(COLOUR_SYNONYMS.get(colour, [colour]))
        named = f"{colour} {uncoloured(named)}"
    roll = rng.random()
    if roll < 0.08:
        named = f"{rng.choice(ADJECTIVES)} {named}"
    elif roll < 0.11:
        named = f"{_unknown(rng)} {named}" if rng.random() < 0.5 else f"{named} {_unknown(rng)}"
    return dressed(named, looks_of(record, flipped, rng), style or record.style, rng)


def looks_of(record: Record, flipped: bool, rng: random.Random) -> list[str]:
    """Words for view, direction and action, each now and then."""
    found = []
    if record.action in ACTIONS and rng.random() < 0.25:
        found.append(ACTIONS[record.action])
    direction = {"left": "right", "right": "left"}.get(record.direction, record.direction) if flipped else record.direction
    if direction in DIRECTIONS and rng.random() < 0.45:
        found.append(rng.choice(DIRECTIONS[direction]))
    elif record.view in VIEWS and rng.random() < 0.35:
        found.append(rng.choice(VIEWS[record.view]))
    return found


def dressed(named: str, looks: list[str], style: str, rng: random.Random) -> str:
    """The sentence around what is shown."""
    roll = rng.random()
    plural = named.split()[0] in ("two", "three", "four", "2", "3", "4", "a", "an")
    if roll < 0.38 or (plural and roll < 0.72):
        text = named
    elif roll < 0.74:
        text = article(named)
    elif roll < 0.84:
        text = f"{rng.choice(LEADS if style in ('pixel', 'outlined') else ['an icon of', 'picture of'])} {named if plural else article(named)}"
    else:
        text = f"the {named}" if not plural else named
    for look in looks:
        text += rng.choice([" ", ", "]) + look
    chance, words = STYLES[style]
    if rng.random() < chance:
        word = rng.choice(words)
        text = f"{word} {text}" if rng.random() < 0.15 and "with" not in word else f"{text}, {word}"
    if rng.random() < 0.12:
        text += f", {rng.choice(TAILS)}"
    return text


def several(records: list[Record], colours: list[str | None], ground: str | None, rng: random.Random) -> str:
    """A caption of a composite: sprites from left to right, the same one more than once if the list has one record."""
    things = [rng.choice(record.names) if rng.random() < 0.85 else rng.choice([record.kind, *record.above[:1]]) for record in records]
    things = [f"{colour} {uncoloured(thing)}" if colour else thing for thing, colour in zip(things, colours)]
    if len(records) == 1:
        named = article(things[0])
    elif rng.random() < 0.15 and len(things) == 2:
        named = f"{article(things[0])} {rng.choice(['next to', 'beside', 'left of'])} {article(things[1])}"
    else:
        whole = [article(thing) for thing in things] if rng.random() < 0.75 else things
        named = f"{', '.join(whole[:-1])} and {whole[-1]}"
    if ground:
        named = f"{named} {rng.choice(GROUNDS[ground])}"
    return named


def many(record: Record, colour: str | None, count: int, rng: random.Random) -> str:
    thing = rng.choice(record.names)
    thing = f"{colour} {uncoloured(thing)}" if colour else thing
    if not thing.endswith(("s", "sh", "ch", "x", "y", "fish", "sheep")):
        thing += "s"
    return f"{rng.choice(NUMBERS[count])} {thing}"


def _swap(thing: str, rng: random.Random) -> str:
    """A synonym of the thing, or of its last word."""
    last = thing.split()[-1]
    for group in SYNONYMS:
        if thing in group:
            return rng.choice(group)
        if last == group[0] and " " in thing:
            return f"{thing[: -len(last)]}{rng.choice(group)}"
    return thing


def _mistyped(thing: str, rng: random.Random) -> str:
    """The name with two letters swapped, or one left out."""
    if len(thing) < 5:
        return thing
    at = rng.randrange(1, len(thing) - 2)
    if " " in thing[at : at + 2]:
        return thing
    return thing[:at] + thing[at + 1] + (thing[at] if rng.random() < 0.5 else "") + thing[at + 2 :]


def _unknown(rng: random.Random) -> str:
    parts = ["ba", "zor", "ki", "lu", "mo", "xe", "tri", "q", "sh", "ent", "ra", "ull", "py", "st", "fo", "wim", "j", "eo"]
    return "".join(rng.choice(parts) for _ in range(rng.randint(1, 4)))
