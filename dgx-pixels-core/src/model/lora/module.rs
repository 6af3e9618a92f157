//! The change to one module: its parts, its formula, and whether it fits itself and the model.

use std::collections::BTreeMap;

use super::keys::{Part, Target};
use crate::model::header::{StoredTensor, shown};

/// What a file changes in one module.
#[derive(Debug)]
pub(crate) struct Module {
    /// The name in the file.
    pub(crate) name: String,
    pub(crate) parts: BTreeMap<Part, StoredTensor>,
    pub(crate) kind: Kind,
    /// The factor of the change, before the strength: alpha by rank.
    pub(crate) scale: f64,
    /// The number that the file has for it.
    pub(crate) alpha: Option<f64>,
}

/// The formula of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LowRank,
    Hada,
    Kron,
    Factors,
    Orthogonal,
    Set,
    Diff,
    /// A change of the bias alone.
    Bias,
}

impl Module {
    pub(crate) fn part(&self, part: Part) -> Option<&StoredTensor> {
        self.parts.get(&part)
    }

    /// A side of a part, 0 where there is none.
    fn side(&self, part: Part, i: usize) -> usize {
        self.part(part).and_then(|tensor| tensor.shape.get(i)).copied().unwrap_or(0)
    }

    /// The product of a part's sides from the `i`th on.
    pub(super) fn rest(&self, part: Part, i: usize) -> usize {
        self.part(part).map_or(0, |tensor| tensor.shape.iter().skip(i).product())
    }

    fn shape(&self, part: Part) -> &[usize] {
        self.part(part).map_or(&[], |tensor| &tensor.shape)
    }

    /// The formula, by the parts that there are.
    pub(super) fn kind_of(name: &str, parts: &BTreeMap<Part, StoredTensor>) -> Result<Kind, String> {
        let has = |part: Part| parts.contains_key(&part);
        let all = |parts: &[Part]| parts.iter().all(|part| has(*part));
        let any = |parts: &[Part]| parts.iter().any(|part| has(*part));
        let hada = [Part::HadaW1A, Part::HadaW1B, Part::HadaW2A, Part::HadaW2B];
        let kron_1 = has(Part::KronW1) || all(&[Part::KronW1A, Part::KronW1B]);
        let kron_2 = has(Part::KronW2) || all(&[Part::KronW2A, Part::KronW2B]);
        let kron = [
            Part::KronW1,
            Part::KronW1A,
            Part::KronW1B,
            Part::KronW2,
            Part::KronW2A,
            Part::KronW2B,
            Part::KronT2,
        ];
        let found = [
            (any(&[Part::Up, Part::Down, Part::Mid]), all(&[Part::Up, Part::Down]), Kind::LowRank),
            (any(&hada), all(&hada) && has(Part::HadaT1) == has(Part::HadaT2), Kind::Hada),
            (any(&kron), kron_1 && kron_2, Kind::Kron),
            (any(&[Part::Factor, Part::OnInput]), all(&[Part::Factor, Part::OnInput]), Kind::Factors),
            (has(Part::OftBlocks), true, Kind::Orthogonal),
            (has(Part::Set), true, Kind::Set),
            (has(Part::Diff), true, Kind::Diff),
        ];
        let kinds: Vec<_> = found.into_iter().filter(|(is_begun, _, _)| *is_begun).collect();
        match kinds.as_slice() {
            [(_, true, kind)] => Ok(*kind),
            [(_, false, _)] => {
                let there: Vec<_> = parts.keys().map(|part| format!("{part:?}")).collect();
                Err(format!("`{}` is not whole: of its parts there are {}", shown(name), there.join(", ")))
            }
            [] if has(Part::Bias) => Ok(Kind::Bias),
            [] => Err(format!("`{}` has no weights", shown(name))),
            [..] => Err(format!("`{}` has parts of two kinds of changes; expected one", shown(name))),
        }
    }

    /// The rank that alpha is divided by; `None` where alpha means nothing.
    pub(super) fn rank(&self) -> Option<usize> {
        match self.kind {
            Kind::LowRank => Some(self.side(Part::Down, 0)),
            Kind::Hada => Some(self.side(Part::HadaW1B, 0)),
            // With both factors whole there is no rank, and the authors' own layer ignores alpha.
            Kind::Kron if self.part(Part::KronW2B).is_some() => Some(self.side(Part::KronW2B, 0)),
            Kind::Kron if self.part(Part::KronW1B).is_some() => Some(self.side(Part::KronW1B, 0)),
            _ => None,
        }
    }

