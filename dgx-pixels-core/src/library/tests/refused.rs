//! Roots and disks that take nothing.

use super::*;

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
        assert!(one_line(&error).contains("Permission denied (os error 13)"), "{error}");
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
    succeeds(child("refused::uses_a_root_that_cannot_be_written", &root));
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
    succeeds(child("refused::fills_its_disk", folder().path()));
}
