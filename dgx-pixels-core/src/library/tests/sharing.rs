//! Several threads, programs and kills.

use super::*;

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
            (0..4).map(|_| scope.spawn(|| succeeds(child("sharing::reserves_fifty", root.path())))).collect();
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
        let mut child = child("sharing::makes_assets_until_it_is_killed", root.path()).spawn().unwrap();
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