    /// Checks that the parts fit each other, and returns the sides of the change: its rows, and all
    /// numbers of one.
    pub(super) fn sides(&self) -> Result<Option<(usize, usize)>, String> {
        let name = shown(&self.name);
        let differ = |what: &str, one: usize, other: usize| {
            Err(format!("`{name}` has {what} {one} and {other}; expected the same"))
        };
        let checked = |sides: (Option<usize>, Option<usize>)| match sides {
            (Some(rows), Some(inner)) => Ok(Some((rows, inner))),
            _ => Err(format!("`{name}` would change more numbers than there can be")),
        };
        match self.kind {
            Kind::LowRank => {
                if self.shape(Part::Up).len() < 2 || self.shape(Part::Down).len() < 2 {
                    return Err(format!("`{name}` has factors that are no matrices"));
                }
                let (up, down) = (self.rest(Part::Up, 1), self.side(Part::Down, 0));
                let kernel = match self.part(Part::Mid) {
                    None if up != down => return differ("`up` and `down` of the ranks", up, down),
                    None => 1,
                    Some(mid) => {
                        let (first, second) = (self.side(Part::Mid, 0), self.side(Part::Mid, 1));
                        if mid.shape.len() != 4 {
                            return Err(format!(
                                "`{name}` has a middle of {:?} sides; expected four",
                                mid.shape
                            ));
                        }
                        if first != up {
                            return differ("`up` and the middle of the ranks", up, first);
                        }
                        if second != down {
                            return differ("`down` and the middle of the ranks", down, second);
                        }
                        self.rest(Part::Mid, 2)
                    }
                };
                checked((Some(self.side(Part::Up, 0)), self.rest(Part::Down, 1).checked_mul(kernel)))
            }
            Kind::Hada => {
                for (a, b, t) in [
                    (Part::HadaW1A, Part::HadaW1B, Part::HadaT1),
                    (Part::HadaW2A, Part::HadaW2B, Part::HadaT2),
                ] {
                    let of_a = if self.part(t).is_some() { self.side(a, 0) } else { self.side(a, 1) };
                    if self.part(t).is_some() {
                        if self.shape(t).len() != 4
                            || self.side(t, 0) != of_a
                            || self.side(t, 1) != self.side(b, 0)
                        {
                            return Err(format!(
                                "`{name}` has a middle of {:?}, which its factors do not fit",
                                self.shape(t)
                            ));
                        }
                    } else if of_a != self.side(b, 0) {
                        return differ("factors of the ranks", of_a, self.side(b, 0));
                    }
                    if self.shape(a).len() != 2 || self.shape(b).len() != 2 {
                        return Err(format!("`{name}` has factors that are no matrices"));
                    }
                }
                let (is_tucker, t) = (self.part(Part::HadaT1).is_some(), Part::HadaT1);
                let row = usize::from(is_tucker);
                let kernel = if is_tucker { self.rest(t, 2) } else { 1 };
                let [one, other] = [(Part::HadaW1A, Part::HadaW1B), (Part::HadaW2A, Part::HadaW2B)]
                    .map(|(a, b)| (self.side(a, row), self.side(b, 1)));
                if one != other || (is_tucker && self.shape(t)[2..] != self.shape(Part::HadaT2)[2..]) {
                    return Err(format!("`{name}` has factors of {one:?} and {other:?}; expected the same"));
                }
                checked((Some(one.0), one.1.checked_mul(kernel)))
            }
            Kind::Kron => {
                let matrices = [Part::KronW1, Part::KronW1A, Part::KronW1B, Part::KronW2A, Part::KronW2B];
                if matrices.iter().any(|part| self.part(*part).is_some_and(|tensor| tensor.shape.len() != 2))
                {
                    return Err(format!("`{name}` has factors that are no matrices"));
                }
                let first = match self.part(Part::KronW1) {
                    Some(_) => (self.side(Part::KronW1, 0), self.side(Part::KronW1, 1)),
                    None if self.side(Part::KronW1A, 1) != self.side(Part::KronW1B, 0) => {
                        return differ(
                            "factors of the ranks",
                            self.side(Part::KronW1A, 1),
                            self.side(Part::KronW1B, 0),
                        );
                    }
                    None => (self.side(Part::KronW1A, 0), self.side(Part::KronW1B, 1)),
                };
                let second = match (self.part(Part::KronW2), self.part(Part::KronT2)) {
                    (Some(_), _) => (self.side(Part::KronW2, 0), self.rest(Part::KronW2, 1)),
                    (None, Some(t)) => {
                        if t.shape.len() != 4
                            || t.shape[0] != self.side(Part::KronW2A, 0)
                            || t.shape[1] != self.side(Part::KronW2B, 0)
                        {
                            return Err(format!(
                                "`{name}` has a middle of {:?}, which its factors do not fit",
                                t.shape
                            ));
                        }
                        (
                            self.side(Part::KronW2A, 1),
                            self.side(Part::KronW2B, 1).saturating_mul(t.shape[2] * t.shape[3]),
                        )
                    }
                    (None, None) if self.side(Part::KronW2A, 1) != self.side(Part::KronW2B, 0) => {
                        return differ(
                            "factors of the ranks",
                            self.side(Part::KronW2A, 1),
                            self.side(Part::KronW2B, 0),
                        );
                    }
                    (None, None) => (self.side(Part::KronW2A, 0), self.side(Part::KronW2B, 1)),
                };
                checked((first.0.checked_mul(second.0), first.1.checked_mul(second.1)))
            }
            Kind::Orthogonal => match self.shape(Part::OftBlocks) {
                [_, one, other] if one == other => Ok(None),
                [_, _, _] => Err(format!("`{name}` has blocks that are not square")),
                shape => Err(format!(
                    "`{name}` has blocks of {shape:?}, as BOFT has; expected OFT, with three sides"
                )),
            },
            Kind::Set => Ok(Some((self.side(Part::Set, 0), self.rest(Part::Set, 1)))),
            Kind::Diff => Ok(Some((self.side(Part::Diff, 0), self.rest(Part::Diff, 1)))),
            Kind::Factors | Kind::Bias => Ok(None),
        }
    }

