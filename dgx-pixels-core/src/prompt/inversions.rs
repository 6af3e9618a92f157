//! `embedding:NAME` in a prompt: a textual inversion, which is vectors in place of words.
//!
//! Source of the rule: ComfyUI, `comfy/sd1_clip.py`, `SDTokenizer.tokenize_with_weights`.

#[cfg(any(feature = "engine", feature = "torch"))]
use super::{Part, PromptError, PromptSyntax, parse};

/// The word that a name follows.
const MARK: &str = "embedding:";
/// The ending of a file, which a name may have.
const ENDING: &str = ".safetensors";

/// A piece of a text with one weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Words for the tokenizer.
    Words(&'a str),
    /// The vectors of this name.
    Vectors(&'a str),
}

/// Cuts a text at its textual inversions. A name begins after white space or at the beginning, and
/// ends before white space or a comma.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest, mut from) = (vec![], text, 0);
    while let Some(place) = rest[from..].find(MARK).map(|place| from + place) {
        let (before, after) = (&rest[..place], &rest[place + MARK.len()..]);
        let end = after.find(|char: char| char.is_whitespace() || char == ',').unwrap_or(after.len());
        let name = after[..end].strip_suffix(ENDING).unwrap_or(&after[..end]);
        if name.is_empty() || !(before.is_empty() || before.ends_with(char::is_whitespace)) {
            from = place + MARK.len();
            continue;
        }
        if !before.is_empty() {
            pieces.push(Piece::Words(before));
        }
        pieces.push(Piece::Vectors(name));
        (rest, from) = (&after[end..], 0);
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Words(rest));
    }
    pieces
}

/// The names of the textual inversions in a prompt. A plain prompt has none.
///
/// # Errors
/// Those of [`parse`].
#[cfg(any(feature = "engine", feature = "torch"))]
pub(crate) fn names(prompt: &str, syntax: PromptSyntax) -> Result<Vec<String>, PromptError> {
    if syntax == PromptSyntax::Plain || !prompt.contains(MARK) {
        return Ok(vec![]);
    }
    let mut names = vec![];
    for part in parse(prompt, syntax)? {
        let Part::Text { text, .. } = part else { continue };
        names.extend(pieces(&text).into_iter().filter_map(|piece| match piece {
            Piece::Vectors(name) => Some(name.to_owned()),
            Piece::Words(_) => None,
        }));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::Piece::{Vectors, Words};
    use super::*;

    #[test]
    fn a_name_ends_at_white_space_or_a_comma_and_begins_a_word() {
        for (text, expected) in [
            ("a key", &[Words("a key")][..]),
            ("", &[Words("")]),
            ("embedding:frog", &[Vectors("frog")]),
            ("a embedding:frog, big", &[Words("a "), Vectors("frog"), Words(", big")]),
            ("embedding:frog.safetensors old", &[Vectors("frog"), Words(" old")]),
            ("embedding:a\nembedding:org/b/c", &[Vectors("a"), Words("\n"), Vectors("org/b/c")]),
            ("myembedding:frog embedding: x", &[Words("myembedding:frog embedding: x")]),
            ("xembedding:a embedding:b", &[Words("xembedding:a "), Vectors("b")]),
        ] {
            assert_eq!(pieces(text), expected, "{text}");
        }
    }
}
