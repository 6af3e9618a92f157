"""WordNet 3.0 as far as captions need it: what a noun is, and what is of the same sort.

Reads `index.noun` and `data.noun` of Debian's package `wordnet-base` (Princeton's WordNet licence, permissive). Only nouns
of things that can be drawn count, and of each noun its first two senses, or "bass" would be a guitar.
"""

from pathlib import Path

# Numbers of WordNet's lexicographer files: animal, artifact, body, food, natural object, person, phenomenon, plant.
DRAWABLE = {"05", "06", "08", "13", "17", "18", "19", "20"}
SENSES = 2
# What says nothing about looks.
VAGUE = set(
    """entity, object, thing, artifact, artefact, whole, unit, matter, person, individual, someone, somebody, mortal, soul, organism, animal,
animate being, animate thing, brute, creature, fauna, instrumentality, instrumentation, living thing, causal agent, physical entity, substance,
part, item, article, commodity, trade good, device, implement, equipment, structure, construction, covering, consumer goods, good, container,
natural object, being, way, creation, product, foodstuff, food product, food, solid food, nutriment, nutrient, plant, plant part, plant organ,
relation, instrument, mechanism, apparatus, body part, organ, chordate, craniate, vertebrate, placental, placental mammal, arm, nature, complex,
composite, plane, work, assemblage, vascular plant, tracheophyte, herbaceous plant, ligneous plant, imaginary being, spiritual being,
psychological feature, arthropod, invertebrate, produce, green goods, domestic animal, domesticated animal, facility, installation,
representation, communication, signal, protective covering, area, region, support, decoration, ornament, ornamentation, attire, fabric, cloth,
material, textile, expert, adult, grownup, unfortunate, worker, traveler, traveller, inhabitant, dweller, habitant, indweller, contestant,
leader, equine, ungulate, hoofed mammal, carnivore, conveyance, transport, craft, sheet, shape, form, natural phenomenon, phenomenon,
atmospheric phenomenon, physical phenomenon, process, collection, aggregation, accumulation, group, set, piece, surface, opening, way""".replace("\n", " ").split(", ")
)


class WordNet:
    """Nouns by name, with what stands above and below them."""

    def __init__(self, folder: Path):
        self.words: dict[str, list[str]] = {}
        self.above: dict[str, list[str]] = {}
        self.below: dict[str, list[str]] = {}
        drawable: set[str] = set()
        file_of: dict[str, str] = {}
        for line in (folder / "data.noun").read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split("|")[0].split()
            offset, file, count = fields[0], fields[1], int(fields[3], 16)
            self.words[offset] = [fields[4 + 2 * i].replace("_", " ").lower() for i in range(count)]
            pointers = fields[4 + 2 * count + 1 :]
            targets = [(pointers[i], pointers[i + 1]) for i in range(0, len(pointers) - 3, 4)]
            self.above[offset] = [target for symbol, target in targets if symbol == "@"]
            self.below[offset] = [target for symbol, target in targets if symbol == "~"]
            if file in DRAWABLE:
                drawable.add(offset)
                file_of[offset] = file
        self.file = file_of
        self.senses: dict[str, list[str]] = {}
        self.common: dict[str, int] = {}
        for line in (folder / "index.noun").read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):
                continue
            fields = line.split()
            word, senses = fields[0].replace("_", " "), int(fields[2])
            offsets = fields[-senses:]
            found = [offset for offset in offsets[:SENSES] if offset in drawable]
            if found and offsets[0] in drawable:
                self.senses[word] = found
                self.common[word] = int(fields[-senses - 1])

    def sense(self, name: str, file: str | None = None) -> str | None:
        """The sense of a name, or of its last words, singular if need be; one of lexicographer file `file` comes first."""
        words = name.split()
        for start in range(len(words)):
            tail = " ".join(words[start:])
            for word in (tail, tail.removesuffix("s"), tail.removesuffix("es"), tail.replace("ies", "y")):
                if word in self.senses:
                    senses = self.senses[word]
                    return next((sense for sense in senses if self.file[sense] == file), senses[0])
        return None

    def kinds_of(self, name: str, file: str | None = None, steps: int = 2) -> list[str]:
        """What it is, nearest first: "bird" for a penguin."""
        found, sense = [], self.sense(name, file)
        for _ in range(steps + 2):
            if sense is None or not self.above[sense]:
                break
            sense = self.above[sense][0]
            found += [word for word in self.words[sense][:2] if word not in VAGUE and len(word) < 20]
        return [word for word in found if word not in name][: 2 * steps]

    def like(self, name: str, file: str | None = None) -> list[str]:
        """Names of what is a sort of it, and of its sisters: "budgerigar" for a parrot."""
        sense = self.sense(name, file)
        if sense is None:
            return []
        near = list(self.below[sense])
        if not near and self.above[sense]:
            near = [other for other in self.below[self.above[sense][0]] if other != sense]
        words = [word for offset in near for word in self.words[offset][:2]]
        return [word for word in words if word.replace(" ", "").isalpha() and len(word) < 18 and word not in name]
