//! The tables in the journal's file, which hold JSON, and their changes.
//!
//! Every change of a job is one transaction together with all others that wait, and a transaction
//! is on the disk as a whole or not at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable as _, Table, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;

use super::journal_error;
use super::place::Place;
use super::record::{Attempts, Entry, EntryState, Unfinished};
use crate::error::{Error, one_line};
use crate::job::JobId;
use crate::stored;
use crate::submission::Submission;
use crate::value_error::ValueError;

/// Raised when an older program could not read what this one writes. 2: the table of attempts, and
/// new kinds of errors. 3: the table of unreadable records, and submissions as [`stored`] has them.
/// 4: submissions that begin from an image.
/// Older versions are read too, and become this one when they are opened.
pub(super) const FORMAT_VERSION: u64 = 4;
const OLDEST_VERSION: u64 = 1;
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const VERSION_KEY: &str = "format_version";

/// Job → [`Submission`]. As text, ids sort as they do as numbers: by time of submission.
const SUBMISSIONS: TableDefinition<&str, &str> = TableDefinition::new("submissions");
/// Job → [`EntryState`].
const STATES: TableDefinition<&str, &str> = TableDefinition::new("states");
/// Idempotency key → job.
const KEYS: TableDefinition<&str, &str> = TableDefinition::new("keys");

/// Job → [`Attempts`], of those that run or during which the process has died.
const ATTEMPTS: TableDefinition<&str, &str> = TableDefinition::new("attempts");

/// Job → what was in the other tables of a record that could not be read, and why, for a person to
/// look at.
const UNREADABLE: TableDefinition<&str, &str> = TableDefinition::new("unreadable");

/// A change of one job, with its JSON already written.
pub(super) enum Change {
    Accept {
        submission: String,
        key: Option<String>,
    },
    /// It is about to be begun.
    Begin,
    /// It is not begun any more, and waits.
    Rest,
    /// Its file is about to be written.
    Write(String),
    Finish,
    Fail(String),
}

/// The names of all changes.
pub(crate) const OPERATIONS: [&str; 6] = ["accept", "begin", "rest", "write", "finish", "fail"];

impl Change {
    /// Its name among [`OPERATIONS`].
    pub(super) fn operation(&self) -> &'static str {
        let index = match self {
            Change::Accept { .. } => 0,
            Change::Begin => 1,
            Change::Rest => 2,
            Change::Write(_) => 3,
            Change::Finish => 4,
            Change::Fail(_) => 5,
        };
        OPERATIONS[index]
    }
}

/// The jobs that an earlier run left.
#[derive(Default)]
pub(super) struct Left {
    /// The jobs that have not ended, in order of id.
    pub(super) unfinished: Vec<Unfinished>,
    /// The jobs that have failed just now, because the process died too often while they ran.
    pub(super) given_up: Vec<JobId>,
    /// The number of records that could not be read just now, and cost no more than themselves.
    pub(super) unreadable: usize,
}

fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    // Durability is `Immediate` by default.
    let mut transaction = database.begin_write()?;
    // After one sync alone, damage to the newest commit looks as if power was lost in it, and
    // `redb` goes back to the one before, telling nobody.
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
pub(super) fn version(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    Ok(database.begin_read()?.open_table(META)?.get(VERSION_KEY)?.map(|version| version.value()))
}

/// `true` if this program reads that version.
pub(super) fn is_readable(version: u64) -> bool {
    (OLDEST_VERSION..=FORMAT_VERSION).contains(&version)
}

