use proptest::prelude::*;
use serde::Deserialize;

use super::chunks::{Chunk, TokenPart, lay};
use super::*;

/// `tests/fixtures/prompts/make_prompts.py` made them.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    prompt: String,
    syntax: PromptSyntax,
    /// `None` ends a chunk.
    parts: Vec<Option<(String, f64)>>,
}

fn text(text: &str, weight: f64) -> Part {
    Part::Text { text: text.into(), weight }
}

fn a1111(prompt: &str) -> Vec<Part> {
    parse(prompt, PromptSyntax::A1111).unwrap()
}

fn comfyui(prompt: &str) -> Vec<Part> {
    parse(prompt, PromptSyntax::Comfyui).unwrap()
}

#[test]
fn prompts_are_read_as_the_references_read_them() {
    let golden: Golden =
        serde_json::from_str(include_str!("../../../tests/fixtures/prompts/prompts.json")).unwrap();
    assert!(golden.cases.len() > 30);
    for Case { prompt, syntax, parts } in golden.cases {
        let expected: Vec<Part> = parts
            .into_iter()
            .map(|part| part.map_or(Part::Break, |(words, weight)| text(&words, weight)))
            .collect();
        assert_eq!(parse(&prompt, syntax).unwrap(), expected, "{syntax}: {prompt:?}");
    }
}

#[test]
fn the_web_uis_own_example_is_read_as_it_says() {
    let parts = a1111("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).");
    let expected = [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ];
    assert_eq!(parts.len(), expected.len());
    for (part, (words, weight)) in parts.iter().zip(expected) {
        let Part::Text { text, weight: ours } = part else { panic!("{part:?}") };
        assert!(text == words && (ours - weight).abs() < 1e-12, "{part:?} is not {words:?} {weight}");
    }
    assert_eq!(a1111("(unnecessary)(parens)"), [text("unnecessaryparens", 1.1)]);
    assert_eq!(a1111("\\(literal\\]"), [text("(literal]", 1.0)]);
}

#[test]
fn a_bracket_without_its_partner_is_no_error() {
    assert_eq!(comfyui("a (key"), [text("a ", 1.0), text("(key", 1.0)]);
    assert_eq!(comfyui("a) (key)"), [text("a) (key)", 1.0)]);
    assert_eq!(a1111("a (key"), [text("a ", 1.0), text("key", 1.1)]);
    assert_eq!(a1111("a] key)"), [text("a] key)", 1.0)]);
}

#[test]
fn break_ends_a_chunk_only_where_it_is_a_word() {
    assert_eq!(comfyui("a BREAK b"), [text("a", 1.0), Part::Break, text("b", 1.0)]);
    assert_eq!(comfyui("aBREAK BREAKs break"), [text("aBREAK BREAKs break", 1.0)]);
    let weighed = [text("a", 1.2), Part::Break, text("b", 1.2)];
    assert_eq!((comfyui("(a BREAK b:1.2)"), a1111("(a BREAK b:1.2)")), (weighed.to_vec(), weighed.to_vec()));
}

#[test]
fn a_weight_out_of_range_is_refused_with_the_words_that_have_it() {
    let error = |prompt: &str, syntax| parse(prompt, syntax).unwrap_err().to_string();
    for syntax in [PromptSyntax::Comfyui, PromptSyntax::A1111] {
        assert_eq!(error("a (key:11)", syntax), "gives `key` the weight 11; expected -10 to 10", "{syntax}");
        let deep = "(".repeat(30) + "key" + &")".repeat(30);
        assert!(error(&deep, syntax).starts_with("gives `key` the weight 17.4"), "{syntax}");
        let deeper = "(".repeat(100_000) + &")".repeat(100_000);
        assert!(error(&deeper, syntax).starts_with("has brackets nested 65 deep"), "{syntax}");
    }
    for weight in ["1e9", "inf", "nan", "-1e300"] {
        assert!(parse(&format!("(key:{weight})"), PromptSyntax::Comfyui).is_err(), "{weight}");
    }
    assert!(parse("(key:1e9)", PromptSyntax::Plain).is_ok());
}

#[test]
fn chunks_hold_as_many_ids_as_there_is_room() {
    let part = |ids: std::ops::Range<u32>| TokenPart::Text { ids: ids.collect(), weight: 1.0 };
    let ids = |parts: &[TokenPart], syntax| -> Vec<Vec<u32>> {
        lay(parts, 10, Some(3), syntax).into_iter().map(|Chunk { ids, .. }| ids).collect()
    };
    // A short part goes whole into the next chunk, and a long one is cut.
    let short = [part(10..17), part(20..25)];
    let whole = [(10..17).collect::<Vec<_>>(), (20..25).collect()];
    assert_eq!(ids(&short, PromptSyntax::Comfyui), whole);
    let long = [part(10..17), part(20..29)];
    let cut = [(10..17).chain(20..23).collect::<Vec<_>>(), (23..29).collect()];
    assert_eq!(ids(&long, PromptSyntax::Comfyui), cut);
    // The web UI goes back to a comma, here id 3.
    assert_eq!(ids(&[part(0..12)], PromptSyntax::A1111), [vec![0, 1, 2, 3], (4..12).collect()]);
    // A part that is short and longer than a chunk is cut too.
    let tiny = lay(&[part(0..7)], 3, None, PromptSyntax::Comfyui);
    assert_eq!(tiny.iter().map(|chunk| chunk.ids.len()).collect::<Vec<_>>(), [3, 3, 1]);
    // Empty chunks: between two ends there is one, after the last there is none.
    let ends = [TokenPart::Break, TokenPart::Break, part(0..2), TokenPart::Break];
    assert_eq!(ids(&ends, PromptSyntax::Comfyui), [vec![], vec![], vec![0, 1]]);
    assert_eq!(ids(&[], PromptSyntax::Comfyui), [Vec::<u32>::new()]);
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_no_letter_is_lost(prompt in "[a-z()\\[\\]:\\\\0-9. BREAK]{0,60}") {
        for syntax in PromptSyntax::ALL {
            let Ok(parts) = parse(&prompt, syntax) else { continue };
            let words: String = parts.iter().map(|part| match part {
                Part::Text { text, .. } => text.as_str(),
                Part::Break => "BREAK",
            }).collect();
            let letters = |text: &str| text.chars().filter(|char| char.is_alphabetic()).collect::<String>();
            prop_assert_eq!(letters(&words), letters(&prompt), "{}", syntax);
        }
    }

    #[test]
    fn chunks_hold_every_id_once_and_in_order(
        lengths in prop::collection::vec(prop::option::of(0usize..40), 0..12), room in 1usize..40,
    ) {
        let mut next = 0u32;
        let parts: Vec<TokenPart> = lengths.iter().map(|length| match length {
            Some(length) => {
                let ids = (next..next + *length as u32).collect();
                next += *length as u32;
                TokenPart::Text { ids, weight: 1.5 }
            }
            None => TokenPart::Break,
        }).collect();
        for syntax in [PromptSyntax::Comfyui, PromptSyntax::A1111] {
            let chunks = lay(&parts, room, Some(7), syntax);
            let fits = |chunk: &Chunk| chunk.ids.len() <= room && chunk.ids.len() == chunk.weights.len();
            prop_assert!(chunks.iter().all(fits));
            let ids: Vec<u32> = chunks.into_iter().flat_map(|chunk| chunk.ids).collect();
            prop_assert_eq!(ids, (0..next).collect::<Vec<_>>());
        }
    }
}
