//! `dgx-pixels batch`: a file of prompts goes in, a folder of sprites and a manifest come out.

mod folder;
mod input;

use std::collections::{HashMap, VecDeque};
use std::env;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use dgx_pixels_core::engine::{Budget, Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::{Finished, Job, JobId};
use dgx_pixels_core::local::LocalModel;
use dgx_pixels_core::picture_file::{Made, sidecar};
use dgx_pixels_core::pixel::Certificate;
use dgx_pixels_core::{Cause, Error, ErrorKind, MOST_REDRAWS, Priority, Submission, redraw_seed};
use serde_json::json;

use self::folder::{Allowed, Entry, Folder, Kept, Told};
use self::input::{Defaults, Fault, Picture};
use crate::drawing::Drawing;
use crate::failure::{Failure, counted, one_line};
use crate::follow::{GLANCE, redrawn};
use crate::progress::Bar;
use crate::{interrupt, output};

/// Pictures that are submitted and not made yet: enough for the engine to fill every device, few
/// enough to be told of soon.
const UNDER_WAY: usize = 256;
/// Pictures that are submitted before those that have ended are looked after again.
const SUBMITTED_AT_ONCE: usize = 64;
/// Faults of lines, and pictures that could not be made, that are told one by one.
const TOLD: usize = 20;

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
FILE has either a prompt or a JSON object on each line. Its first line decides which, whatever its
name is. Empty lines and lines that begin with `#` are left out. A file that ends in `.jsonl` or
`.ndjson` is JSON in any case. `-` is standard input.

An object has `prompt` and, as needed, `name` (of the sprite's file), `raw`, and every field that
is a flag above, spelled with `_`, for example `negative_prompt` for `--negative-prompt`. They mean
what the flags mean. The flags hold for every line that does not set its own value. All lines are
checked before anything is drawn.

DIR gets the sprites with their certificates, `manifest.jsonl`, and `.dgx-pixels`, which
`--resume` needs. The manifest has one line for each sprite that was made or could not be made:
  {\"line\",\"path\",\"prompt\",\"seed\",\"job\",\"status\":\"finished\"|\"failed\",\"error\":{\"kind\",\"message\"}|null,\"width\",\"height\",
   \"verdict\",\"certificate\":{...},\"dropped_words\",\"timings_ms\":{\"waiting\",\"begin\",\"denoise\",\"finish\",\"pixel\",\"total\"},\"key\"}
Standard output holds the path of each sprite as it is made, or with --json the same line.

Ctrl-C stops at the next step and prints the command that goes on. `--resume` makes the missing
sprites, tries the failed ones again, and makes no sprite twice. If lines have changed, those with
the same number and content keep their sprites.";

/// Draw thousands of sprites, from a file of prompts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A prompt a line, or a JSON object a line; `-` is standard input.
    #[arg(value_name = "FILE")]
    input: PathBuf,

    /// The folder for the sprites; made if absent.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,

    /// Go on with the batch in `--output`; begin it if there is none.
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    drawing: Drawing,

    /// Images that advance a step together, 1 to 256 at most. Fewer if memory is short.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    max_batch: u32,

    /// Memory of each device that may be used: bytes such as `60GiB`, a share such as `80%`, or
    /// `-4GiB` to leave 4 GiB free. Default: `90%`.
    #[arg(long, value_name = "B", allow_hyphen_values = true)]
    budget: Option<Budget>,

    /// Replace files that exist; without `--resume`, also a batch, which then begins anew. Folders,
    /// links and files of other programs beside the sprites stay.
    #[arg(long)]
    force: bool,

    /// Print one JSON line for each sprite, see below.
    #[arg(long)]
    pub(crate) json: bool,

    /// Nothing on standard error but warnings and errors.
    #[arg(short, long)]
    quiet: bool,
}

/// Checks all lines, makes what is not made yet, and says what could not be.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    output::folder(&args.output)?;
    // Lines may give the `size` that an `anchor` needs.
    args.drawing.check_asked(|name| name != "anchor")?;
    let models = args.drawing.models()?;
    output::warn(models.notes());
    let model = models.default_model().clone();
    let pictures = pictures(args, &model)?;
    interrupt::listen();
    let allowed = Allowed { resume: args.resume, force: args.force };
    let (folder, kept) = Folder::open(&args.output, &pictures, allowed)?;
    if args.resume && !args.quiet {
        tell_kept(&kept);
    }
    let todo: VecDeque<_> = pictures.iter().filter(|picture| !kept.made.contains(&picture.key)).collect();
    if todo.is_empty() {
        if !args.quiet {
            output::note(format_args!("all {} are made already", counted(pictures.len(), "picture")));
        }
        return Ok(());
    }

    // Ids are in the order of submission: what comes before this one is of an earlier run.
    let began = JobId::new();
    let config = EngineConfig {
        budget: args.budget.unwrap_or_default(),
        queue_capacity: UNDER_WAY,
        max_batch: args.max_batch as usize,
        journal: Some(folder.journal()),
        ..Default::default()
    };
    let engine = models.with(args.drawing.torch.options(&model)?)?.owning_process()?.start(config)?;
    if let Some(path) = engine.set_aside() {
        output::note(format_args!(
            "warning: the journal was damaged and is now `{}`; pictures that only it knew of are made again",
            path.display()
        ));
    }
    if engine.unreadable() > 0 {
        let records = counted(engine.unreadable(), "record");
        output::note(format_args!(
            "warning: {records} of the journal could not be read; those pictures are made again"
        ));
    }
    let bar = Bar::pictures(args.quiet, todo.len());
    let model = model.name;
    let mut batch = Batch { args, folder, engine, model, began, bar, made: kept.made.len(), failed: vec![] };
    let started = Instant::now();
    let ended = batch.make(&pictures, todo);
    let Batch { made, failed, bar, .. } = batch;
    drop(bar);

    let of = pictures.len();
    tell_failed(&args.output, &failed);
    match ended {
        Ok(()) if failed.is_empty() => {
            if !args.quiet {
                let seconds = started.elapsed().as_secs_f64();
                output::note(format_args!("all {} are made, in {seconds:.1} s", counted(of, "picture")));
            }
            Ok(())
        }
        Ok(()) => Err(Failure::Some { failed: failed.len(), of }),
        Err(Failure::Interrupted) => Err(Failure::Paused { made, of, command: command_to_resume() }),
        Err(failure) => {
            let command = command_to_resume();
            output::note(format_args!(
                "stopped: {made} of {} are made; `{command}` goes on",
                counted(of, "picture")
            ));
            Err(failure)
        }
    }
}

/// Every picture that the input asks for.
///
/// # Errors
/// [`Failure::Lines`], after the first faults are told; [`Failure::Input`].
fn pictures(args: &Args, model: &LocalModel) -> Result<Vec<Picture>, Failure> {
    let defaults = Defaults::new(args.drawing.clone(), model.name.clone(), model.defaults.clone());
    let bytes = input::read(&args.input)?;
    let json = input::is_json(&args.input, &bytes)?;
    match input::pictures(&bytes, json, &defaults) {
        Ok(pictures) if pictures.is_empty() => {
            let reason = "it has no prompts; expected one a line";
            Err(Failure::input(&args.input, reason))
        }
        Ok(pictures) => {
            let has_size = |picture: &Picture| {
                picture.submission.pixel.as_ref().is_some_and(|pixel| pixel.size.is_some())
            };
            if !pictures.iter().any(has_size) {
                args.drawing.check()?;
            }
            Ok(pictures)
        }
        Err(faults) => {
            for Fault { line, reason } in faults.iter().take(TOLD) {
                output::note(format_args!("error: line {line}: {reason}"));
                if args.json {
                    let error = json!({ "kind": "invalid_request", "message": reason });
                    output::say_json(&json!({ "line": line, "error": error }))?;
                }
            }
            if faults.len() > TOLD {
                output::note(format_args!("error: and {} more", faults.len() - TOLD));
            }
            Err(Failure::Lines { path: args.input.clone(), faults: faults.len() })
        }
    }
}

/// A batch while it is made.
struct Batch<'a> {
    args: &'a Args,
    folder: Folder,
    engine: Engine,
    model: String,
    began: JobId,
    bar: Bar,
    /// The number of images that all runs have made.
    made: usize,
    /// The lines and what was told, in this run.
    failed: Vec<Entry>,
}

