//! Assets that are added.

use super::*;

#[test]
fn an_asset_says_what_its_file_says_and_is_there_after_a_restart() {
    let root = folder();
    let library = open(&root);
    let reserved = library.reserve(&name("key")).unwrap();
    assert_eq!(reserved.png(), library.root().join("key/key.png"));
    draw(&reserved.png(), "a brass key");
    let notes = BTreeMap::from([("style".into(), "8bit".into())]);
    let asset = library.add(&reserved.keep(), Some(Verdict::Grid), notes.clone()).unwrap();
    let bytes = fs::read(root.path().join("key/key.png")).unwrap();
    assert_eq!(asset.blake3, blake3::hash(&bytes).to_hex().to_string());
    assert_eq!((asset.bytes, asset.width, asset.height, asset.colors), (bytes.len() as u64, 16, 8, 3));
    assert_eq!(asset.certificate, Some(Certificate::of(&sprite(), None, Wrap::default())));
    assert_eq!((asset.made.as_ref(), asset.verdict), (Some(&made("a brass key")), Some(Verdict::Grid)));
    assert_eq!((asset.file.as_str(), &asset.notes), ("key.png", &notes));
    for library in [library, open(&root)] {
        assert_eq!(library.get(&asset.id).unwrap(), asset);
        assert_eq!(library.verify(&asset.id).unwrap(), asset);
        assert_eq!(library.read_png(&asset.id).unwrap(), bytes);
        assert_eq!(library.list(&Query::default()).unwrap().assets, std::slice::from_ref(&asset));
        assert_eq!(library.usage().unwrap(), Usage { assets: 1, unfinished: 0, bytes: asset.bytes });
    }
}

#[test]
fn adding_again_changes_nothing_and_new_notes_join() {
    let root = folder();
    let library = open(&root);
    let first = make(&library, "key");
    let record = root.path().join("key/key.asset.json");
    let text = fs::read(&record).unwrap();
    assert_eq!(library.add(&first.id, None, BTreeMap::new()).unwrap(), first);
    assert_eq!(fs::read(&record).unwrap(), text);
    let noted = library.add(&first.id, None, [("style".into(), "nes".into())].into()).unwrap();
    assert_eq!(noted.notes["style"], "nes");
    assert_eq!(Asset { notes: BTreeMap::new(), ..noted.clone() }, first);
    assert_eq!(library.add(&first.id, None, BTreeMap::new()).unwrap(), noted);
    assert_eq!(library.usage().unwrap().assets, 1);
}

#[test]
fn a_sprite_of_any_picture_is_an_asset_and_a_picture_of_others_is_not() {
    let root = folder();
    let library = open(&root);
    let reserved = library.reserve(&name("key")).unwrap();
    fs::write(reserved.png(), plain_png(&sprite()).unwrap()).unwrap();
    let add = || library.add(reserved.id(), None, BTreeMap::new());
    let error = add().unwrap_err();
    assert!(one_line(&error).contains("key.png` is no picture of ours: "), "{error}");
    fs::write(reserved.png(), "no picture").unwrap();
    assert_eq!(add().unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(reserved.png(), sprite_png(&sprite(), None).unwrap()).unwrap();
    assert_eq!(add().unwrap().made, None);
}

#[test]
fn what_is_not_there_is_not_added() {
    let root = folder();
    let library = open(&root);
    let error = library.add(&id("key"), None, BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), "there is no asset `key`; expected an id that a list of the library names");
    let reserved = library.reserve(&name("key")).unwrap();
    let error = library.add(reserved.id(), None, BTreeMap::new()).unwrap_err();
    assert!(error.to_string().ends_with("key.png` is not there"), "{error}");
    assert!(matches!(library.get(reserved.id()), Err(Error::NoAsset { .. })));
}

#[test]
fn a_reservation_that_is_dropped_gives_its_id_back_and_a_kept_one_does_not() {
    let root = folder();
    let library = open(&root);
    drop(library.reserve(&name("key")).unwrap());
    assert!(!root.path().join("key").exists());
    let kept = library.reserve(&name("key")).unwrap().keep();
    assert_eq!((kept.as_str(), library.usage().unwrap().unfinished), ("key", 1));
    assert_eq!(library.reserve(&name("key")).unwrap().id().as_str(), "key-2");
    // As an engine leaves it that failed between the two files.
    fs::write(sidecar(&library.path(&kept)), "{}").unwrap();
    library.discard(&kept).unwrap();
    library.discard(&kept).unwrap();
    assert!(!root.path().join("key").exists());
    assert_eq!(library.usage().unwrap(), Usage::default());
}

#[test]
fn discarding_keeps_a_picture_that_came_too_soon() {
    let root = folder();
    let library = open(&root);
    let kept = library.reserve(&name("key")).unwrap().keep();
    draw(&library.path(&kept), "a brass key");
    library.discard(&kept).unwrap();
    assert!(library.path(&kept).exists() && sidecar(&library.path(&kept)).exists());
    let asset = library.add(&kept, None, BTreeMap::new()).unwrap();
    library.discard(&kept).unwrap();
    assert_eq!(library.get(&kept).unwrap(), asset);
}
