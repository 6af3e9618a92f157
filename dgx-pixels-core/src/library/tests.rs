use std::collections::HashSet;
use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::thread;

use image::{Rgba, RgbaImage};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;
use crate::backend::{Backend as _, Sketch};
use crate::picture_file::{Made, plain_png, sidecar, sprite_png, write_sprite};
use crate::pixel::{Certificate, Wrap};
use crate::request::GenerateRequest;

const CHILD_ROOT: &str = "LIBRARY_TEST_ROOT";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(root: &TempDir) -> Library {
    Library::open(root, Quota::default()).unwrap()
}

fn name(text: &str) -> AssetName {
    text.parse().unwrap()
}

fn id(text: &str) -> AssetId {
    text.parse().unwrap()
}

fn made(prompt: &str) -> Made {
    let request = GenerateRequest { prompt: prompt.into(), seed: 7, ..Default::default() };
    Made {
        request: request.resolve(&Sketch.defaults()).unwrap(),
        pixel: None,
        model: "sketch".into(),
        model_hash: None,
        dtype: "f32".into(),
        device: "cpu".into(),
        vae_tiling: false,
        mode: None,
        program: "0.1.0".into(),
        libtorch: None,
        licence: None,
    }
}

fn sprite() -> RgbaImage {
    RgbaImage::from_fn(16, 8, |x, _| Rgba([200, 40, (x % 3) as u8, if x == 5 { 0 } else { 255 }]))
}

/// As an engine does.
fn draw(png: &Path, prompt: &str) {
    let bytes = sprite_png(&sprite(), Some(&made(prompt))).unwrap();
    write_sprite(png, &bytes, &Certificate::of(&sprite(), None, Wrap::default()), false).unwrap();
}

fn make(library: &Library, called: &str) -> Asset {
    let reserved = library.reserve(&name(called)).unwrap();
    draw(&reserved.png(), called);
    library.add(&reserved.keep(), Some(Verdict::Grid), BTreeMap::new()).unwrap()
}

fn ids(page: &Page) -> Vec<&str> {
    page.assets.iter().map(|asset| asset.id.as_str()).collect()
}

fn all(library: &Library) -> Vec<String> {
    let page = library.list(&Query { limit: MAX_LIMIT, ..Default::default() }).unwrap();
    ids(&page).into_iter().map(str::to_owned).collect()
}

fn age(path: &Path, age: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

const DAYS: Duration = Duration::from_secs(3 * 24 * 60 * 60);

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
    assert!(error.to_string().contains("key.png` is no picture of ours: "), "{error}");
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
    assert_eq!(
        error.to_string(),
        "`id` is `key`, and there is no such asset; expected one that a list of the library names"
    );
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

#[test]
fn many_threads_never_get_one_id_twice() {
    let root = folder();
    let libraries = [open(&root), open(&root)];
    let ids: HashSet<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|n| {
                let library = &libraries[n % 2];
                scope.spawn(move || library.reserve(&name("key")).unwrap().keep())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 64);
}

/// This test program again, running one test of this file in `root`.
fn child(test: &str, root: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("library::tests::{test}"), "--nocapture", "--ignored"]);
    command.env(CHILD_ROOT, root).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeds(mut child: Command) -> String {
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    text.into_owned()
}

#[test]
#[ignore = "half of `many_processes_never_get_one_id_twice`"]
fn reserves_fifty() {
    let Some(root) = env::var_os(CHILD_ROOT) else { return };
    let library = Library::open(&root, Quota::default()).unwrap();
    for _ in 0..50 {
        println!("\nreserved {}", library.reserve(&name("key")).unwrap().keep());
    }
}

#[test]
fn many_processes_never_get_one_id_twice() {
    let root = folder();
    let texts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| succeeds(child("reserves_fifty", root.path())))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("reserved "));
    assert_eq!(lines.collect::<HashSet<_>>().len(), 200);
}

