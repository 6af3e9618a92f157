//! A journal is a file, and what it asks for passes the same door as a caller's request.

use std::path::Path;
use std::time::Duration;

use dgx_pixels_core::ErrorKind;
use dgx_pixels_core::engine::EngineConfig;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde_json::{Value, json};

use crate::rig::{Rig, raw};

const SUBMISSIONS: TableDefinition<&str, &str> = TableDefinition::new("submissions");
const STATES: TableDefinition<&str, &str> = TableDefinition::new("states");

/// Makes the one job of the journal one that was accepted and is not finished, and edits what it
/// asks for.
fn rewrite(journal: &Path, edit: impl FnOnce(&mut Value)) {
    let database = Database::create(journal.join("journal.redb")).unwrap();
    let (id, mut submission) = {
        let table = database.begin_read().unwrap().open_table(SUBMISSIONS).unwrap();
        let (id, submission) = table.first().unwrap().unwrap();
        (id.value().to_owned(), serde_json::from_str::<Value>(submission.value()).unwrap())
    };
    edit(&mut submission);
    let transaction = database.begin_write().unwrap();
    transaction.open_table(SUBMISSIONS).unwrap().insert(&*id, &*submission.to_string()).unwrap();
    transaction.open_table(STATES).unwrap().insert(&*id, r#""accepted""#).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_record_with_numbers_that_no_caller_may_give_fails_and_harms_no_other_job() {
    for (pointer, value, reason) in [
        ("/pixel/grid", json!({ "step": 1e-9 }), "`grid` is `0.000000001`"),
        ("/pixel/expected_step", json!(1e-300), "`expected_step` is `0.000"),
        ("/request/steps", json!(u64::MAX), "`steps` is 18446744073709551615; expected 1 to 1000"),
        ("/request/size", json!({ "width": 1u32 << 31, "height": 64 }), "`width` is 2147483648"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal");
        let config = || EngineConfig { journal: Some(journal.clone()), ..Default::default() };
        let rig = Rig::slow(Duration::from_millis(1));
        let engine = rig.engine_with(1 << 40, config());
        let submission =
            dgx_pixels_core::Submission { pixel: Some(Default::default()), ..raw("a key", 1, 2) };
        let _ = engine.submit(submission).unwrap().wait();
        drop(engine);
        rewrite(&journal, |submission| *submission.pointer_mut(pointer).unwrap() = value);

        let engine = rig.engine_with(1 << 40, config());
        let [job] = engine.recovered() else { panic!("one job is taken up: {:?}", engine.recovered().len()) };
        let error = job.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().starts_with(reason), "{error}");
        assert!(engine.submit(raw("another", 2, 2)).unwrap().wait().is_ok());
    }
}

#[test]
fn a_deadline_past_the_end_of_the_clock_is_none() {
    let engine = Rig::slow(Duration::from_millis(1)).engine();
    let submission = dgx_pixels_core::Submission { deadline: Some(Duration::MAX), ..raw("a key", 1, 2) };
    assert!(engine.submit(submission).unwrap().wait().is_ok());
}
