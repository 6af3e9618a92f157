//! Tests of earlier runs: deaths of the process, older formats, and journals that were adopted.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::tests::errors;
use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path) -> Opened {
    Journal::open(folder, &[], errors()).unwrap()
}

fn adopting(folder: &Path, others: &[&Path]) -> Opened {
    Journal::open(folder, &others.iter().map(PathBuf::from).collect::<Vec<_>>(), errors()).unwrap()
}

fn accept(journal: &Journal, key: &str) -> JobId {
    let id = JobId::new();
    let submission = Submission { idempotency_key: Some(key.into()), ..Submission::of("a key") };
    journal.accept([(id, &submission)]).remove(0).wait().unwrap();
    id
}

fn begin(journal: &Journal, ids: &[JobId]) {
    journal.begin(ids.iter().copied()).into_iter().for_each(|pending| pending.wait().unwrap());
}

fn deaths(opened: &Opened) -> Vec<u32> {
    opened.unfinished.iter().map(|job| job.deaths).collect()
}

fn failure(journal: &Journal, id: JobId) -> Option<(ErrorKind, String)> {
    match journal.find(id).unwrap()?.state {
        EntryState::Failed { kind, message } => Some((kind, message)),
        _ => None,
    }
}

#[test]
fn jobs_that_ran_when_the_process_died_are_told_from_those_that_waited() {
    let folder = folder();
    let journal = open(folder.path()).journal;
    let ids: Vec<_> = ["a", "b", "c", "d"].map(|key| accept(&journal, key)).into();
    begin(&journal, &ids[..3]);
    journal.rest(ids[2]).wait().unwrap();
    drop(journal);
    assert_eq!(deaths(&open(folder.path())), [1, 1, 0, 0]);
    assert_eq!(deaths(&open(folder.path())), [1, 1, 0, 0], "it is counted once");
}

#[test]
fn a_job_that_ran_alone_at_two_deaths_fails_and_names_them() {
    let folder = folder();
    let journal = open(folder.path()).journal;
    let (guilty, other) = (accept(&journal, "a"), accept(&journal, "b"));
    begin(&journal, &[guilty, other]);
    drop(journal);
    for died in 1..3 {
        let opened = open(folder.path());
        assert_eq!(deaths(&opened), [died, 1]);
        assert_eq!(opened.given_up, []);
        begin(&opened.journal, &[guilty]);
        opened.journal.note_place(guilty, "decoding");
    }
    let opened = open(folder.path());
    assert_eq!((opened.given_up.clone(), deaths(&opened)), (vec![guilty], vec![1]));
    let (kind, text) = failure(&opened.journal, guilty).unwrap();
    assert_eq!(kind, ErrorKind::ProcessDied);
    let expected = "the process died 3 times while this job ran, 2 of them with no other job beside it, \
                    the last time while decoding; ";
    assert!(text.starts_with(expected), "{text}");
    drop(opened);
    assert_eq!(open(folder.path()).given_up, [], "it is told once");
}

#[test]
fn deaths_at_other_places_are_those_of_a_process_that_was_killed() {
    let folder = folder();
    let journal = open(folder.path()).journal;
    let id = accept(&journal, "a");
    drop(journal);
    for (died, place) in ["denoising, step 1", "decoding"].into_iter().enumerate() {
        let opened = open(folder.path());
        assert_eq!((deaths(&opened), opened.given_up.len()), (vec![died as u32], 0), "{place}");
        opened.journal.note_place(id, "an earlier place");
        opened.journal.note_place(id, place);
        begin(&opened.journal, &[id]);
    }
    let opened = open(folder.path());
    assert_eq!(deaths(&opened), [2]);
    begin(&opened.journal, &[id]);
    drop(opened);
    let opened = open(folder.path());
    assert_eq!(opened.given_up, [id], "the same place twice");
    let (_, text) = failure(&opened.journal, id).unwrap();
    assert!(text.contains("3 of them with no other job beside it, the last time while decoding;"), "{text}");
}

#[test]
fn a_death_between_two_calls_is_nobodys_and_one_at_an_unknown_place_counts_less() {
    let folder = folder();
    let journal = open(folder.path()).journal;
    let id = accept(&journal, "a");
    drop(journal);
    for _ in 0..9 {
        let opened = open(folder.path());
        assert_eq!(deaths(&opened), [0]);
        begin(&opened.journal, &[id]);
        opened.journal.note_place(id, "decoding");
        opened.journal.note_place(id, NOWHERE);
    }
    for died in 0..4 {
        let opened = open(folder.path());
        assert_eq!((deaths(&opened), opened.given_up.len()), (vec![died], 0));
        begin(&opened.journal, &[id]);
        fs::remove_file(folder.path().join("place")).unwrap();
    }
    assert_eq!(open(folder.path()).given_up, [id]);
}

