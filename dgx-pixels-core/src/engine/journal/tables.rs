//! What is in the journal's file: tables of JSON, and how they change.

use std::path::Path;

use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, Table, TableDefinition,
    WriteTransaction,
};
use serde::de::DeserializeOwned;

use super::record::{Entry, EntryState};
use super::{Unfinished, journal_error};
use crate::error::Error;
use crate::generator::Submission;
use crate::job::JobId;

/// Raised when an older program could not read what this one writes.
pub(super) const FORMAT_VERSION: u64 = 1;
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const VERSION_KEY: &str = "format_version";

/// Job → [`Submission`]. As text, ids sort as they do as numbers: by time of submission.
const SUBMISSIONS: TableDefinition<&str, &str> = TableDefinition::new("submissions");
/// Job → [`EntryState`].
const STATES: TableDefinition<&str, &str> = TableDefinition::new("states");
/// Idempotency key → job.
const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");

/// What is to become of one job, its JSON made already.
pub(super) enum Change {
    Accept { submission: String, key: Option<String> },
    Become(String),
    Finish,
}

fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    // Durability is `Immediate` by default.
    let mut transaction = database.begin_write()?;
    // After one sync alone, damage to the newest commit looks as if power was lost in it, and `redb` goes back to the one
    // before, telling nobody.
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// Makes all tables, empty, and says the version.
pub(super) fn create(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin_write(database)?;
    transaction.open_table(META)?.insert(VERSION_KEY, FORMAT_VERSION)?;
    Tables::open(&transaction)?;
    Ok(transaction.commit()?)
}

/// The version that the file says it has.
pub(super) fn version(database: &Database) -> Result<Option<u64>, redb::Error> {
    Ok(database.begin_read()?.open_table(META)?.get(VERSION_KEY)?.map(|version| version.value()))
}

/// Puts right what an earlier run left; its unfinished jobs in order of id.
pub(super) fn recover(database: &Database, ended_kept: usize) -> Result<Unfinished, redb::Error> {
    let mut unfinished = Vec::new();
    let mut changed: Vec<(String, EntryState)> = Vec::new();
    let mut forgotten = Vec::new();
    let transaction = begin_write(database)?;
    let mut tables = Tables::open(&transaction)?;
    if tables.states.len()? != tables.submissions.len()? {
        return Err(redb::Error::Corrupted("its jobs are not all there".into()));
    }
    let mut ended = 0;
    for entry in tables.states.iter()?.rev() {
        let (id, state) = entry?;
        let text = id.value();
        let id: JobId = text.parse().map_err(redb::Error::Corrupted)?;
        let submission = tables.submissions.get(text)?.ok_or_else(|| no_submission(text))?;
        let submission: Submission = parse(text, submission.value())?;
        match parse(text, state.value())? {
            EntryState::Accepted => unfinished.push((id, submission)),
            EntryState::Writing(record) if record.is_in_place() => {
                ended += 1;
                changed.push((text.into(), EntryState::Finished(record)));
            }
            EntryState::Writing(_) => {
                changed.push((text.into(), EntryState::Accepted));
                unfinished.push((id, submission));
            }
            EntryState::Finished(_) | EntryState::Failed { .. } => {
                ended += 1;
                if ended > ended_kept {
                    forgotten.push(text.to_owned());
                }
            }
        }
    }
    for (id, state) in &changed {
        tables.states.insert(&**id, &*json(state))?;
    }
    for id in &forgotten {
        tables.forget(id)?;
    }
    drop(tables);
    if !changed.is_empty() || !forgotten.is_empty() {
        transaction.commit()?;
    }
    unfinished.reverse();
    Ok(unfinished)
}

