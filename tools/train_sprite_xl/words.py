"""What sprites are called: kinds, things, synonyms, and the sentences made of them."""

import random
import re
from dataclasses import dataclass

# How often each kind is drawn in training, and other words for it. The order is that of `kind` in the prepared data.
KINDS: dict[str, tuple[float, list[str]]] = {
    "monster": (0.27, ["creature", "enemy", "beast", "foe"]),
    "weapon": (0.13, ["arms"]),
    "armour": (0.09, ["armor", "gear"]),
    "potion": (0.055, ["flask", "bottle", "vial", "elixir"]),
    "scroll": (0.04, ["parchment", "paper"]),
    "book": (0.045, ["tome", "spellbook", "grimoire"]),
    "ring": (0.03, ["jewel"]),
    "amulet": (0.025, ["necklace", "pendant", "talisman"]),
    "wand": (0.03, ["magic wand"]),
    "staff": (0.03, ["rod", "magic staff"]),
    "food": (0.03, ["meal", "snack"]),
    "gem": (0.02, ["rune", "jewel", "stone"]),
    "treasure": (0.02, ["loot"]),
    "wall": (0.055, ["wall tile"]),
    "floor": (0.055, ["floor tile", "ground"]),
    "water": (0.015, ["water tile"]),
    "plant": (0.03, ["vegetation"]),
    "door": (0.015, ["gate"]),
    "portal": (0.025, ["gateway", "entrance"]),
    "altar": (0.015, ["shrine"]),
    "statue": (0.02, ["sculpture"]),
    "furniture": (0.015, ["prop", "object"]),
    "shop": (0.005, ["store"]),
    "trap": (0.01, ["trap tile"]),
    "effect": (0.045, ["spell effect", "magic"]),
    "icon": (0.02, ["spell icon", "symbol"]),
    "character": (0.03, ["person", "adventurer", "figure"]),
}

