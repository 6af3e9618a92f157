//! The brackets of AUTOMATIC1111's web UI: `(word)` multiplies by 1.1, `[word]` divides by it,
//! `(word:1.3)` multiplies by 1.3, and a backslash makes a character of a bracket.

use super::{Part, PromptError, check_depth, push_words};

/// A bracket that is open, and the part that stands after it.
struct Open {
    round: bool,
    from: usize,
}

pub(super) fn parse(prompt: &str) -> Result<Vec<Part>, PromptError> {
    let (mut parts, mut open): (Vec<Part>, Vec<Open>) = (vec![], vec![]);
    let mut rest = prompt;
    while let Some(char) = rest.chars().next() {
        let after = &rest[char.len_utf8()..];
        let innermost = |round: bool| open.iter().rposition(|open| open.round == round);
        let weight = if char == ':' { weight(after) } else { None };
        rest = match (char, weight) {
            ('\\', _) => match after.chars().next() {
                Some(next @ ('(' | ')' | '[' | ']' | '\\')) => {
                    push(&next.to_string(), &mut parts);
                    &after[1..]
                }
                // It stands for nothing, and its neighbors are tokenized apart.
                _ => {
                    push("", &mut parts);
                    after
                }
            },
            ('(' | '[', _) => {
                open.push(Open { round: char == '(', from: parts.len() });
                check_depth(open.len())?;
                after
            }
            (':', Some((weight, after))) if innermost(true).is_some() => {
                close(innermost(true), weight, &mut open, &mut parts);
                after
            }
            (')', _) if innermost(true).is_some() => {
                close(innermost(true), 1.1, &mut open, &mut parts);
                after
            }
            (']', _) if innermost(false).is_some() => {
                close(innermost(false), 1.0 / 1.1, &mut open, &mut parts);
                after
            }
            (')' | ']', _) => {
                push(&char.to_string(), &mut parts);
                after
            }
            (':', _) => {
                push(":", &mut parts);
                after
            }
            _ => {
                let end = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                push_words(&rest[..end], 1.0, &mut parts);
                &rest[end..]
            }
        };
    }
    // Brackets that nothing closes hold to the end.
    for round in [true, false] {
        while let Some(place) = open.iter().position(|open| open.round == round) {
            close(Some(place), if round { 1.1 } else { 1.0 / 1.1 }, &mut open, &mut parts);
        }
    }
    Ok(merged(parts))
}

fn push(text: &str, parts: &mut Vec<Part>) {
    parts.push(Part::Text { text: text.to_owned(), weight: 1.0 });
}

/// Multiplies the weights of all that stands after an open bracket, which is closed by that.
fn close(place: Option<usize>, factor: f64, open: &mut Vec<Open>, parts: &mut [Part]) {
    let Some(place) = place else { return };
    let Open { from, .. } = open.remove(place);
    for part in &mut parts[from..] {
        if let Part::Text { weight, .. } = part {
            *weight *= factor;
        }
    }
}

/// The number before a closing bracket, and what stands after the bracket.
fn weight(text: &str) -> Option<(f64, &str)> {
    let (number, after) = text.split_once(')')?;
    let number = number.trim();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let is_number = digits.chars().all(|char| char == '.' || char.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, after))
}

/// Joins neighbors of one weight: they are tokenized together.
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = vec![];
    for part in parts {
        match (merged.last_mut(), part) {
            (Some(Part::Text { text, weight }), Part::Text { text: more, weight: same })
                if *weight == same =>
            {
                text.push_str(&more);
            }
            (_, part) => merged.push(part),
        }
    }
    merged.retain(|part| !matches!(part, Part::Text { text, .. } if text.is_empty()));
    merged
}
