//! `get_job` and `cancel_job`.

use std::time::Duration;

use dgx_pixels_core::job::JobId;
use dgx_pixels_core::{ErrorKind, ValueError};
use rmcp::model::ToolAnnotations;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::generate::{Ended, answer, wait};
use super::{Answer, Call, Group, Kind, Wrong, reads, wrong};
use crate::answer::{Fault, structured};
use crate::studio::Work;

const GET: &str = "get_job";
const CANCEL: &str = "cancel_job";
const MAX_WAIT_SECONDS: u32 = 25;

pub(super) fn tools() -> Vec<Kind> {
    let cancels =
        ToolAnnotations::new().read_only(false).destructive(true).idempotent(true).open_world(false);
    vec![
        Kind::new(Group::Generate, GET, "Wait for a job", reads(), get_job),
        Kind::new(Group::Generate, CANCEL, "Cancel a job", cancels, cancel_job).with_output::<Cancelled>(),
    ]
}

/// Waits for a sprite that `generate_sprite` or `generate_batch` did not finish in time, and
/// answers as they do. A job that is not done when the time is up is reported with its progress;
/// call again then. Jobs are remembered over restarts of the server.
#[derive(Debug, Deserialize, JsonSchema)]
struct GetJob {
    /// Id of the job, from `generate_sprite`.
    job_id: String,
    /// Number of seconds to wait, at most. Default 25.
    #[schemars(range(min = 0, max = 25))]
    wait_seconds: Option<u32>,
}

/// Stops a job at its next step. One that has ended stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
struct CancelJob {
    /// Id of the job, from `generate_sprite`.
    job_id: String,
}

/// The result of a cancel.
#[derive(Serialize, JsonSchema)]
struct Cancelled {
    /// Id of the job that was given.
    job_id: String,
    /// `cancelled`, or `finished` or `failed` if it had ended before.
    status: &'static str,
    /// The asset, if it was finished.
    asset_id: Option<String>,
}

async fn get_job(call: Call, arguments: GetJob) -> Answer {
    let seconds = arguments.wait_seconds.unwrap_or(MAX_WAIT_SECONDS);
    if seconds > MAX_WAIT_SECONDS {
        let fault = format!("is {seconds}; expected 0 to {MAX_WAIT_SECONDS}");
        return Err(wrong(GET, Wrong::of("wait_seconds", fault)));
    }
    let work = find(&call, GET, &arguments.job_id).await?;
    let _waiting = work.wait();
    let works = [work];
    let time = Duration::from_secs(seconds.into());
    if wait(&call.listener, call.stop.set(), &works, time).await == Ended::GivenUp {
        return Err(call.stop.fault());
    }
    answer(&call.studio, &call.stop, &works, None).await
}

async fn cancel_job(call: Call, arguments: CancelJob) -> Answer {
    let work = find(&call, CANCEL, &arguments.job_id).await?;
    work.job.cancel();
    let (status, asset_id) = match work.done().await {
        Ok(()) => ("finished", Some(work.asset.to_string())),
        Err(error) if error.kind() == ErrorKind::Cancelled => ("cancelled", None),
        Err(_) => ("failed", None),
    };
    structured(&Cancelled { job_id: arguments.job_id, status, asset_id })
}

async fn find(call: &Call, tool: &str, id: &str) -> Result<Work, Fault> {
    let parsed: JobId = id.parse().map_err(|error: ValueError| wrong(tool, error.of("job_id")))?;
    call.studio.find(parsed).await?.ok_or_else(|| {
        let known = "`list_assets` names the sprites that were finished.";
        let text = format!("`job_id` is `{id}`, and there is no such job. {known}");
        Fault { field: Some("job_id".into()), ..Fault::new(ErrorKind::NotFound, text) }
    })
}