# Words for one thing; the first is the one that names come down to.
SYNONYMS = [
    line.split(", ")
    for line in """
sword, blade, long sword, longsword, broadsword
dagger, knife, dirk
axe, hatchet, battle axe
hammer, war hammer, mallet
mace, morning star
spear, lance, pike
bow, longbow, shortbow
crossbow, arbalest
arrow, dart
whip, bullwhip
shield, buckler
helmet, helm, headgear
hat, wizard hat, cap
cloak, cape, mantle
robe, gown, mage robe
boots, shoes, boot
gloves, gauntlets, glove, gauntlet
mail, chain mail, chainmail, body armour
plate, plate armour, breastplate, plate mail
dragon, wyrm, drake, wyvern
snake, serpent, viper, cobra
spider, arachnid, tarantula
skeleton, bones, undead skeleton
zombie, undead, ghoul
ghost, spirit, phantom, spectre
wizard, mage, sorcerer, magician, warlock, witch
knight, warrior, fighter, soldier, paladin
goblin, gremlin, imp
orc, ork
demon, devil, fiend
slime, jelly, ooze, blob
dog, hound, wolf, puppy
cat, kitten, feline
rat, mouse, rodent
bird, raven, crow, eagle
fish, shark
frog, toad
turtle, tortoise
lizard, crocodile, alligator
bug, beetle, insect, ant
bee, wasp, bumblebee
eye, eyeball
tree, oak, forest tree
bush, shrub, hedge
mushroom, toadstool, fungus
flame, fire, blaze
ice, frost
lightning, electricity, thunderbolt
smoke, cloud, fog, mist
gold, coins, coin, money, gold coins
chest, treasure chest, strongbox
key, brass key
crystal, diamond, gemstone, gem
fountain, well
column, pillar
stairs, staircase, steps
tomb, sarcophagus, coffin, grave
torch, lamp, lantern
meat, steak, chop
bread, loaf
apple, fruit, pear
angel, cherub, seraph
giant, ogre, troll, cyclops
elf, elven warrior
dwarf, dwarven warrior
man, human, hero, person
princess, queen, lady, woman
golem, automaton, robot
worm, maggot
plant, vine, flower
lava, magma
grass, meadow, lawn
dirt, soil, earth, mud
brick, bricks, brickwork
stone, rock, cobblestone
water, sea, lake, ocean
sand, desert, beach
wood, wooden
""".strip().splitlines()
]
# What a subject's words say it is, where the words alone would not.
HEADS = {
    "tornado": "whirlwind", "vortex": "whirlwind", "spriggan": "elf", "merfolk": "merman", "merman": "merman", "mermaid": "mermaid",
    "hydra": "hydra", "naga": "naga", "draco": "dragon man", "draconian": "dragon man", "kobold": "kobold", "gnoll": "gnoll",
    "lich": "lich", "mummy": "mummy", "vampire": "vampire", "wraith": "ghost", "wight": "zombie", "shadow": "shadow", "spectral": "ghost",
    "simulacrum": "ice", "wyvern": "dragon", "drake": "dragon", "bat": "bat", "sheep": "sheep", "yak": "ox", "elephant": "elephant",
    "pig": "pig", "hog": "pig", "scorpion": "scorpion", "crab": "crab", "centaur": "centaur", "minotaur": "minotaur", "gargoyle": "gargoyle",
    "elemental": "elemental", "tentacle": "tentacle", "octopode": "octopus", "kraken": "octopus", "unicorn": "horse", "horse": "horse",
    "sabre": "sword", "scimitar": "sword", "katana": "sword", "falchion": "sword", "claymore": "sword", "cutlass": "sword", "greatsword": "sword",
    "rapier": "sword", "tsurugi": "sword", "broadsword": "sword", "halberd": "halberd", "glaive": "halberd", "bardiche": "halberd", "scythe": "scythe",
    "trident": "trident", "flail": "flail", "eveningstar": "mace", "morningstar": "mace", "club": "club", "ankus": "mace", "sceptre": "staff",
    "quarterstaff": "staff", "sling": "sling", "javelin": "spear", "tomahawk": "axe", "needle": "dart", "bolt": "arrow", "cleaver": "axe",
    "barding": "armour", "scales": "scale armour", "leather": "leather armour", "banded": "plate", "ringmail": "mail", "scalemail": "mail",
    "orb": "orb", "deck": "cards", "rune": "rune", "horn": "horn", "box": "box", "lantern": "torch", "disc": "disc", "fan": "fan",
    "stair": "stairs", "hatch": "hatch", "crystal": "crystal", "icicle": "ice", "cocytus": "ice", "volcanic": "lava", "pizza": "pizza",
    "apricot": "fruit", "banana": "banana", "orange": "fruit", "grape": "grapes", "lemon": "lemon", "strawberry": "strawberry", "cheese": "cheese",
    "sausage": "sausage", "honeycomb": "honey", "jerky": "meat", "chunk": "meat", "ration": "bread", "jackboots": "boots", "visor": "helmet",
    "visored": "helmet", "treant": "tree", "mangrove": "tree", "dragonskin": "dragon armour", "dragonmask": "mask", "mask": "mask",
    "hide": "scale armour", "skin": "leather armour", "conjurer": "wizard", "annihilator": "wizard", "summoner": "wizard", "priest": "priest",
    "demonologist": "wizard", "enchantress": "wizard", "scorcher": "wizard", "monk": "monk", "fighter": "knight", "berserker": "knight", "guard": "knight",
    "paladin": "knight", "archer": "archer", "champion": "knight", "blademaster": "knight", "druid": "wizard", "jester": "hat", "cap": "hat",
    "boulder": "boulder", "mirror": "mirror", "ball": "ball", "thorn": "thorns", "moth": "moth", "butterfly": "butterfly", "bear": "bear",
    "monkey": "monkey", "felid": "cat", "tengu": "bird man", "kenku": "bird man", "phoenix": "firebird", "jellyfish": "jellyfish", "snail": "snail",
    "centipede": "centipede", "mosquito": "mosquito", "fly": "fly", "firefly": "firefly", "sphinx": "sphinx", "harpy": "harpy", "manticore": "manticore",
}  # fmt: skip
# Things that are a material or a being when they stand in the name of something else.
STUFF = {"wood", "stone", "gold", "ice", "crystal", "flame", "water", "sand", "dirt", "grass", "brick", "shadow", "giant"}
BEINGS = {"dragon", "elf", "dwarf", "orc", "demon", "angel", "bird", "knight", "elemental", "man", "eye", "snake", "bear", "cat", "goblin", "horse", "orb", "dog"}
OTHER_COLOURS = """red orange yellow green teal blue purple pink brown black grey gray white cyan magenta golden dark light lightblue
lightcyan lightgray lightgreen lightmagenta lightred darkgray darkgreen crimson azure emerald ruby sapphire indigo violet pale
turquoise silver""".split()  # fmt: skip
COLOUR_SYNONYMS = {
    "red": ["crimson", "scarlet", "ruby"],
    "orange": ["amber"],
    "yellow": ["golden", "gold"],
    "green": ["emerald", "lime"],
    "teal": ["cyan", "turquoise", "aqua"],
    "blue": ["azure", "sapphire"],
    "purple": ["violet", "indigo"],
    "pink": ["magenta", "rose"],
    "brown": ["tan"],
    "black": ["dark", "obsidian"],
    "grey": ["gray", "silver"],
    "white": ["pale", "ivory"],
}
MATERIALS = """iron steel bronze brass copper silver gold golden bone crystal leather stone wooden wood glass metal marble granite clay ice
frozen flaming fire lava sand jade emerald ruby brick etched runed chain plate elven dwarven orcish demonic holy giant spiked mossy
vine slime moss mud dirt grass pebble cobble marble limestone crypt tomb hell""".split()  # fmt: skip
# Compass corners, numbers and other marks of a tile set's file names.
NOISE = re.compile(
    r"^(?:[a-z]|\d+|[a-z]\d|[nesw]{1,2}\d?|\d[a-z]|tl|tr|btm|lft|rgt|br|bl|bb|gone|misc|new|old|base|bord|domino|corner|rotated|flickering|"
    r"unknown|left|right|middle|up|down|full|gem|cameo|overlay|inert|ego|art|bk|dk|dd|lshield|vgate|rect|clear|job|melee|closed middle|"
    r"m|f|op|susp|male|unique|large|small|easy|nasty|enter|exit|return)$"
)
TAILS = ["pixel art", "sprite", "32x32", "game sprite", "pixel art sprite", "16x16", "game icon", "rpg item", "retro game", "8-bit", "64x64"]
ADJECTIVES = ["small", "big", "old", "magic", "simple", "shiny", "cute", "evil", "ancient", "broken", "beautiful", "detailed", "cool", "little", "glowing"]
LEADS = ["pixel art of", "a sprite of", "picture of", "an icon of", "sprite of"]
SCENES = ["with a torch", "on a white background", "front view", "side view", "for a game", "in the dark", "holding something", "top down"]


