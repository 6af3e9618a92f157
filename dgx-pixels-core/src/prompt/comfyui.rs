//! ComfyUI's brackets: `(word)` is 1.1 times the weight around it, `(word:1.3)` is 1.3, `\(` and
//! `\)` are characters.

use super::{Part, PromptError, check_depth, push_words};

/// A character, and whether a backslash made a plain character of a bracket.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Symbol {
    char: char,
    is_escaped: bool,
}

const OPEN: Symbol = Symbol { char: '(', is_escaped: false };
const CLOSE: Symbol = Symbol { char: ')', is_escaped: false };

pub(super) fn parse(prompt: &str) -> Result<Vec<Part>, PromptError> {
    let mut symbols = vec![];
    let mut chars = prompt.chars().peekable();
    while let Some(char) = chars.next() {
        let bracket = chars.next_if(|next| char == '\\' && matches!(next, '(' | ')'));
        symbols.push(match bracket {
            Some(char) => Symbol { char, is_escaped: true },
            None => Symbol { char, is_escaped: false },
        });
    }
    let mut parts = vec![];
    weigh(&symbols, 1.0, 0, &mut parts)?;
    Ok(parts)
}

/// Adds the parts of `symbols`, which have this weight and stand inside `depth` brackets.
fn weigh(symbols: &[Symbol], weight: f64, depth: usize, parts: &mut Vec<Part>) -> Result<(), PromptError> {
    check_depth(depth)?;
    for piece in pieces(symbols) {
        let [OPEN, inner @ .., CLOSE] = piece else {
            push_words(&text(piece), weight, parts);
            continue;
        };
        match weighed(inner) {
            Some((inner, own)) => weigh(inner, own, depth + 1, parts)?,
            None => weigh(inner, weight * 1.1, depth + 1, parts)?,
        }
    }
    Ok(())
}

/// Cuts `symbols` before each outermost bracket that opens and after the one that closes it. A
/// bracket without its partner leaves what follows in one piece.
fn pieces(symbols: &[Symbol]) -> Vec<&[Symbol]> {
    let (mut pieces, mut begin, mut level) = (vec![], 0, 0_i64);
    for (i, symbol) in symbols.iter().enumerate() {
        if *symbol == OPEN {
            if level == 0 {
                pieces.push(&symbols[begin..i]);
                begin = i;
            }
            level += 1;
        } else if *symbol == CLOSE {
            level -= 1;
            if level == 0 {
                pieces.push(&symbols[begin..=i]);
                begin = i + 1;
            }
        }
    }
    pieces.push(&symbols[begin..]);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// What stands before the last colon, and the number after it.
fn weighed(inner: &[Symbol]) -> Option<(&[Symbol], f64)> {
    let colon = inner.iter().rposition(|symbol| symbol.char == ':').filter(|colon| *colon > 0)?;
    let number = &inner[colon + 1..];
    if number.iter().any(|symbol| symbol.is_escaped) {
        return None;
    }
    Some((&inner[..colon], text(number).trim().parse().ok()?))
}

fn text(symbols: &[Symbol]) -> String {
    symbols.iter().map(|symbol| symbol.char).collect()
}