/// Puts right what an earlier run left. Jobs that ran when it ended are told from those that
/// waited: the process died while they ran. `place` is where the last call was, if that is known.
pub(super) fn recover(
    database: &Database,
    ended_kept: usize,
    place: Option<&Place>,
) -> Result<Left, redb::Error> {
    let mut left = Left::default();
    let mut changed: Vec<(String, EntryState)> = Vec::new();
    let mut forgotten = Vec::new();
    let transaction = begin_write(database)?;
    let is_older = {
        let mut meta = transaction.open_table(META)?;
        let version = meta.insert(VERSION_KEY, FORMAT_VERSION)?.map(|version| version.value());
        version != Some(FORMAT_VERSION)
    };
    let mut tables = Tables::open(&transaction)?;
    left.unreadable = tables.put_unreadable_aside()?;
    let mut attempts = tables.all_attempts()?;
    let alone = attempts.values().filter(|attempts| attempts.running).count() == 1;
    let died = attempts.values().any(|attempts| attempts.running);
    let mut ended = 0;
    for entry in tables.states.iter()?.rev() {
        let (id, state) = entry?;
        let text = id.value();
        let id: JobId = text.parse().map_err(no_id)?;
        let submission = tables.submissions.get(text)?.ok_or_else(|| no_submission(text))?;
        let submission = submission_of(text, submission.value())?;
        match parse(text, state.value())? {
            EntryState::Accepted => {
                let known = attempts.entry(text.to_owned()).or_default();
                let place = place.filter(|place| place.id == id).map(|place| &*place.at);
                match known.running {
                    true if alone => known.died_alone(place),
                    true => known.died_beside(),
                    false => {}
                }
                if known.is_enough() {
                    ended += 1;
                    let (deaths, alone) = (known.deaths(), known.alone);
                    let error = Error::ProcessDied { deaths, alone, place: known.place.clone() };
                    let failed = EntryState::Failed { kind: error.kind(), message: one_line(&error) };
                    changed.push((text.into(), failed));
                    left.given_up.push(id);
                } else {
                    left.unfinished.push(Unfinished { id, submission, deaths: known.deaths() });
                }
            }
            EntryState::Writing(record) if record.is_in_place() => {
                ended += 1;
                changed.push((text.into(), EntryState::Finished(record)));
            }
            EntryState::Writing(_) => {
                changed.push((text.into(), EntryState::Accepted));
                let deaths = attempts.get(text).map_or(0, |attempts| attempts.deaths());
                left.unfinished.push(Unfinished { id, submission, deaths });
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
    if died {
        let unfinished: HashSet<_> = left.unfinished.iter().map(|job| job.id.to_string()).collect();
        for (id, known) in &attempts {
            let known = if unfinished.contains(id) { known.clone() } else { Attempts::default() };
            tables.remember(id, known)?;
        }
    }
    drop(tables);
    if is_older || died || left.unreadable > 0 || !changed.is_empty() || !forgotten.is_empty() {
        transaction.commit()?;
    }
    left.unfinished.reverse();
    left.given_up.reverse();
    Ok(left)
}

/// Copies the jobs of another journal that are not in this one, all or none; their ids. A key that
/// stands for a job here stays that job's.
pub(super) fn merge(from: &Database, into: &Database) -> Result<HashSet<JobId>, redb::Error> {
    let mut copied = HashSet::new();
    let from = from.begin_read()?;
    let (submissions, states) = (from.open_table(SUBMISSIONS)?, from.open_table(STATES)?);
    let attempts = from.open_table(ATTEMPTS)?;
    let transaction = begin_write(into)?;
    let mut tables = Tables::open(&transaction)?;
    for entry in from.open_table(UNREADABLE)?.iter()? {
        let (id, record) = entry?;
        tables.unreadable.insert(id.value(), record.value())?;
    }
    for entry in states.iter()? {
        let (id, state) = entry?;
        let id = id.value();
        if tables.states.get(id)?.is_some() {
            continue;
        }
        let text = submissions.get(id)?.ok_or_else(|| no_submission(id))?;
        let submission = submission_of(id, text.value())?;
        if let Some(key) = &submission.idempotency_key
            && tables.keys.get(&**key)?.is_none()
        {
            tables.keys.insert(&**key, id)?;
        }
        tables.submissions.insert(id, text.value())?;
        tables.states.insert(id, state.value())?;
        if let Some(known) = attempts.get(id)? {
            tables.attempts.insert(id, known.value())?;
        }
        copied.insert(id.parse().map_err(no_id)?);
    }
    drop(tables);
    transaction.commit()?;
    Ok(copied)
}

/// Forgets the `revoked` and makes the changes, all on the disk or none; an answer for each change,
/// which may be refused alone.
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
    Ok(Some(Entry { submission: submission_of(&id, submission.value())?, state: parse(&id, state.value())? }))
}

pub(super) fn find_key(database: &Database, key: &str) -> Result<Option<JobId>, redb::Error> {
    let id = database.begin_read()?.open_table(KEYS)?.get(key)?;
    id.map(|id| id.value().parse().map_err(no_id)).transpose()
}

struct Tables<'a> {
    submissions: Table<'a, &'static str, &'static str>,
    states: Table<'a, &'static str, &'static str>,
    keys: Table<'a, &'static str, &'static str>,
    attempts: Table<'a, &'static str, &'static str>,
    unreadable: Table<'a, &'static str, &'static str>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Tables<'a>, redb::Error> {
        Ok(Tables {
            submissions: transaction.open_table(SUBMISSIONS)?,
            states: transaction.open_table(STATES)?,
            keys: transaction.open_table(KEYS)?,
            attempts: transaction.open_table(ATTEMPTS)?,
            unreadable: transaction.open_table(UNREADABLE)?,
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
            (Change::Begin, Some(EntryState::Accepted)) => {
                self.runs(id, true)?;
                return Ok(Ok(()));
            }
            (Change::Rest, Some(_)) => {
                self.runs(id, false)?;
                return Ok(Ok(()));
            }
            (Change::Write(state), Some(_)) => {
                self.runs(id, false)?;
                state.clone()
            }
            (Change::Fail(state), Some(_)) => {
                self.attempts.remove(id)?;
                state.clone()
            }
            (Change::Finish, Some(EntryState::Writing(record) | EntryState::Finished(record))) => {
                self.attempts.remove(id)?;
                json(&EntryState::Finished(record))
            }
            (Change::Finish | Change::Begin, Some(state)) => {
                let expected = match change {
                    Change::Begin => "that waits",
                    _ => "that is being written",
                };
                let reason = format!("job {id} is `{}`; expected one {expected}", json(&state));
                return Ok(Err(journal_error(path, reason)));
            }
            (_, None) => {
                return Ok(Err(journal_error(path, format!("job {id} is not in it; expected one that is"))));
            }
        };
        self.states.insert(id, &*state_json)?;
        Ok(Ok(()))
    }

    /// Moves every record that cannot be read to a table of its own; their number.
    fn put_unreadable_aside(&mut self) -> Result<usize, redb::Error> {
        let mut faults: BTreeMap<String, String> = BTreeMap::new();
        for entry in self.states.iter()? {
            let (id, state) = entry?;
            let id = id.value();
            let submission = self.submissions.get(id)?;
            let read = id.parse::<JobId>().map_err(|error| redb::Error::Corrupted(error.to_string()));
            let read = read.and_then(|_| parse::<EntryState>(id, state.value()));
            let read = read.and_then(|_| submission.ok_or_else(|| no_submission(id)));
            let read = read.and_then(|submission| submission_of(id, submission.value()));
            if let Err(fault) = read {
                faults.insert(id.to_owned(), fault.to_string());
            }
        }
        for entry in self.submissions.iter()? {
            let (id, _) = entry?;
            if self.states.get(id.value())?.is_none() {
                faults.insert(id.value().to_owned(), format!("job {} has no state", id.value()));
            }
        }
        for entry in self.attempts.iter()? {
            let (id, known) = entry?;
            if let Err(fault) = parse::<Attempts>(id.value(), known.value()) {
                faults.insert(id.value().to_owned(), fault.to_string());
            }
        }
        for (id, reason) in &faults {
            tracing::warn!(job = id, reason, "a record of the journal cannot be read and is put aside");
            let [submission, state, attempts] = [
                self.submissions.remove(&**id)?.map(|text| text.value().to_owned()),
                self.states.remove(&**id)?.map(|text| text.value().to_owned()),
                self.attempts.remove(&**id)?.map(|text| text.value().to_owned()),
            ];
            let record = serde_json::json!({
                "reason": reason, "submission": submission, "state": state, "attempts": attempts,
            });
            self.unreadable.insert(&**id, &*record.to_string())?;
            self.keys.retain(|_, of| of != id)?;
        }
        Ok(faults.len())
    }

    fn attempts(&self, id: &str) -> Result<Attempts, redb::Error> {
        let known = self.attempts.get(id)?;
        known.map_or(Ok(Attempts::default()), |known| parse(id, known.value()))
    }

    fn all_attempts(&self) -> Result<HashMap<String, Attempts>, redb::Error> {
        let mut all = HashMap::new();
        for entry in self.attempts.iter()? {
            let (id, known) = entry?;
            all.insert(id.value().to_owned(), parse(id.value(), known.value())?);
        }
        Ok(all)
    }

    fn runs(&mut self, id: &str, running: bool) -> Result<(), redb::Error> {
        let known = self.attempts(id)?;
        self.remember(id, Attempts { running, ..known })
    }

    fn remember(&mut self, id: &str, known: Attempts) -> Result<(), redb::Error> {
        if known == Attempts::default() {
            self.attempts.remove(id)?;
        } else {
            let json = serde_json::to_string(&known).expect("plain data turns into JSON; this is a bug");
            self.attempts.insert(id, &*json)?;
        }
        Ok(())
    }

    fn forget(&mut self, id: &str) -> Result<(), redb::Error> {
        self.states.remove(id)?;
        self.attempts.remove(id)?;
        let submission = match self.submissions.remove(id)? {
            Some(submission) => submission_of(id, submission.value())?,
            None => return Ok(()),
        };
        // In merged journals a key may stand for another job.
        if let Some(key) = submission.idempotency_key
            && self.keys.get(&*key)?.is_some_and(|of| of.value() == id)
        {
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

fn submission_of(id: &str, json: &str) -> Result<Submission, redb::Error> {
    parse::<stored::Submission>(id, json).map(Submission::from)
}

fn no_id(error: ValueError) -> redb::Error {
    redb::Error::Corrupted(error.to_string())
}

fn no_submission(id: &str) -> redb::Error {
    redb::Error::Corrupted(format!("job {id} has no submission"))
}