@dataclass
class Record:
    """What a sprite is. `things` go from the exact to the general; none of them is a colour."""

    file: str
    kind: str
    things: list[str]
    flip: bool


def _find(words: list[str]) -> list[str]:
    """Things among the words of a subject, the last and most telling first."""
    known = {word: group[0] for group in SYNONYMS for word in group if " " not in word}
    found = [HEADS.get(word) or known.get(word) or known.get(word.removesuffix("s")) for word in reversed(words)]
    return list(dict.fromkeys(thing for thing in found if thing))


def _heads(kind: str, words: list[str]) -> list[str]:
    """The things among the words that fit the kind: `dragon` in `dragon scale mail` is none."""
    found = _find(words)
    if kind == "monster":
        return [thing for thing in found if thing not in STUFF] or found
    if kind == "plant":
        return [thing for thing in found if thing in ("tree", "bush", "mushroom", "plant", "thorns")]
    if kind in ("weapon", "armour"):
        return [thing for thing in found if thing not in STUFF | BEINGS][:1]
    return found[:1]


def describe(file: str, kind: str, subject: str, caption: str) -> Record | None:
    """A row of `sprites.tsv`, or nothing for what is no picture of a thing."""
    groups = caption[len(subject) :].strip(", ").split(", ")
    words = [word for word in re.split(r"[ .]+", subject) if not NOISE.match(word)]
    named = [word for word in words if word not in OTHER_COLOURS]
    thing = _thing_kind(kind, groups, words)
    if thing is None:
        return None
    things = [" ".join(named)] if named and len(named) < 5 else []
    if thing in ("potion", "scroll", "wand", "ring", "amulet", "book", "staff"):
        named = [word for word in named if word not in (thing, "rod")]
        things = [f"{thing} of {' '.join(named)}", f"{' '.join(named)} {thing}"] if named else []
        things += [thing] * 3
    elif thing in ("wall", "floor", "altar", "icon", "door", "portal", "statue", "trap"):
        named = [word for word in named if word not in (thing, "gate")]
        things = [f"{' '.join(named)} {thing}"] * 2 if named else []
        things += [f"{head} {thing}" for head in _find(named)]
        things += [thing]
    elif thing == "water":
        things = ["deep water" if "deep" in words else "shallow water" if "shallow" in words else "water", "water", "water"]
    elif heads := _heads(thing, words):
        things += heads * 2
    else:
        things += [thing] * 2
    if kind == "character layer" and "base" in groups:
        things += ["adventurer", "hero"]
    if "unique" in groups:
        things += ["hero", "villain"]
    if not things:
        things = [thing]
    letters = thing in ("icon", "shop") or "sigil" in words
    return Record(file, thing, things, flip=not letters)


