use dgx_pixels_core::ErrorKind;
use dgx_pixels_core::library::AssetName;

use super::*;

#[tokio::test]
async fn a_call_that_was_given_up_does_not_wait_for_its_turn_and_submits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let studio = Studio::open(StudioConfig {
        library: folder.path().join("assets"),
        model: Some("sketch".into()),
        journals: None,
        ..Default::default()
    });
    let studio = studio.unwrap();
    let _all = studio.0.submitting.acquire_many(MAX_SUBMITTING as u32).await.unwrap();
    let stop = Stop { call: CancellationToken::new(), server: CancellationToken::new() };
    let wanted = Wanted {
        name: AssetName::from_prompt("a key"),
        submission: Submission::of("a key"),
        notes: BTreeMap::new(),
    };
    let waits = studio.submit(vec![wanted], &stop);
    let given_up = async { stop.call.cancel() };
    let (submitted, ()) = tokio::join!(waits, given_up);
    assert_eq!(submitted.err().map(|fault| fault.kind), Some(ErrorKind::Cancelled));
    assert_eq!(std::fs::read_dir(folder.path().join("assets")).unwrap().count(), 0);
    studio.shut_down();
}
