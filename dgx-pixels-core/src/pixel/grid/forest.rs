//! Boosted trees that turn the evidence for a grid into a confidence.
//!
//! They are fitted by `benches/pixel_bench/fit.py`, which writes them as text: a line with the bias
//! and the two numbers that calibrate their sum, then a tree a line, in the order of a walk that
//! turns left first. The values are those of `Evidence`, by their number. `12<0.5` asks whether
//! value 12 is at most 0.5; a lone number ends a branch.
//!
//! There are four forests. One judges the grid that is looked at first, by its own measures alone:
//! where it is sure, no other grid is measured. One judges by the same measures whether the picture
//! has any grid: where it surely has none, no other grid is measured either. One judges all
//! candidates of a picture, by how they compare too. The last one judges by the likeliest candidate
//! whether the picture has any grid.
//!
//! The sums are calibrated on kinds of pictures that the trees had not seen, so the confidence is
//! the share of right answers that a new kind may expect.

use std::sync::LazyLock;

/// A number of trees, and what their sum means.
#[derive(Debug)]
pub(super) struct Forest {
    /// The sum of no trees.
    bias: f64,
    /// The factor that calibrates the sum.
    slope: f64,
    /// The number that is added to the calibrated sum.
    shift: f64,
    /// The nodes of each tree, in the order of a walk that turns left first.
    trees: Vec<Vec<Node>>,
}

/// A place in a tree: a question, or the answer at the end of a branch.
#[derive(Debug)]
enum Node {
    /// The next node if the value is at most the threshold, else the one at `above`.
    Split { value: usize, threshold: f64, above: usize },
    /// The end of a branch, and what it adds to the sum.
    Leaf(f64),
}

/// The forest for a grid that is compared with all others of its picture.
pub(super) static ALL: LazyLock<Forest> = LazyLock::new(|| Forest::built_in(include_str!("all.forest")));
/// The forest for whether a picture has any grid, judged by its likeliest one.
pub(super) static ANY: LazyLock<Forest> = LazyLock::new(|| Forest::built_in(include_str!("any.forest")));
/// The forest for the grid that is looked at first.
pub(super) static FIRST: LazyLock<Forest> = LazyLock::new(|| Forest::built_in(include_str!("first.forest")));
/// The forest for whether a picture has any grid, judged by the one that is looked at first.
pub(super) static NONE: LazyLock<Forest> = LazyLock::new(|| Forest::built_in(include_str!("none.forest")));

impl Forest {
    /// Reads a forest of this library's own.
    ///
    /// # Panics
    /// If the text is no forest, which the tests rule out.
    fn built_in(text: &str) -> Forest {
        Forest::parse(text).expect("a built-in forest does not parse; this is a bug")
    }

    /// Reads a forest; `None` if the text is none.
    fn parse(text: &str) -> Option<Forest> {
        let mut lines = text.lines();
        let mut head = lines.next()?.split(' ').map(str::parse);
        let mut number = || head.next()?.ok();
        let (bias, slope, shift) = (number()?, number()?, number()?);
        let tree = |line: &str| {
            let mut words = line.split(' ');
            let mut nodes = vec![];
            branch(&mut words, &mut nodes)?;
            words.next().is_none().then_some(nodes)
        };
        Some(Forest { bias, slope, shift, trees: lines.map(tree).collect::<Option<_>>()? })
    }

    /// The share of grids with such values that were right.
    pub(super) fn confidence(&self, values: &[f64]) -> f64 {
        let leaf = |nodes: &[Node]| {
            let mut at = 0;
            loop {
                match nodes[at] {
                    Node::Split { value, threshold, .. } if values[value] <= threshold => at += 1,
                    Node::Split { above, .. } => at = above,
                    Node::Leaf(gain) => return gain,
                }
            }
        };
        let sum = self.bias + self.trees.iter().map(|nodes| leaf(nodes)).sum::<f64>();
        1.0 / (1.0 + (-(self.slope * sum + self.shift)).exp())
    }
}

/// Reads one branch of a tree, and the branches below it.
fn branch<'a>(words: &mut impl Iterator<Item = &'a str>, nodes: &mut Vec<Node>) -> Option<()> {
    let word = words.next()?;
    let Some((value, threshold)) = word.split_once('<') else {
        nodes.push(Node::Leaf(word.parse().ok()?));
        return Some(());
    };
    let (value, threshold) = (value.parse().ok()?, threshold.parse().ok()?);
    let at = nodes.len();
    nodes.push(Node::Split { value, threshold, above: 0 });
    branch(words, nodes)?;
    nodes[at] = Node::Split { value, threshold, above: nodes.len() };
    branch(words, nodes)
}

#[cfg(test)]
mod tests {
    use super::super::Evidence;
    use super::*;

    #[test]
    fn a_tree_turns_left_up_to_its_threshold() {
        let forest = Forest::parse("-1 2 0.5\n0<0.5 -1 1<2 0 3\n1<0 1 0").unwrap();
        let of = |sum: f64| 1.0 / (1.0 + (-(2.0 * sum + 0.5)).exp());
        for (values, sum) in [([0.5, 9.0], -2.0), ([0.6, 2.0], -1.0), ([0.6, 3.0], 2.0), ([0.0, -1.0], -1.0)]
        {
            assert_eq!(forest.confidence(&values), of(sum), "{values:?}");
        }
    }

    #[test]
    fn text_that_is_no_forest_is_none() {
        for text in ["", "1 2", "1 2 3\n0<1 2", "1 2 3\n4 5", "1 2 3\nx"] {
            assert!(Forest::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_built_in_forests_ask_for_values_that_exist() {
        let (all, alone) = (Evidence::COUNT, Evidence::ALONE);
        for (forest, count) in [(&*ALL, all), (&*ANY, all + 2), (&*FIRST, alone), (&*NONE, alone)] {
            assert!(!forest.trees.is_empty());
            for node in forest.trees.iter().flatten() {
                assert!(!matches!(node, Node::Split { value, .. } if *value >= count), "{node:?}");
            }
        }
    }
}