#[test]
fn a_job_whose_file_is_being_written_is_past_danger() {
    let folder = folder();
    let journal = open(folder.path()).journal;
    let id = accept(&journal, "a");
    begin(&journal, &[id]);
    let record = Record {
        path: folder.path().join("key.png"),
        blake3: String::new(),
        verdict: None,
        certificate: None,
        dropped_words: None,
        redraws: 0,
        timings: Default::default(),
    };
    journal.writing(id, &record).wait().unwrap();
    drop(journal);
    assert_eq!(deaths(&open(folder.path())), [0]);
}

/// A journal that version 0.1 of the program left when it was killed in a batch: one job done, one
/// whose file was being written, three not begun. The files are not here.
const OLDER: &[u8] = include_bytes!("../../../tests/fixtures/journal_v1.redb");

#[test]
fn a_journal_of_the_first_format_is_read_and_goes_on() {
    let folder = folder();
    fs::write(folder.path().join("journal.redb"), OLDER).unwrap();
    let opened = open(folder.path());
    assert_eq!(opened.set_aside, None);
    let waiting: Vec<_> = opened.unfinished.iter().map(|job| job.id).collect();
    assert_eq!((waiting.len(), deaths(&opened)), (4, vec![0; 4]), "a file that is gone is made again");
    let key = opened.unfinished[0].submission.idempotency_key.clone().unwrap();
    assert_eq!(opened.journal.find_key(&key).unwrap(), Some(waiting[0]));
    begin(&opened.journal, &waiting[..1]);
    drop(opened);
    assert_eq!(deaths(&open(folder.path()))[0], 1);
}

#[test]
fn an_adopted_journal_keeps_ids_keys_ends_and_deaths() {
    let (own, other) = (folder(), folder());
    let theirs = open(other.path()).journal;
    let (waits, ran, failed) = (accept(&theirs, "a"), accept(&theirs, "b"), accept(&theirs, "c"));
    begin(&theirs, &[ran]);
    theirs.failed(failed, ErrorKind::NotFinite, "it broke").wait().unwrap();
    drop(theirs);
    let ours = open(own.path()).journal;
    let mine = accept(&ours, "a");
    drop(ours);

    let opened = adopting(own.path(), &[own.path(), other.path()]);
    let found: Vec<_> = opened.unfinished.iter().map(|job| (job.id, job.deaths)).collect();
    assert_eq!(found, [(waits, 0), (ran, 1), (mine, 0)]);
    let key = |key| opened.journal.find_key(key).unwrap();
    assert_eq!((key("a"), key("b"), key("c")), (Some(mine), Some(ran), Some(failed)), "ours comes first");
    assert_eq!(failure(&opened.journal, failed).unwrap(), (ErrorKind::NotFinite, "it broke".into()));
    drop(opened);
    assert_eq!(open(own.path()).unfinished.len(), 3);
    assert_eq!(open(other.path()).unfinished, []);
}

#[test]
fn an_adoption_that_is_cut_short_anywhere_loses_and_doubles_nothing() {
    let (own, other) = (folder(), folder());
    let theirs = open(other.path()).journal;
    let ids = [accept(&theirs, "a"), accept(&theirs, "b")];
    drop(theirs);
    let file = other.path().join("journal.redb");
    let bytes = fs::read(&file).unwrap();

    // Killed after the rename: whoever holds our folder next merges it, and whoever adopts that
    // folder too.
    let between = folder();
    fs::rename(&file, between.path().join("adopted-1.redb")).unwrap();
    let opened = adopting(own.path(), &[between.path()]);
    assert_eq!(opened.unfinished.iter().map(|job| job.id).collect::<Vec<_>>(), ids);
    assert_eq!(fs::read_dir(own.path()).unwrap().count(), 4, "the journal, its lock, the place and results");

    // Killed after the merge and before the file is removed, in the meantime one has ended.
    opened.journal.failed(ids[0], ErrorKind::Cancelled, "cancelled").wait().unwrap();
    drop(opened);
    fs::write(own.path().join("adopted-1.redb"), &bytes).unwrap();
    let opened = open(own.path());
    assert_eq!(opened.unfinished.iter().map(|job| job.id).collect::<Vec<_>>(), ids[1..]);
    assert!(failure(&opened.journal, ids[0]).is_some());
    assert!(!own.path().join("adopted-1.redb").exists());
}

#[test]
fn a_journal_that_is_held_or_newer_or_damaged_is_not_adopted() {
    let (own, held, damaged) = (folder(), folder(), folder());
    let running = open(held.path()).journal;
    let id = accept(&running, "a");
    fs::write(damaged.path().join("journal.redb"), "no journal at all").unwrap();
    let opened = adopting(own.path(), &[held.path(), damaged.path(), &own.path().join("absent")]);
    assert_eq!((opened.unfinished.len(), opened.set_aside), (0, None));
    assert!(running.find(id).unwrap().is_some());
    assert!(damaged.path().join("journal.redb").exists(), "its own engine sets it aside");

    let newer = folder();
    drop(open(newer.path()));
    let file = newer.path().join("journal.redb");
    let database = redb::Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction.open_table(meta).unwrap().insert("format_version", 99).unwrap();
    transaction.commit().unwrap();
    drop((database, opened.journal));
    assert_eq!(adopting(own.path(), &[newer.path()]).unfinished, []);
    assert!(file.exists());
}