impl Batch<'_> {
    /// Makes all of `todo`, which are among `pictures`, or stops at the next step.
    ///
    /// # Errors
    /// [`Failure::Interrupted`]; what would befall every other picture too, as a full disk.
    fn make(&mut self, pictures: &[Picture], todo: VecDeque<&Picture>) -> Result<(), Failure> {
        let mut under_way = vec![];
        let ended =
            self.drop_what_nobody_asks_for(pictures).and_then(|()| self.make_all(todo, &mut under_way));
        let how = if ended.is_ok() { Shutdown::Drain } else { Shutdown::NextStep };
        self.engine.shutdown(how);
        // Some were being written. What failed at the end is tried again by the next run.
        for (picture, job) in under_way {
            if let Some(Ok(finished)) = job.result() {
                self.tell_finished(picture, job.id(), &finished)?;
            }
        }
        ended
    }

    fn make_all<'p>(
        &mut self,
        mut todo: VecDeque<&'p Picture>,
        under_way: &mut Vec<(&'p Picture, Job)>,
    ) -> Result<(), Failure> {
        let mut not_before = Instant::now();
        loop {
            interrupt::check()?;
            // 1. as many as may wait
            let free = match Instant::now() < not_before {
                true => 0,
                false => UNDER_WAY.saturating_sub(under_way.len()).min(SUBMITTED_AT_ONCE),
            };
            let wanted: Vec<_> = todo.drain(..free.min(todo.len())).collect();
            let mut refused = vec![];
            for (picture, answer) in self.submit(&wanted) {
                match answer {
                    Ok(job) => under_way.push((picture, job)),
                    Err(error) => match error.retry_after() {
                        Some(retry_after) => {
                            not_before = Instant::now() + retry_after;
                            refused.push(picture);
                        }
                        None => self.tell_failed(picture, None, error)?,
                    },
                }
            }
            refused.into_iter().rev().for_each(|picture| todo.push_front(picture));

            // 2. those that have ended
            let before = under_way.len();
            let mut i = 0;
            while i < under_way.len() {
                let Some(result) = under_way[i].1.result() else {
                    i += 1;
                    continue;
                };
                let (picture, job) = under_way.remove(i);
                match result {
                    Ok(finished) => self.tell_finished(picture, job.id(), &finished)?,
                    Err(error) => self.tell_failed(picture, Some(job.id()), error)?,
                }
            }
            if todo.is_empty() && under_way.is_empty() {
                return Ok(());
            }
            if under_way.len() < before {
                not_before = Instant::now();
            } else if let Some((_, job)) = under_way.first() {
                job.wait_for(GLANCE);
            } else {
                thread::sleep(GLANCE);
            }
        }
    }

    /// Cancels what an earlier run accepted and this one does not ask for, or asks for otherwise.
    fn drop_what_nobody_asks_for(&self, pictures: &[Picture]) -> Result<(), Failure> {
        let asked: HashMap<_, _> = pictures.iter().map(|picture| (picture.key.as_str(), picture)).collect();
        let dropped = self.engine.recovered().iter().filter(|job| {
            let submission = job.submission();
            let (key, attempt) = split_key(submission.idempotency_key.as_deref().unwrap_or_default());
            asked.get(key).is_none_or(|picture| self.submission(picture, attempt) != *submission)
        });
        let dropped: Vec<_> = dropped.collect();
        dropped.iter().for_each(|job| job.cancel());
        for job in dropped {
            let result = loop {
                interrupt::check()?;
                if let Some(result) = job.wait_for(GLANCE) {
                    break result;
                }
            };
            // It was quicker, and nobody has seen it yet.
            if let Ok(finished) = result
                && let Some(path) = &finished.path
            {
                remove_picture(path)?;
            }
        }
        Ok(())
    }

    /// Hands pictures in, together; the same jobs where an earlier run did. What failed then is
    /// tried once more.
    fn submit<'p>(&self, pictures: &[&'p Picture]) -> Vec<(&'p Picture, Result<Job, Error>)> {
        let answers = self.engine.submit_all(pictures.iter().map(|picture| self.submission(picture, 0)));
        let settle = |(picture, answer): (&&'p Picture, _)| (*picture, self.settle(picture, answer));
        pictures.iter().zip(answers).map(settle).collect()
    }

    /// The picture's job, given the answer to its first attempt.
    fn settle(&self, picture: &Picture, mut answer: Result<Job, Error>) -> Result<Job, Error> {
        let mut attempt = 0;
        let mut may_remove = true;
        loop {
            match answer {
                // Run again at once, it would kill this process too.
                Ok(job) if self.has_killed(&job) => return Ok(job),
                Ok(job) if job.id() < self.began && matches!(job.result(), Some(Err(_))) => attempt += 1,
                // An earlier run's, with `--force` or in another place.
                Err(Error::KeyTaken { .. }) => attempt += 1,
                // An earlier run's, of which the journal knows nothing any more.
                Err(Error::Exists { .. }) if may_remove && self.is_ours(picture) => {
                    may_remove = false;
                    let path = self.folder.output(picture);
                    remove_picture(&path).map_err(|failure| Error::output(&path, Cause::from(failure)))?;
                }
                answer => return answer,
            }
            answer = self.engine.submit(self.submission(picture, attempt));
        }
    }

    /// `true` if the engine gave the job up when it started, because the process had died each time
    /// that it ran.
    fn has_killed(&self, job: &Job) -> bool {
        let died =
            |job: &Job| matches!(job.result(), Some(Err(error)) if error.kind() == ErrorKind::ProcessDied);
        died(job) && self.engine.recovered().iter().any(|known| known.id() == job.id())
    }

    fn submission(&self, picture: &Picture, attempt: usize) -> Submission {
        Submission {
            request: picture.submission.request.clone(),
            model: Some(self.model.clone()),
            pixel: picture.submission.pixel.clone(),
            output: Some(self.folder.output(picture)),
            force: self.args.force,
            priority: Priority::Normal,
            client: "batch".into(),
            idempotency_key: Some(format!("{}-{attempt}", picture.key)),
            ..Default::default()
        }
    }

    /// `true` if the file in the way says that it is this image, or is a certificate without an
    /// image, which a full disk can leave. Neither existed when the image was planned.
    fn is_ours(&self, picture: &Picture) -> bool {
        let file = Path::new(&picture.file);
        let Some(bytes) = self.folder.read(file) else {
            let certificate = self.folder.read(&sidecar(file)).unwrap_or_default();
            let is_absent = self.folder.output(picture).symlink_metadata().is_err();
            return is_absent && serde_json::from_slice::<Certificate>(&certificate).is_ok();
        };
        Made::read(&bytes).is_ok_and(|made| {
            let (was, is) = (&made.request, &picture.submission.request);
            let is_seed = (0..=MOST_REDRAWS).any(|redraw| redraw_seed(is.seed, redraw) == was.seed);
            is_seed
                && (&was.prompt, &made.pixel, &made.model)
                    == (&is.prompt, &picture.submission.pixel, &self.model)
        })
    }

    fn tell_finished(&mut self, picture: &Picture, job: JobId, finished: &Finished) -> Result<(), Failure> {
        let entry = Entry::finished(picture, job, finished);
        self.folder.tell(&entry)?;
        self.made += 1;
        self.bar.advance();
        self.bar.aside(|| {
            if let Some(words) = redrawn(finished) {
                output::note(format_args!("warning: line {}: {words}", picture.line));
            }
            if let Some(words) = &finished.dropped_words {
                output::note(format_args!(
                    "warning: line {}: past the model's length, these words are dropped: {words}",
                    picture.line
                ));
            }
            if self.args.json {
                self.say_json(entry)
            } else {
                output::say_path(&self.args.output.join(&picture.file))
            }
        })
    }

    /// # Errors
    /// The failure itself, if it would befall the others too.
    fn tell_failed(&mut self, picture: &Picture, job: Option<JobId>, error: Error) -> Result<(), Failure> {
        let stops = matches!(
            error,
            Error::Output { .. }
                | Error::Journal { .. }
                | Error::ShutDown
                | Error::Model { .. }
                | Error::Device { .. }
        );
        let failure = Failure::from(error);
        if stops {
            return Err(failure);
        }
        let told = Told { kind: failure.kind().as_str().into(), message: one_line(&failure) };
        let entry = Entry::failed(picture, job, told);
        self.folder.tell(&entry)?;
        self.failed.push(entry.clone());
        self.bar.advance();
        if self.args.json { self.bar.aside(|| self.say_json(entry)) } else { Ok(()) }
    }

    fn say_json(&self, entry: Entry) -> Result<(), Failure> {
        let path = self.args.output.join(&entry.path);
        output::say_json(&Entry { path, ..entry })
    }
}