    /// Checks that the change fits a module of a model.
    pub(super) fn check(&self, target: &Target) -> Result<(), String> {
        let name = shown(&self.name);
        let rows = target.shape.first().copied().unwrap_or(0);
        let inner = target.shape.iter().skip(1).product::<usize>();
        let misfit = |found: String| {
            format!("`{name}` changes {found}, and the model's `{}` is {:?}", target.name, target.shape)
        };
        if let Some((of_rows, of_inner)) = self.sides()?
            && (of_rows, of_inner) != (rows, inner)
        {
            return Err(misfit(format!("a weight of {of_rows} rows of {of_inner}")));
        }
        let numel = |part| self.rest(part, 0);
        match self.kind {
            Kind::Orthogonal => {
                let blocks = self.side(Part::OftBlocks, 0).checked_mul(self.side(Part::OftBlocks, 1));
                if blocks != Some(rows) {
                    return Err(misfit(format!("{} rows", blocks.unwrap_or(0))));
                }
                if self.part(Part::Rescale).is_some() && ![1, rows].contains(&numel(Part::Rescale)) {
                    return Err(misfit(format!("{} rows by a factor", numel(Part::Rescale))));
                }
            }
            Kind::Factors => {
                let columns = target.shape.get(1).copied().unwrap_or(0);
                let expected = if self.on_input() { columns } else { rows };
                if numel(Part::Factor) != expected || (self.on_input() && target.shape.len() < 2) {
                    return Err(misfit(format!("{} rows or columns", numel(Part::Factor))));
                }
            }
            _ => {}
        }
        if self.part(Part::Bias).is_some() {
            if !target.has_bias {
                return Err(format!("`{name}` changes a bias, and the model's `{}` has none", target.name));
            }
            if numel(Part::Bias) != rows {
                return Err(misfit(format!("a bias of {}", numel(Part::Bias))));
            }
        }
        let columns = target.shape.get(1).copied().unwrap_or(0);
        let dora = self.part(Part::DoraScale).or(self.part(Part::Magnitude));
        if dora.is_some_and(|dora| ![rows, columns].contains(&dora.shape.iter().product())) {
            return Err(misfit(format!("{:?} lengths", dora.map(|dora| &dora.shape))));
        }
        Ok(())
    }

    /// `true` for factors of columns.
    pub(crate) fn on_input(&self) -> bool {
        // The number was read when the file was opened.
        self.alpha == Some(1.0)
    }
}