#[test]
fn what_other_programs_add_and_remove_is_seen() {
    let root = folder();
    let (here, there) = (open(&root), open(&root));
    let mut changes = here.changes();
    let mut told = || pin!(changes.next()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(());
    assert!(!told());
    // Without a pause, so that many changes share one time of the file system.
    for n in 1..=50 {
        let asset = make(&there, "key");
        assert_eq!(all(&here).len(), n, "{}", asset.id);
        assert!(told() && !told());
        assert_eq!(here.get(&asset.id).unwrap(), asset);
    }
    let noted = there.add(&id("key-7"), None, [("style".into(), "nes".into())].into()).unwrap();
    assert_eq!(here.get(&noted.id).unwrap(), noted);
    assert!(told());
    there.remove(&id("key")).unwrap();
    assert!(matches!(here.get(&id("key")), Err(Error::NoAsset { .. })));
    assert_eq!(all(&here).len(), 49);
    // Another asset of an old name.
    assert_eq!(make(&there, "key").id, id("key"));
    assert_eq!(all(&here)[0], "key");
}

#[test]
#[ignore = "half of `a_killed_process_loses_no_picture`"]
fn makes_assets_until_it_is_killed() {
    let Some(root) = env::var_os(CHILD_ROOT) else { return };
    let library = Library::open(&root, Quota::default()).unwrap();
    loop {
        let reserved = library.reserve(&name("key")).unwrap();
        draw(&reserved.png(), "a brass key");
        println!("\ndrawn {}", reserved.id());
        let asset = library.add(&reserved.keep(), None, [("style".into(), "nes".into())].into()).unwrap();
        println!("\nadded {}", asset.id);
        if asset.id.as_str().ends_with('3') {
            library.remove(&asset.id).unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_no_picture() {
    let root = folder();
    let (mut drawn, mut added) = (HashSet::new(), HashSet::new());
    for round in 0..20_u64 {
        let mut child = child("makes_assets_until_it_is_killed", root.path()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        lines.by_ref().find(|line| line.starts_with("added ")).expect("it adds");
        thread::sleep(Duration::from_micros(round * round * 977 % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines {
            drawn.extend(line.strip_prefix("drawn ").and_then(|id| id.parse::<AssetId>().ok()));
            added.extend(line.strip_prefix("added ").and_then(|id| id.parse::<AssetId>().ok()));
        }
        let library = open(&root);
        let listed: HashSet<_> = all(&library).into_iter().map(|text| id(&text)).collect();
        for id in drawn.iter().filter(|id| !id.as_str().ends_with('3')) {
            assert!(listed.contains(id), "round {round} lost {id}");
            assert!(library.verify(id).is_ok());
        }
        for id in added.iter().filter(|id| !id.as_str().ends_with('3')) {
            assert_eq!(library.get(id).unwrap().notes["style"], "nes");
        }
        let trash = fs::read_dir(root.path().join(".trash")).map(|entries| entries.count());
        assert!(trash.is_err() || trash.is_ok_and(|count| count == 0));
    }
}

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
    let same_fields = fs::read_to_string(&record).unwrap().replace("version\": 1", "version\": 2");
    for newer in [&same_fields, "{\"format_version\": 2}"] {
        fs::write(&record, newer).unwrap();
        let library = open(&root);
        let errors = [library.get(&asset.id), library.add(&asset.id, None, BTreeMap::new())];
        for error in errors.map(Result::unwrap_err) {
            assert!(error.to_string().ends_with("at most 1: a newer program wrote it"), "{error}");
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
    let error = library.get(&asset.id).unwrap_err().to_string();
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
    assert!(error.to_string().ends_with("key-2.png` cannot be read: it is a symbolic link"), "{error}");
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
        library.add(&kept, None, BTreeMap::new()).unwrap_err().to_string().ends_with("it is no plain file")
    );
    assert!(library.get(&asset.id).unwrap_err().to_string().ends_with("it is no plain file"));
    assert_eq!(all(&open(&root)), ["map"], "the record is made anew");
}

fn pipe(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: it is given a text that ends.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn a_root_that_is_a_file_or_is_gone_is_an_error() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Library::open(&file, Quota::default()).unwrap_err();
    assert!(error.to_string().ends_with("file`: it is a file; expected a folder"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Output);
    assert!(matches!(Library::open(file.join("in"), Quota::default()), Err(Error::Library { .. })));

    let root = folder.path().join("library");
    let library = Library::open(&root, Quota::default()).unwrap();
    let asset = make(&library, "key");
    fs::remove_dir_all(&root).unwrap();
    assert!(matches!(library.list(&Query::default()), Err(Error::Library { .. })));
    assert!(matches!(library.reserve(&name("key")), Err(Error::Library { .. })));
    assert!(matches!(library.get(&asset.id), Err(Error::NoAsset { .. })));
}

#[test]
#[ignore = "half of `a_root_that_cannot_be_written_can_be_listed`"]
fn uses_a_root_that_cannot_be_written() {
    let Some(root) = env::var_os(CHILD_ROOT) else { return };
    // SAFETY: they take numbers. Root may write everywhere, so this child is root no more.
    unsafe {
        if libc::geteuid() == 0 {
            assert_eq!((libc::setgid(65534), libc::setuid(65534)), (0, 0));
        }
    }
    let library = Library::open(&root, Quota::default()).unwrap();
    assert_eq!(all(&library), ["key"]);
    assert!(library.verify(&id("key")).is_ok());
    let errors = [
        library.reserve(&name("map")).map(drop).unwrap_err(),
        library.remove(&id("key")).unwrap_err(),
        library.add(&id("half"), None, BTreeMap::new()).map(drop).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("Permission denied (os error 13)"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Output);
    }
}

#[test]
fn a_root_that_cannot_be_written_can_be_listed() {
    let outer = folder();
    let root = outer.path().join("library");
    let library = Library::open(&root, Quota::default()).unwrap();
    make(&library, "key");
    draw(&library.path(&library.reserve(&name("half")).unwrap().keep()), "half");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(outer.path(), 0o755);
    for folder in [&root, &root.join("key"), &root.join("half")] {
        mode(folder, 0o555);
    }
    succeeds(child("uses_a_root_that_cannot_be_written", &root));
    for folder in [&root, &root.join("key"), &root.join("half")] {
        mode(folder, 0o755);
    }
}

fn limit_file_size(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: both are given what they ask for. Ignored, the signal becomes an error of the write.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
}

#[test]
#[ignore = "half of `a_full_disk_leaves_no_half_record`"]
fn fills_its_disk() {
    let Some(root) = env::var_os(CHILD_ROOT) else { return };
    let library = Library::open(&root, Quota::default()).unwrap();
    let kept = library.reserve(&name("key")).unwrap().keep();
    draw(&library.path(&kept), "a brass key");
    for bytes in [0, 1, 300] {
        limit_file_size(bytes);
        let error = library.add(&kept, None, BTreeMap::new()).unwrap_err();
        assert!(matches!(error, Error::Library { .. }), "{error}");
        assert!(all(&library).is_empty() && all(&Library::open(&root, Quota::default()).unwrap()).is_empty());
        let left = |folder: &Path| fs::read_dir(folder).unwrap().count();
        assert_eq!((left(Path::new(&root)), left(&Path::new(&root).join("key"))), (1, 2));
    }
    limit_file_size(libc::RLIM_INFINITY);
    library.add(&kept, None, BTreeMap::new()).unwrap();
    assert_eq!(all(&library), ["key"]);
}

#[test]
fn a_full_disk_leaves_no_half_record() {
    succeeds(child("fills_its_disk", folder().path()));
}

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

/// Gives the asset another time of creation, as a clock that was set would have.
fn created(root: &TempDir, asset: &Asset, created: SystemTime) {
    let record = root.path().join(format!("{0}/{0}.asset.json", asset.id));
    let asset = Asset { created, ..asset.clone() };
    fs::write(record, asset.to_json()).unwrap();
}

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

#[test]
#[ignore = "prints figures, asserts none"]
fn ten_thousand_assets() {
    let root = folder();
    let first = make(&open(&root), "asset-0");
    for n in 1..10_000 {
        let id = id(&format!("asset-{n}"));
        let place = Place::new(root.path(), &id);
        fs::create_dir(&place.folder).unwrap();
        fs::copy(root.path().join("asset-0/asset-0.png"), &place.picture).unwrap();
        let modified = place.picture.metadata().unwrap().modified().unwrap();
        let asset = Asset { id: id.clone(), file: format!("{id}.png"), modified, ..first.clone() };
        fs::write(&place.record, asset.to_json()).unwrap();
    }
    let started = Instant::now();
    let library = open(&root);
    println!("open: {:?}", started.elapsed());
    thread::sleep(Duration::from_millis(100));
    library.refresh().unwrap();
    let measure = |what: &str, work: &dyn Fn(usize)| {
        let mut times: Vec<_> = (0..1000)
            .map(|n| {
                let started = Instant::now();
                work(n);
                started.elapsed()
            })
            .collect();
        times.sort();
        println!("{what}: median {:?}, p99 {:?}, longest {:?}", times[500], times[990], times[999]);
    };
    let after = |n: usize| Some(Cursor::of(&library.get(&id(&format!("asset-{n}"))).unwrap()));
    measure("get", &|n| drop(library.get(&id(&format!("asset-{n}"))).unwrap()));
    measure("list of 50", &|n| drop(library.list(&Query { after: after(n), ..Default::default() }).unwrap()));
    let nowhere = Query { text: Some("no such word".into()), ..Default::default() };
    measure("list of a word that is nowhere", &|_| drop(library.list(&nowhere).unwrap()));
    measure("looking around after a change", &|_| {
        library.lock().look_again();
        library.refresh().unwrap();
    });
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
    let error = library.get(&asset.id).unwrap_err().to_string();
    assert!(error.contains("it has 1099511627776 bytes; expected at most 16777216"), "{error}");
    fs::write(&record, whole).unwrap();
    File::create(&picture).unwrap().set_len(1 << 40).unwrap();
    for error in [library.get(&asset.id).unwrap_err(), library.read_png(&asset.id).unwrap_err()] {
        assert!(error.to_string().contains("it has 1099511627776 bytes"), "{error}");
    }
}