/// Forgets the `revoked` and makes the changes, all on the disk or none; an answer for each change, which may be refused
/// alone.
pub(super) fn commit(
    database: &Database,
    path: &Path,
    revoked: &[JobId],
    changes: &[(JobId, Change)],
) -> Result<Vec<Result<(), Error>>, redb::Error> {
    let transaction = begin_write(database)?;
    let mut tables = Tables::open(&transaction)?;
    for id in revoked {
        tables.forget(&id.to_string())?;
    }
    let made = changes.iter().map(|(id, change)| tables.make(path, &id.to_string(), change));
    let made: Vec<_> = made.collect::<Result<_, _>>()?;
    drop(tables);
    transaction.commit()?;
    Ok(made)
}

pub(super) fn find(database: &Database, id: JobId) -> Result<Option<Entry>, redb::Error> {
    let id = id.to_string();
    let transaction = database.begin_read()?;
    let Some(state) = transaction.open_table(STATES)?.get(&*id)? else { return Ok(None) };
    let submission = transaction.open_table(SUBMISSIONS)?.get(&*id)?;
    let submission = submission.ok_or_else(|| no_submission(&id))?;
    Ok(Some(Entry { submission: parse(&id, submission.value())?, state: parse(&id, state.value())? }))
}

pub(super) fn find_key(database: &Database, key: &str) -> Result<Option<JobId>, redb::Error> {
    let id = database.begin_read()?.open_table(KEYS)?.get(key)?;
    id.map(|id| id.value().parse().map_err(redb::Error::Corrupted)).transpose()
}

struct Tables<'a> {
    submissions: Table<'a, &'static str, &'static str>,
    states: Table<'a, &'static str, &'static str>,
    keys: Table<'a, &'static str, &'static str>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Tables<'a>, redb::Error> {
        Ok(Tables {
            submissions: transaction.open_table(SUBMISSIONS)?,
            states: transaction.open_table(STATES)?,
            keys: transaction.open_table(KEYS)?,
        })
    }

    /// Nothing is changed where it is refused.
    fn make(&mut self, path: &Path, id: &str, change: &Change) -> Result<Result<(), Error>, redb::Error> {
        let state = match self.states.get(id)? {
            Some(state) => Some(parse::<EntryState>(id, state.value())?),
            None => None,
        };
        let state_json = match (change, state) {
            (Change::Accept { submission, key }, _) => {
                if let Some(key) = key {
                    let taken =
                        self.keys.get(&**key)?.map(|id| id.value().to_owned()).filter(|taken| taken != id);
                    if let Some(taken) = taken {
                        return Ok(Err(Error::KeyTaken { key: key.clone(), id: taken }));
                    }
                    self.keys.insert(&**key, id)?;
                }
                self.submissions.insert(id, &**submission)?;
                json(&EntryState::Accepted)
            }
            (Change::Become(state), Some(_)) => state.clone(),
            (Change::Finish, Some(EntryState::Writing(record) | EntryState::Finished(record))) => {
                json(&EntryState::Finished(record))
            }
            (Change::Finish, Some(state)) => {
                let reason = format!("job {id} is `{}`; expected one that is being written", json(&state));
                return Ok(Err(journal_error(path, reason)));
            }
            (_, None) => {
                return Ok(Err(journal_error(path, format!("job {id} is not in it; expected one that is"))));
            }
        };
        self.states.insert(id, &*state_json)?;
        Ok(Ok(()))
    }

    fn forget(&mut self, id: &str) -> Result<(), redb::Error> {
        self.states.remove(id)?;
        let submission = match self.submissions.remove(id)? {
            Some(submission) => parse::<Submission>(id, submission.value())?,
            None => return Ok(()),
        };
        if let Some(key) = submission.idempotency_key {
            self.keys.remove(&*key)?;
        }
        Ok(())
    }
}

fn json(state: &EntryState) -> String {
    serde_json::to_string(state).expect("what was read as JSON is written as JSON; this is a bug")
}

fn parse<T: DeserializeOwned>(id: &str, json: &str) -> Result<T, redb::Error> {
    serde_json::from_str(json)
        .map_err(|error| redb::Error::Corrupted(format!("job {id} cannot be read: {error}")))
}

fn no_submission(id: &str) -> redb::Error {
    redb::Error::Corrupted(format!("job {id} has no submission"))
}
