//! Quotas, removing and cleaning.

use super::*;

#[test]
fn a_full_library_says_so_until_something_is_removed() {
    let root = folder();
    let library = Library::open(&root, Quota { max_assets: Some(2), max_bytes: None }).unwrap();
    make(&library, "key");
    let reserved = library.reserve(&name("map")).unwrap();
    let error = library.reserve(&name("sword")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LibraryFull);
    assert!(
        error.to_string().ends_with(
            "is full: 1 assets and 1 under way, and 2 assets may be kept; remove what is not needed any more, or allow more"
        ),
        "{error}"
    );
    drop(reserved);
    drop(library.reserve(&name("sword")).unwrap());

    let library = Library::open(&root, Quota { max_assets: None, max_bytes: Some(10) }).unwrap();
    let error = library.reserve(&name("sword")).unwrap_err().to_string();
    assert!(error.contains(" B in 1 assets, and 10 B may be kept"), "{error}");
    library.remove(&id("key")).unwrap();
    drop(library.reserve(&name("sword")).unwrap());
}

#[test]
fn removing_takes_all_of_an_asset_and_nothing_of_others() {
    let root = folder();
    let library = open(&root);
    let asset = make(&library, "key");
    let work = root.path().join("key/key.aseprite");
    fs::write(&work, "all my work").unwrap();
    let error = library.remove(&asset.id).unwrap_err().to_string();
    assert!(error.contains("key.aseprite` is not the library's own"), "{error}");
    let cleaned = library.clean(Clean { keep_newest: Some(0), ..Default::default() }).unwrap();
    assert_eq!((cleaned.removed.len(), cleaned.kept.len()), (0, 1));
    assert!(library.get(&asset.id).is_ok());
    fs::remove_file(work).unwrap();
    library.remove(&asset.id).unwrap();
    assert!(!root.path().join("key").exists());
    assert_eq!(fs::read_dir(root.path().join(".trash")).unwrap().count(), 0);
    assert!(matches!(library.remove(&asset.id), Err(Error::NoAsset { .. })));
    assert!(matches!(library.get(&asset.id), Err(Error::NoAsset { .. })));
}

#[test]
fn cleaning_removes_what_all_conditions_say_and_a_dry_run_nothing() {
    let root = folder();
    let library = open(&root);
    let assets: Vec<_> = (0..6).map(|_| make(&library, "key")).collect();
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    for (n, asset) in (0..).zip(&assets[..5]) {
        created(&root, asset, now - hour * n - hour / 2);
    }
    created(&root, &assets[5], now + hour * 100);
    let library = open(&root);
    assert_eq!(library.clean(Clean::default()).unwrap(), Cleaned::default());
    let clean = |older_than: Option<u32>, keep_newest, dry_run| {
        let clean = Clean { older_than: older_than.map(|hours| hour * hours), keep_newest, dry_run };
        let cleaned = library.clean(clean).unwrap();
        assert_eq!(cleaned.bytes, assets[0].bytes * cleaned.removed.len() as u64);
        cleaned.removed.iter().map(AssetId::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(clean(Some(3), None, true), "key-4 key-5");
    assert_eq!(
        clean(Some(0), None, true),
        "key key-2 key-3 key-4 key-5",
        "what comes from the future is not old"
    );
    assert_eq!(clean(None, Some(4), true), "key-4 key-5");
    assert_eq!(all(&library).len(), 6);
    assert_eq!(clean(Some(1), Some(4), false), "key-4 key-5");
    assert_eq!(clean(Some(1), Some(4), false), "");
    assert_eq!(all(&library), ["key-6", "key", "key-2", "key-3"]);
    assert_eq!(library.usage().unwrap().bytes, assets[0].bytes * 4);
}
