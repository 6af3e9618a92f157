//! Tokens in chunks of a text encoder's length.

use super::PromptSyntax;

/// A [`Part`](super::Part) after the tokenizer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenPart {
    /// Ids without start and end, and their weight.
    Text { ids: Vec<u32>, weight: f32 },
    /// The end of a chunk.
    Break,
}

/// What a text encoder reads at once, without start, end and padding.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) ids: Vec<u32>,
    /// One for each id.
    pub(crate) weights: Vec<f32>,
}

/// Parts with this many tokens or more may be cut, if they do not fit.
const MIN_CUT: usize = 8;
/// The most tokens after a comma that move to the next chunk with what follows.
const BACKTRACK: usize = 20;

/// Lays `parts` into chunks of at most `room` ids, which is 1 or more. There is always a chunk, and
/// it may be empty.
///
/// `comma` is the id of a comma, at which `a1111` ends a chunk where one is near.
pub(crate) fn lay(parts: &[TokenPart], room: usize, comma: Option<u32>, syntax: PromptSyntax) -> Vec<Chunk> {
    let mut chunks = Chunks { done: vec![], open: Chunk::default(), room };
    for part in parts {
        match part {
            TokenPart::Break => chunks.end(),
            TokenPart::Text { ids, weight } => match syntax {
                PromptSyntax::A1111 => chunks.add_at_commas(ids, *weight, comma),
                _ => chunks.add_whole(ids, *weight),
            },
        }
    }
    if !chunks.open.ids.is_empty() || chunks.done.is_empty() {
        chunks.end();
    }
    chunks.done
}

struct Chunks {
    done: Vec<Chunk>,
    open: Chunk,
    room: usize,
}

impl Chunks {
    /// Ends the open chunk.
    fn end(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
    }

    fn push(&mut self, ids: &[u32], weight: f32) {
        self.open.ids.extend(ids);
        self.open.weights.resize(self.open.ids.len(), weight);
    }

    /// ComfyUI's rule: a short part goes whole into the next chunk, a long one is cut where the
    /// chunk ends.
    fn add_whole(&mut self, mut ids: &[u32], weight: f32) {
        let is_cut = ids.len() >= MIN_CUT || ids.len() > self.room;
        while ids.len() + self.open.ids.len() > self.room {
            let fits = if is_cut { self.room - self.open.ids.len() } else { 0 };
            self.push(&ids[..fits], weight);
            ids = &ids[fits..];
            self.end();
        }
        self.push(ids, weight);
    }

    /// The web UI's rule: a chunk is filled, and ends after its last comma if that is near.
    fn add_at_commas(&mut self, ids: &[u32], weight: f32, comma: Option<u32>) {
        for &id in ids {
            if self.open.ids.len() == self.room {
                let last = match comma {
                    Some(comma) if comma != id => self.open.ids.iter().rposition(|id| *id == comma),
                    _ => None,
                };
                match last.filter(|last| self.room - last <= BACKTRACK) {
                    Some(last) => {
                        let ids = self.open.ids.split_off(last + 1);
                        let weights = self.open.weights.split_off(last + 1);
                        self.end();
                        self.open = Chunk { ids, weights };
                    }
                    None => self.end(),
                }
            }
            self.push(&[id], weight);
        }
    }
}
