//! Files that are missing, damaged, or not what they claim.

use super::*;

#[test]
fn a_picture_without_a_record_is_recorded_at_the_next_start() {
    let root = folder();
    let library = open(&root);
    let kept = library.reserve(&name("key")).unwrap().keep();
    draw(&library.path(&kept), "a brass key");
    let asset = open(&root).get(&kept).unwrap();
    assert_eq!(asset.made, Some(made("a brass key")));
    assert!(asset.certificate.is_some());
    assert_eq!(asset.created, asset.modified);
    // Whoever made it adds it later all the same.
    let added = library.add(&kept, Some(Verdict::Grid), [("style".into(), "nes".into())].into()).unwrap();
    assert_eq!((added.verdict, added.notes.len(), added.created), (Some(Verdict::Grid), 1, asset.created));
}

#[test]
fn abandoned_folders_go_after_a_day_and_no_other() {
    let root = folder();
    let library = open(&root);
    let old = library.reserve(&name("old")).unwrap().keep();
    fs::write(sidecar(&library.path(&old)), "{}").unwrap();
    fs::write(library.path(&old).with_file_name(".dgx-pixels-x"), "half a pict").unwrap();
    let young = library.reserve(&name("young")).unwrap().keep();
    let foreign = root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "all my work").unwrap();
    let future = root.path().join("future");
    fs::create_dir(&future).unwrap();
    let left = root.path().join(".dgx-pixels-left");
    fs::write(&left, "{").unwrap();
    for path in [&root.path().join("old"), &foreign, &left] {
        age(path, DAYS);
    }
    File::open(&future).unwrap().set_modified(SystemTime::now() + DAYS).unwrap();
    open(&root);
    assert!(!root.path().join("old").exists() && !left.exists());
    assert!(library.path(&young).parent().unwrap().exists());
    assert!(foreign.join("thesis.txt").exists() && future.exists());
}

#[test]
fn a_damaged_record_is_made_anew_and_the_old_one_kept() {
    let root = folder();
    let asset = make(&open(&root), "key");
    let record = root.path().join("key/key.asset.json");
    let text = fs::read_to_string(&record).unwrap();
    let other_id = text.replace("\"id\": \"key\"", "\"id\": \"../key\"");
    let out_of_range = text.replace("\"guidance_rescale\": 0.0", "\"guidance_rescale\": 9.5");
    assert_ne!(out_of_range, text);
    for damage in ["", "{", "null", &text[..text.len() / 2], &other_id, &out_of_range] {
        fs::write(&record, damage).unwrap();
        let mended = open(&root).get(&asset.id).unwrap();
        let expected = Asset { created: asset.modified, verdict: None, ..asset.clone() };
        assert_eq!(mended, expected, "{damage}");
        assert_eq!(fs::read_to_string(record.with_extension("json.damaged")).unwrap(), damage);
    }
}

#[test]
fn a_record_of_a_newer_version_is_named_and_left_alone() {
    let root = folder();
    let asset = make(&open(&root), "key");
    let record = root.path().join("key/key.asset.json");
    let same_fields = fs::read_to_string(&record).unwrap().replace("version\": 1", "version\": 3");
    for newer in [&same_fields, "{\"format_version\": 3}"] {
        fs::write(&record, newer).unwrap();
        let library = open(&root);
        let errors = [library.get(&asset.id), library.add(&asset.id, None, BTreeMap::new())];
        for error in errors.map(Result::unwrap_err) {
            assert!(error.to_string().ends_with("at most 2: a newer program wrote it"), "{error}");
        }
        assert_eq!(fs::read_to_string(&record).unwrap(), newer);
        assert_eq!(library.usage().unwrap().unfinished, 1);
    }
}

#[test]
fn a_damaged_record_without_a_picture_is_named() {
    let root = folder();
    let asset = make(&open(&root), "key");
    fs::remove_file(root.path().join("key/key.png")).unwrap();
    let record = root.path().join("key/key.asset.json");
    fs::write(&record, "{").unwrap();
    age(&root.path().join("key"), DAYS);
    let library = open(&root);
    let error = one_line(&library.get(&asset.id).unwrap_err());
    assert!(error.contains("key.asset.json` is no record of an asset: "), "{error}");
    assert!(record.exists());
    library.remove(&asset.id).unwrap();
    assert_eq!(library.usage().unwrap(), Usage::default());
}

