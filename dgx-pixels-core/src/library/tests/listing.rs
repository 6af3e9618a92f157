//! Lists and their pages.

use super::*;

#[test]
fn a_list_is_of_what_was_asked_for() {
    let root = folder();
    let library = open(&root);
    for called in ["brass-key", "green-slime", "brass-lamp"] {
        make(&library, called);
    }
    library.add(&id("green-slime"), None, [("style".into(), "Game Boy".into())].into()).unwrap();
    let list = |query: Query| {
        let page = library.list(&query).unwrap();
        assert_eq!(page.next, None);
        ids(&page).join(" ")
    };
    assert_eq!(list(Query::default()), "brass-lamp green-slime brass-key");
    assert_eq!(list(Query { prefix: Some("brass-".into()), ..Default::default() }), "brass-lamp brass-key");
    assert_eq!(list(Query { text: Some("SLIME".into()), ..Default::default() }), "green-slime");
    assert_eq!(list(Query { text: Some("game boy".into()), ..Default::default() }), "green-slime");
    assert_eq!(list(Query { model: Some("other".into()), ..Default::default() }), "");
    let both = Query { model: Some("sketch".into()), text: Some("key".into()), ..Default::default() };
    assert_eq!(list(both), "brass-key");
    for limit in [0, 1001] {
        let error = library.list(&Query { limit, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), format!("`limit` is `{limit}`; expected 1 to 1000"));
    }
}

#[test]
fn pages_end_where_the_assets_do() {
    let root = folder();
    let library = open(&root);
    for _ in 0..4 {
        make(&library, "key");
    }
    let first = library.list(&Query { limit: 2, ..Default::default() }).unwrap();
    assert_eq!(ids(&first), ["key-4", "key-3"]);
    let second = library.list(&Query { limit: 2, after: first.next, ..Default::default() }).unwrap();
    assert_eq!(ids(&second), ["key-2", "key"]);
    assert_eq!(second.next, None);
}

#[derive(Clone, Debug)]
enum Between {
    Add { created_seconds: u64 },
    Remove(usize),
    Delete(usize),
}

fn between() -> impl Strategy<Value = Vec<Between>> {
    let one = prop_oneof![
        (0..9_u64).prop_map(|created_seconds| Between::Add { created_seconds }),
        (0..40_usize).prop_map(Between::Remove),
        (0..40_usize).prop_map(Between::Delete),
    ];
    prop::collection::vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Assets get times at random, many the same, as from clocks that are set back and forth.
    #[test]
    fn no_asset_that_is_there_throughout_is_missed_or_doubled(
        times in prop::collection::vec(0..9_u64, 1..20),
        changes in prop::collection::vec(between(), 20),
        limit in 1..6_usize,
    ) {
        let root = folder();
        let made_at = |library: &Library, seconds| {
            let asset = make(library, "key");
            created(&root, &asset, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            library.get(&asset.id).unwrap().id
        };
        let (here, there) = (open(&root), open(&root));
        let mut throughout: Vec<_> = times.iter().map(|seconds| made_at(&there, *seconds)).collect();
        let mut seen = Vec::new();
        let mut query = Query { limit, ..Default::default() };
        for changes in changes.iter().chain(std::iter::repeat(&vec![])) {
            let page = here.list(&query).unwrap();
            seen.extend(page.assets.into_iter().map(|asset| asset.id));
            for change in changes {
                match change {
                    Between::Add { created_seconds } => {
                        made_at(&there, *created_seconds);
                    }
                    Between::Remove(n) if *n < throughout.len() => {
                        there.remove(&throughout.remove(*n)).unwrap();
                    }
                    Between::Delete(n) if *n < throughout.len() => {
                        fs::remove_file(there.path(&throughout.remove(*n))).unwrap();
                    }
                    _ => {}
                }
            }
            let Some(next) = page.next else { break };
            query.after = Some(next.to_string().parse().unwrap());
        }
        for id in &throughout {
            prop_assert_eq!(seen.iter().filter(|seen| *seen == id).count(), 1, "{}", id);
        }
    }
}
