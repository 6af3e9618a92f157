"""CLIP's vocabulary in small, learned from words."""

from collections import Counter

START, END = "<|startoftext|>", "<|endoftext|>"


def bpe(words: Counter[str], merges: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """CLIP's vocabulary in small: bytes, bytes that end a word, `merges` learned from `words`, start and end."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    texts = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    pairs: Counter[tuple[str, str]] = Counter()
    having: dict[tuple[str, str], set[str]] = {}
    for word, text in texts.items():
        for pair in zip(text, text[1:]):
            pairs[pair] += words[word]
            having.setdefault(pair, set()).add(word)
    learned: list[tuple[str, str]] = []
    while len(learned) < merges and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        for word in having.pop(best):
            text = texts[word]
            if best not in zip(text, text[1:]):
                continue
            for pair in zip(text, text[1:]):
                pairs[pair] -= words[word]
            for i in range(len(text) - 2, -1, -1):
                if tuple(text[i : i + 2]) == best:
                    text[i : i + 2] = ["".join(best)]
            for pair in zip(text, text[1:]):
                pairs[pair] += words[word]
                having.setdefault(pair, set()).add(word)
        pairs = +pairs
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in learned] + [START, END]
    return {token: i for i, token in enumerate(tokens)}, learned