/// Prints the counts of earlier and new images, for example
/// `40 images as before, 12 of them made; 3 new`.
fn tell_kept(kept: &Kept) {
    let Kept { made, same, new, left_out } = kept;
    let same = format!("{} as before, {} of them made", counted(*same, "picture"), made.len());
    let new = (*new > 0).then(|| format!("; {new} new"));
    let left_out = (*left_out > 0)
        .then(|| format!("; {left_out} not asked for any more, whose files stay if they were made"));
    output::note(format_args!("{same}{}{}", new.unwrap_or_default(), left_out.unwrap_or_default()));
}

fn tell_failed(folder: &Path, failed: &[Entry]) {
    for entry in failed.iter().take(TOLD) {
        let message = entry.error.as_ref().map_or("", |error| &error.message);
        let path = folder.join(&entry.path);
        output::note(format_args!("error: line {}: `{}`: {message}", entry.line, path.display()));
    }
    if failed.len() > TOLD {
        output::note(format_args!("error: and {} more, see the manifest", failed.len() - TOLD));
    }
}

/// A picture's key and the number of its attempt.
fn split_key(key: &str) -> (&str, usize) {
    let (key, attempt) = key.rsplit_once('-').unwrap_or((key, ""));
    (key, attempt.parse().unwrap_or(0))
}

fn remove_picture(path: &Path) -> Result<(), Failure> {
    folder::remove(&sidecar(path))?;
    folder::remove(path)
}

/// This call with `--resume`, as it is typed into a shell.
fn command_to_resume() -> String {
    let mut words: Vec<_> = env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".into());
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "_-./=:,+%@".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_a_shell_needs_it() {
        for (word, text) in
            [("--seed=7", "--seed=7"), ("a key", "'a key'"), ("", "''"), ("it's", r"'it'\''s'")]
        {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn a_key_is_found_in_that_of_an_attempt() {
        assert_eq!(split_key("12-0123abcd-3"), ("12-0123abcd", 3));
        assert_eq!(split_key(""), ("", 0));
    }
}