def _thing_kind(kind: str, groups: list[str], words: list[str]) -> str | None:
    has = set(groups) | set(words)
    if kind == "character layer":
        return {"base": "character", "transform": "monster", "felids": "monster"}.get(groups[0])
    if kind == "misc" and has & {"blood", "mask", "slot", "todo", "error", "ray", "exclusion", "sensed", "landing", "sleeping", "sigils", "sight", "range", "magicmap", "worn", "under", "melded"}:
        return None
    if kind == "misc" and ("spells" in has or "divination" in has):
        return None if "components" in has else "icon"
    if kind == "misc" and not set(groups) - {"misc"}:
        return None
    if {"shadow", "wave", "murky", "disturbance"} & set(words) and kind == "dungeon tile" and "dungeon tile" in has and not {"trees"} & has:
        return "water" if "water" in groups else None
    if "sigil" in words:
        return None
    if kind == "icon":
        return "icon"
    for group, name in [
        ("potion", "potion"), ("potions", "potion"), ("scroll", "scroll"), ("book", "book"), ("books", "book"), ("ring", "ring"), ("rings", "ring"),
        ("amulet", "amulet"), ("wand", "wand"), ("rod", "staff"), ("staff", "staff"), ("food", "food"), ("runes", "gem"), ("armour", "armour"),
        ("weapon", "weapon"), ("weapons", "weapon"), ("altars", "altar"), ("altar", "altar"), ("trees", "plant"), ("doors", "door"),
        ("gateways", "portal"), ("shops", "shop"), ("traps", "trap"), ("trap", "trap"), ("torches", "furniture"), ("banners", "furniture"),
        ("water", "water"),
    ]:  # fmt: skip
        if group in groups or (group == "altar" and group in words) or (group == "trap" and "trap" in words):
            return name
    if kind == "monster" or "monsters" in groups:
        if "fungi plants" in groups:
            return "plant"
        if "tentacles" in groups:
            return None
        return "statue" if words and words[-1] in ("statue", "obelisk") else None if "overlay" in caption_words(groups, words) else "monster"
    if "statues" in groups or "statue" in words or "idol" in words:
        return "statue"
    for name in ("wall", "floor"):
        if name in groups:
            return name
    if kind == "effect":
        return "effect"
    if words and words[0] == "gold":
        return "treasure"
    if "misc" in groups and kind == "item":
        return "treasure"
    for word, name in [
        ("fountain", "furniture"), ("column", "furniture"), ("sarcophagus", "furniture"), ("pillar", "furniture"), ("chest", "treasure"),
        ("key", "treasure"), ("stairs", "portal"), ("portal", "portal"), ("rod", "staff"), ("wand", "wand"), ("sceptre", "staff"),
        ("staff", "staff"), ("scroll", "scroll"), ("mirror", "treasure"), ("lamp", "treasure"), ("boulder", "furniture"), ("exit", "portal"),
        ("teleporter", "portal"), ("pedestal", "furniture"),
    ]:  # fmt: skip
        if word in words:
            return name
    return "furniture" if kind == "dungeon tile" or "vaults" in groups else None


def caption_words(groups: list[str], words: list[str]) -> set[str]:
    return {word for group in groups for word in group.split()} | set(words)


def _swap(thing: str, rng: random.Random) -> str:
    """A synonym of the thing, or of the thing's last word."""
    last = thing.split()[-1]
    for group in SYNONYMS:
        if thing in group:
            return rng.choice(group)
        if last == group[0] and " " in thing:
            return f"{thing[: -len(last)]}{rng.choice(group)}"
    return thing


def _unknown(rng: random.Random) -> str:
    return "".join(rng.choice(["ba", "zor", "ki", "lu", "mo", "xe", "tri", "q", "sh", "ent", "ra", "ull", "py", "st", "fo", "wim", "j", "eo"]) for _ in range(rng.randint(1, 4)))


def article(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def sentence(record: Record, colour: str | None, rng: random.Random) -> str:
    """One caption, as people write them. `colour` plus thing is the commonest form by far."""
    thing = rng.choice(record.things)
    if rng.random() < 0.22:
        thing = record.kind
    if rng.random() < 0.35:
        thing = _swap(thing, rng)
    if rng.random() < 0.12 and thing == record.kind:
        thing = rng.choice([record.kind, *KINDS[record.kind][1]])
    if colour and rng.random() < 0.2:
        colour = rng.choice(COLOUR_SYNONYMS[colour])
    named = f"{colour} {thing}" if colour else thing
    roll = rng.random()
    if roll < 0.08:
        named = f"{rng.choice(ADJECTIVES)} {named}"
    elif roll < 0.14:
        named = f"{named} {rng.choice(SCENES)}"
    elif roll < 0.20:
        named = f"{_unknown(rng)} {named}" if rng.random() < 0.5 else f"{named} {_unknown(rng)}"
    roll = rng.random()
    if roll < 0.40:
        text = named
    elif roll < 0.72:
        text = article(named)
    elif roll < 0.82:
        text = f"{rng.choice(LEADS)} {article(named)}"
    elif roll < 0.90:
        text = f"{named}, {record.kind}"
    elif colour:
        text = rng.choice([f"{thing}, {colour}", f"{thing} in {colour}", f"the {named}"])
    else:
        text = f"the {named}"
    if rng.random() < 0.25:
        text += ", " + ", ".join(rng.sample(TAILS, rng.randint(1, 2)))
    return text
