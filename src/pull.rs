//! `dgx-pixels pull`: fetches a model or a LoRA from the Hugging Face hub.

mod cache;
mod choice;
mod hub;

use std::fs;
use std::path::{Path, PathBuf};

use dgx_pixels_core::Model;
use dgx_pixels_core::model::files::Shard;
use dgx_pixels_core::model::header::shown;
use dgx_pixels_core::model::hub::{self as names, HubName};
use indicatif::BinaryBytes;
use serde::Serialize;

use self::cache::Repository;
use self::hub::{Hub, Listing, fault, is_offline};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{note, say_json, say_path};
use crate::progress::Bar;

/// The end of the text of `--help`.
pub(crate) const NOTES: &str = "\
Files go into the hub's cache, which Python's libraries share: `$HF_HUB_CACHE`, usually
`~/.cache/huggingface/hub`. A fetch that broke off goes on where it stopped. The token is that of
`HF_TOKEN` or of `hf auth login`; `HF_ENDPOINT` names another hub, and `HF_HUB_OFFLINE=1` forbids
the network. No other command uses the network to get a model.";

/// Fetch a model or a LoRA from the Hugging Face hub.
///
/// Of a pipeline the parts are fetched that this program reads. Of a repository of files it is the
/// only `.safetensors` file, or those that are named. The name is then a model's or a LoRA's name
/// in every command, and the path is printed. No pickle is ever fetched.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The repository, `ORG/NAME`; after `@` a branch, a tag or a commit. Default: `main`.
    #[arg(value_name = "NAME[@REVISION]")]
    name: String,

    /// Files of the repository to fetch, instead of those that a model needs.
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    /// Fetch weights in half precision where the repository has both: half the bytes.
    #[arg(long)]
    fp16: bool,

    /// Fetch files again that are in the cache.
    #[arg(long)]
    force: bool,

    /// Show no progress.
    #[arg(long)]
    quiet: bool,

    /// Print one JSON object: `name`, `revision`, `commit`, `path` (the folder of the files),
    /// `files`, `bytes`, and `fetched_bytes` (those that were not in the cache).
    #[arg(long)]
    pub(crate) json: bool,
}

/// The JSON object.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    revision: &'a str,
    commit: &'a str,
    path: &'a Path,
    files: &'a [String],
    bytes: u64,
    fetched_bytes: u64,
}

/// Fetches, and prints the path of the folder or of the files.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name: HubName = args.name.parse()?;
    let cache = names::cache().ok_or_else(|| {
        Failure::Flags("there is no home folder to fetch models into; set `HF_HUB_CACHE`".into())
    })?;
    if is_offline() {
        return offline(args, &name, &cache);
    }
    interrupt::listen();
    let hub = Hub::open()?;
    let Listing { commit, files } = hub.list(&name)?;
    let chosen = choice::choose(&files, &args.files, args.fp16).map_err(|reason| fault(&name, reason))?;
    let mut remotes = vec![];
    for file in &chosen {
        remotes.push(hub.about(&name, &commit, file)?);
    }
    let repository = Repository::new(&cache, &name);
    if args.force {
        remotes.iter().try_for_each(|remote| repository.forget(remote))?;
    }
    // The same bytes may be in two places.
    let bytes = remotes.iter().fold(0_u64, |all, remote| all.saturating_add(remote.bytes));
    let there: u64 = remotes.iter().map(|remote| repository.bytes_there(remote)).sum();
    let fetched_bytes = bytes.saturating_sub(there);
    repository.check_room(fetched_bytes)?;
    if fetched_bytes > 0 {
        note(format_args!("fetching {} of `{name}`", BinaryBytes(fetched_bytes)));
    }
    let bar = Bar::bytes(args.quiet, fetched_bytes);
    let mut links = vec![];
    for (file, remote) in chosen.iter().zip(&remotes) {
        repository.fetch(&hub, &name, (&commit, file), remote, &|bytes| bar.advance_by(bytes))?;
        let link = repository.link(&commit, file, remote)?;
        if file == "model_index.json" {
            check_pipeline(&name, &link)?;
        }
        links.push(link);
    }
    drop(bar);
    repository.note_revision(name.revision(), &commit)?;
    let path = repository.snapshot(&commit);
    check(&path, &links)?;
    if args.json {
        let (name, revision) = (name.repository(), name.revision());
        let (commit, path, files) = (&*commit, &*path, &*chosen);
        return say_json(&Line { name, revision, commit, path, files, bytes, fetched_bytes });
    }
    match links.iter().find(|link| link.ends_with("model_index.json")) {
        Some(_) => say_path(&path),
        None => weights(&links).try_for_each(|link| say_path(link)),
    }
}

/// Prints the path that is in the cache.
fn offline(args: &Args, name: &HubName, cache: &Path) -> Result<(), Failure> {
    let snapshot =
        name.snapshot_in(cache).filter(|path| args.files.iter().all(|file| path.join(file).is_file()));
    match snapshot {
        Some(path) => {
            note(format_args!("`HF_HUB_OFFLINE` is set; `{name}` is in the cache"));
            say_path(&path)
        }
        None => Err(fault(name, "it is not in the cache, and `HF_HUB_OFFLINE` forbids the network")),
    }
}

/// Refuses a pipeline of another kind before its weights are fetched.
fn check_pipeline(name: &HubName, path: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::input(path, error))?;
    let index: Option<serde_json::Value> = serde_json::from_str(&text).ok();
    let class = index.as_ref().and_then(|index| index["_class_name"].as_str()).unwrap_or("none");
    if class.starts_with("StableDiffusionXL") {
        return Ok(());
    }
    let reason = format!("it is a `{}`; expected a model of the SDXL family", shown(class));
    Err(fault(name, reason))
}

/// Opens what was fetched, so that a file that cannot be used is named now.
fn check(snapshot: &Path, links: &[PathBuf]) -> Result<(), Failure> {
    if links.iter().any(|link| link.ends_with("model_index.json")) {
        Model::open(snapshot)?;
    }
    for path in weights(links) {
        Shard::open(path.clone())?;
    }
    Ok(())
}

fn weights(links: &[PathBuf]) -> impl Iterator<Item = &PathBuf> {
    links.iter().filter(|link| link.extension().is_some_and(|ending| ending == "safetensors"))
}