#[test]
fn a_picture_that_was_deleted_or_changed_is_not_reported() {
    let root = folder();
    let library = open(&root);
    let asset = make(&library, "key");
    let png = library.path(&asset.id);
    let bytes = fs::read(&png).unwrap();
    let fails = |words: &str| {
        for library in [&library, &open(&root)] {
            let error = library.get(&asset.id).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(words), "{error}");
            assert!(library.read_png(&asset.id).is_err() && library.verify(&asset.id).is_err());
            assert!(all(library).is_empty());
        }
    };
    // 1. deleted
    fs::remove_file(&png).unwrap();
    fails("`key` cannot be used: `");
    fails("key.png` was deleted; put it back, or remove the asset");
    // 2. of another length, or of the same
    fs::write(&png, &bytes[1..]).unwrap();
    fails("was changed since it was recorded");
    let mut other = bytes.clone();
    other[100] ^= 1;
    fs::write(&png, &other).unwrap();
    fails("was changed since it was recorded");
    // 3. something else in its place
    fs::remove_file(&png).unwrap();
    let elsewhere = root.path().join("elsewhere.png");
    fs::write(&elsewhere, &bytes).unwrap();
    symlink(&elsewhere, &png).unwrap();
    fails("is no plain file any more");
    fs::remove_file(&png).unwrap();
    fs::create_dir(&png).unwrap();
    fails("is no plain file any more");
    // 4. back again, at another time
    fs::remove_dir(&png).unwrap();
    fs::write(&png, &bytes).unwrap();
    assert_eq!(library.get(&asset.id).unwrap(), asset);
    assert_eq!(all(&library), ["key"]);
    // 5. changed behind its time: only what reads it can know
    fs::write(&png, &other).unwrap();
    File::open(&png).unwrap().set_modified(asset.modified).unwrap();
    let again = open(&root);
    assert!(again.get(&asset.id).is_ok());
    assert!(again.verify(&asset.id).is_err() && again.read_png(&asset.id).is_err());
}

#[test]
fn links_are_neither_assets_nor_pictures() {
    let (root, outside) = (folder(), folder());
    make(&open(&outside), "key");
    symlink(outside.path().join("key"), root.path().join("key")).unwrap();
    let library = open(&root);
    assert!(all(&library).is_empty());
    for result in [library.get(&id("key")), library.add(&id("key"), None, BTreeMap::new())] {
        assert!(matches!(result, Err(Error::NoAsset { .. })));
    }
    assert!(matches!(library.remove(&id("key")), Err(Error::NoAsset { .. })));
    library.discard(&id("key")).unwrap();

    // A picture that is a link, and with it all that adding it would tell of what it leads to.
    let reserved = library.reserve(&name("key")).unwrap();
    assert_eq!(reserved.id().as_str(), "key-2");
    symlink(outside.path().join("key/key.png"), reserved.png()).unwrap();
    let error = library.add(reserved.id(), None, BTreeMap::new()).unwrap_err();
    assert!(one_line(&error).ends_with("key-2.png` cannot be read: it is a symbolic link"), "{error}");
    assert!(all(&open(&root)).is_empty());

    // A folder that becomes a link, and a trash that is one.
    let asset = make(&library, "map");
    fs::rename(root.path().join("map"), outside.path().join("map")).unwrap();
    symlink(outside.path().join("map"), root.path().join("map")).unwrap();
    assert!(matches!(library.get(&asset.id), Err(Error::NoAsset { .. })));
    let asset = make(&library, "sword");
    symlink(outside.path(), root.path().join(".trash")).unwrap();
    assert!(matches!(library.remove(&asset.id), Err(Error::Library { .. })));
    open(&root);
    assert!(outside.path().join("key/key.png").exists() && outside.path().join("map/map.png").exists());
    assert_eq!(all(&library), ["sword"]);
}

#[test]
fn a_pipe_in_the_place_of_a_file_holds_nobody_up() {
    let root = folder();
    let library = open(&root);
    let kept = library.reserve(&name("key")).unwrap().keep();
    let asset = make(&library, "map");
    fs::remove_file(root.path().join("map/map.asset.json")).unwrap();
    for path in [library.path(&kept), root.path().join("map/map.asset.json")] {
        pipe(&path);
    }
    assert!(
        one_line(&library.add(&kept, None, BTreeMap::new()).unwrap_err()).ends_with("it is no plain file")
    );
    assert!(one_line(&library.get(&asset.id).unwrap_err()).ends_with("it is no plain file"));
    assert_eq!(all(&open(&root)), ["map"], "the record is made anew");
}

fn pipe(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: it is given a text that ends.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Gives the asset another time of creation, as a clock that was set would have.
#[test]
fn a_record_that_claims_too_much_breaks_no_sum() {
    let root = folder();
    let library = open(&root);
    for asset in ["key", "map"].map(|called| make(&library, called)) {
        let record = root.path().join(format!("{0}/{0}.asset.json", asset.id));
        fs::write(record, Asset { bytes: u64::MAX, ..asset }.to_json()).unwrap();
    }
    let library = open(&root);
    assert_eq!(library.usage().unwrap().bytes, u64::MAX);
    assert_eq!(library.clean(Clean { keep_newest: Some(0), ..Default::default() }).unwrap().bytes, u64::MAX);
    assert_eq!(library.usage().unwrap(), Usage::default());
}

#[test]
fn files_that_are_huge_are_refused_at_once() {
    let root = folder();
    let library = open(&root);
    let asset = make(&library, "key");
    let picture = library.path(&asset.id);
    let record = picture.with_extension("asset.json");
    let whole = fs::read(&record).unwrap();
    File::create(&record).unwrap().set_len(1 << 40).unwrap();
    let error = one_line(&library.get(&asset.id).unwrap_err());
    assert!(error.contains("it has 1099511627776 bytes; expected at most 16777216"), "{error}");
    fs::write(&record, whole).unwrap();
    File::create(&picture).unwrap().set_len(1 << 40).unwrap();
    for error in [library.get(&asset.id).unwrap_err(), library.read_png(&asset.id).unwrap_err()] {
        assert!(one_line(&error).contains("it has 1099511627776 bytes"), "{error}");
    }
}
