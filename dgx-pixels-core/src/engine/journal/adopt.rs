//! Journals of engines that have ended become part of one that is open.
//!
//! A journal changes its owner by a rename, which happens or does not: the file of a folder that
//! nobody has locked moves into the folder of the one who adopts it. From then on only who holds
//! that folder looks at it. Its jobs are copied in one commit, and it is removed after that; a copy
//! that is made again after a kill finds its jobs there and changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use redb::Database;
use uuid::Uuid;

use super::file::{Fault, attempt, put_aside, sync_folder};
use super::opening::{lock, read};
use super::tables::{self, Left};
use crate::error::one_line;
use crate::job::JobId;

/// The names of journals that were taken and are not merged yet.
const PREFIX: &str = "adopted-";

/// Moves the journals in `others` that nobody has open into `folder`, whose lock the caller has.
/// The jobs in them that have failed just now, as the process died too often while they ran.
pub(super) fn take(folder: &Path, others: &[PathBuf]) -> Vec<JobId> {
    let mut given_up = vec![];
    for other in others {
        let is_same = fs::canonicalize(other).ok() == fs::canonicalize(folder).ok();
        if is_same || !other.is_dir() {
            continue;
        }
        match take_one(folder, other, &mut given_up) {
            Ok(0) => {}
            Ok(_) => tracing::info!(journal = %other.display(), "a journal that nobody held is adopted"),
            Err(error) => {
                tracing::warn!(journal = %other.display(), %error, "a journal cannot be adopted");
            }
        }
    }
    given_up
}

/// The number of files that were moved.
fn take_one(folder: &Path, other: &Path, given_up: &mut Vec<JobId>) -> io::Result<usize> {
    let mut files = adopted(other)?;
    let own = other.join("journal.redb");
    if own.try_exists()? {
        files.push(own);
    }
    if files.is_empty() {
        return Ok(0);
    }
    // An engine that runs has it.
    let Some(_lock) = lock(other)? else { return Ok(0) };
    let mut taken = 0;
    for file in files {
        // Put right where it is, beside the note of where its process died. What cannot be read
        // stays, for the next engine that has this folder, or a newer program.
        match attempt(|| read(&file, usize::MAX).map(|(_, left)| left)) {
            Ok(left) => given_up.extend(left.given_up),
            Err(fault) => {
                let (journal, reason) = (file.display(), one_line(&fault.reason()));
                tracing::warn!(%journal, reason, "a journal cannot be adopted");
                continue;
            }
        }
        let new = folder.join(format!("{PREFIX}{}.redb", Uuid::now_v7()));
        fs::rename(&file, &new)?;
        sync_folder(&new)?;
        sync_folder(&file)?;
        taken += 1;
    }
    Ok(taken)
}

/// Journals in `folder` that were taken and are not merged yet.
fn adopted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(".redb")) {
            found.push(folder.join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the journals that were taken part of `database`, and adds to `left` what they left. One
/// that cannot be merged now is tried again when the journal is next opened.
pub(super) fn merge_adopted(folder: &Path, database: &Database, left: &mut Left, given_up: &[JobId]) {
    let files = adopted(folder).unwrap_or_else(|error| {
        tracing::warn!(folder = %folder.display(), %error, "adopted journals cannot be looked for");
        vec![]
    });
    for file in files {
        let merged = attempt(|| {
            let (other, found) = read(&file, usize::MAX)?;
            Ok((tables::merge(&other, database)?, found))
        });
        match merged {
            Ok((copied, Left { unfinished, given_up: now, unreadable })) => {
                left.unreadable += unreadable;
                left.unfinished.extend(unfinished.into_iter().filter(|job| copied.contains(&job.id)));
                let given_up = now.iter().chain(given_up).copied();
                left.given_up.extend(given_up.filter(|id| copied.contains(id)));
                if let Err(error) = fs::remove_file(&file).and_then(|()| sync_folder(&file)) {
                    tracing::warn!(journal = %file.display(), %error, "a merged journal cannot be removed");
                }
            }
            Err(Fault::Corrupt(reason)) => {
                let aside = put_aside(&file).ok();
                tracing::warn!(journal = %file.display(), ?aside, reason = one_line(&reason), "an adopted journal is damaged");
            }
            Err(Fault::Other(reason)) => {
                let (journal, reason) = (file.display(), one_line(&reason));
                tracing::warn!(%journal, reason, "an adopted journal cannot be merged now");
            }
        }
    }
    left.unfinished.sort_by_key(|job| job.id);
    left.given_up.sort();
}
