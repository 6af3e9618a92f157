//! The library in memory: what is there, newest first, and how it is asked for in pages.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use event_listener::{Event, listener};
use serde::{Deserialize, Serialize};

use super::asset::Asset;
use super::clean::Usage;
use super::name::{AssetId, shown};
use super::place::Stamp;
use crate::value_error::ValueError;

/// The most assets on one page.
pub const MAX_LIMIT: usize = 1000;

/// Longer than file systems on local disks give different changes the same time.
const TICK: Duration = Duration::from_millis(50);

/// The choice of assets to list. Of several conditions all must hold; without any, all assets are
/// listed.
///
/// # Example
/// ```
/// use dgx_pixels_core::library::{Library, Query, Quota};
/// # let folder = tempfile::tempdir()?;
/// let library = Library::open(folder.path(), Quota::default())?;
/// let query = Query { prefix: Some("enemy".into()), limit: 10, ..Default::default() };
/// assert!(library.list(&query)?.assets.is_empty());
/// assert!(library.list(&Query { limit: 0, ..query }).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// The text that the id begins with.
    pub prefix: Option<String>,
    /// A text in the prompt or in a note, in whichever case.
    pub text: Option<String>,
    /// The model's name.
    pub model: Option<String>,
    /// The end of the previous page.
    pub after: Option<Cursor>,
    /// The most assets on the page, 1 to [`MAX_LIMIT`]. Default: 50.
    pub limit: usize,
}

impl Default for Query {
    fn default() -> Self {
        Query { prefix: None, text: None, model: None, after: None, limit: 50 }
    }
}

/// Some assets, newest first.
///
/// # Example
/// The assets of all pages:
/// ```
/// use dgx_pixels_core::library::{Library, Query, Quota};
/// # let folder = tempfile::tempdir()?;
/// let library = Library::open(folder.path(), Quota::default())?;
/// let mut query = Query::default();
/// let mut names = vec![];
/// loop {
///     let page = library.list(&query)?;
///     names.extend(page.assets.into_iter().map(|asset| asset.id));
///     query.after = page.next;
///     if query.after.is_none() {
///         break;
///     }
/// }
/// assert!(names.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The assets whose images are there. One that was deleted or changed is left out;
    /// [`get`](super::Library::get) reports it.
    pub assets: Vec<Asset>,
    /// The cursor for [`Query::after`], if there may be more.
    pub next: Option<Cursor>,
}

/// The place between two assets of a list. It keeps its meaning whatever is added or removed
/// meanwhile.
/// Its text can be handed to a client, which gives it back for the next page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    created: SystemTime,
    id: AssetId,
}

impl Cursor {
    pub(super) fn of(asset: &Asset) -> Cursor {
        Cursor { created: asset.created, id: asset.id.clone() }
    }

    pub(super) fn id(&self) -> &AssetId {
        &self.id
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", humantime::format_rfc3339_nanos(self.created), self.id)
    }
}

impl FromStr for Cursor {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Cursor, ValueError> {
        let parsed = text.split_once("Z.").and_then(|(time, id)| {
            let created = humantime::parse_rfc3339(&format!("{time}Z")).ok()?;
            Some(Cursor { created, id: id.parse().ok()? })
        });
        let expected = "the one that came with the page before, or none for the first page";
        parsed.ok_or_else(|| ValueError::new("cursor", shown(text), expected))
    }
}

impl TryFrom<String> for Cursor {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Cursor, ValueError> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> String {
        cursor.to_string()
    }
}

/// A query, checked and made ready.
pub(super) struct Wanted<'a> {
    query: &'a Query,
    text: Option<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(query: &'a Query) -> Result<Wanted<'a>, ValueError> {
        if !(1..=MAX_LIMIT).contains(&query.limit) {
            return Err(ValueError::new("limit", query.limit, format!("1 to {MAX_LIMIT}")));
        }
        Ok(Wanted { query, text: query.text.as_ref().map(|text| text.to_lowercase()) })
    }

    fn takes(&self, entry: &Entry) -> bool {
        let asset = &entry.asset;
        self.query.prefix.as_ref().is_none_or(|prefix| asset.id.as_str().starts_with(prefix))
            && self
                .query
                .model
                .as_ref()
                .is_none_or(|model| asset.made.as_ref().is_some_and(|made| made.model == *model))
            && self.text.as_ref().is_none_or(|text| entry.text.contains(text))
    }
}

/// An asset as it was last seen.
pub(super) struct Entry {
    pub(super) asset: Asset,
    /// The stamp of its record.
    pub(super) stamp: Stamp,
    /// Its picture's, when it was last known to be the one recorded.
    pub(super) modified: SystemTime,
    /// The text in which words are searched, in lower case.
    text: String,
}

/// All that is known. Whoever changes it tells those who wait for [`Changes`].
#[derive(Default)]
pub(super) struct Index {
    entries: BTreeMap<Cursor, Entry>,
    known: HashMap<AssetId, Known>,
    /// Folders without an asset that can be used.
    pub(super) unfinished: HashSet<AssetId>,
    /// The assets that were warned about.
    pub(super) warned: HashSet<AssetId>,
    pub(super) signal: Arc<Signal>,
    root: Option<RootSeen>,
    /// Counts the looks around in the root.
    scan: u64,
}

struct Known {
    created: SystemTime,
    /// The last look around that found its folder.
    scan: u64,
}

struct RootSeen {
    modified: SystemTime,
    /// The time at which this was first seen.
    at: Instant,
    /// The time at which the last scan began.
    scanned: Instant,
}

impl Index {
    pub(super) fn usage(&self) -> Usage {
        let bytes = self.entries.values().map(|entry| entry.asset.bytes);
        // A record may claim anything.
        let bytes = bytes.fold(0, u64::saturating_add);
        Usage { assets: self.entries.len(), unfinished: self.unfinished.len(), bytes }
    }

    pub(super) fn get(&self, id: &AssetId) -> Option<&Entry> {
        self.entries.get(&Cursor { created: self.known.get(id)?.created, id: id.clone() })
    }

    pub(super) fn get_mut(&mut self, id: &AssetId) -> Option<&mut Entry> {
        self.entries.get_mut(&Cursor { created: self.known.get(id)?.created, id: id.clone() })
    }

    pub(super) fn has_asset(&self, id: &AssetId) -> bool {
        self.known.contains_key(id)
    }

    pub(super) fn contains(&self, id: &AssetId) -> bool {
        self.has_asset(id) || self.unfinished.contains(id)
    }

    pub(super) fn insert(&mut self, asset: Asset, stamp: Stamp) {
        let id = &asset.id;
        let known = Known { created: asset.created, scan: self.scan };
        if let Some(Known { created, .. }) = self.known.insert(id.clone(), known) {
            self.entries.remove(&Cursor { created, id: id.clone() });
        }
        self.unfinished.remove(id);
        self.warned.remove(id);
        let prompt = asset.made.iter().map(|made| &made.request.prompt);
        let texts: Vec<_> = prompt.chain(asset.notes.values()).map(|text| text.to_lowercase()).collect();
        let entry = Entry { stamp, modified: asset.modified, text: texts.join("\n"), asset };
        self.entries.insert(Cursor::of(&entry.asset), entry);
        self.signal.tell();
    }

    /// Takes in what is on the disk already, and tells only of news.
    pub(super) fn insert_if_new(&mut self, asset: Asset, stamp: Stamp) {
        if self.get(&asset.id).is_none_or(|entry| entry.stamp != stamp) {
            self.insert(asset, stamp);
        }
    }

    pub(super) fn remove(&mut self, id: &AssetId) {
        self.unfinished.remove(id);
        self.warned.remove(id);
        if let Some(Known { created, .. }) = self.known.remove(id) {
            self.entries.remove(&Cursor { created, id: id.clone() });
            self.signal.tell();
        }
    }

    /// Begins a look around.
    pub(super) fn begin_scan(&mut self) {
        self.scan += 1;
    }

    /// `true` if the folder of this name is a known asset's. That asset stays then.
    pub(super) fn finds(&mut self, folder: &str) -> bool {
        let known = self.known.get_mut(folder);
        known.map(|known| known.scan = self.scan).is_some()
    }

    /// Ends a look around: forgets all that was not found, neither before nor among `others`.
    pub(super) fn end_scan(&mut self, others: &HashSet<AssetId>) {
        let gone = self.known.iter().filter(|(_, known)| known.scan != self.scan);
        let gone: Vec<_> = gone.map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.remove(id));
        self.unfinished.retain(|id| others.contains(id));
        self.warned.retain(|id| others.contains(id));
    }

    /// All, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().rev()
    }

    /// The first after `after` that is wanted.
    pub(super) fn next(&self, wanted: &Wanted<'_>, after: Option<&Cursor>) -> Option<Cursor> {
        let end = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut older = self.entries.range((Bound::Unbounded, end)).rev();
        older.find(|(_, entry)| wanted.takes(entry)).map(|(cursor, _)| cursor.clone())
    }

    pub(super) fn takes(&self, wanted: &Wanted<'_>, cursor: &Cursor) -> bool {
        self.entries.get(cursor).is_some_and(|entry| wanted.takes(entry))
    }

    /// `true` if the root, which was changed at `modified`, has to be scanned.
    ///
    /// Changes within one tick of the file system's clock have the same time, so one look is not
    /// enough after the first. No clock that can be set is asked.
    pub(super) fn must_scan(&mut self, modified: SystemTime, now: Instant) -> bool {
        match &mut self.root {
            Some(root) if root.modified == modified => {
                let must = root.scanned < root.at + TICK;
                if must {
                    root.scanned = now;
                }
                must
            }
            root => {
                *root = Some(RootSeen { modified, at: now, scanned: now });
                true
            }
        }
    }

    /// Has the next [`must_scan`](Index::must_scan) be true.
    pub(super) fn look_again(&mut self) {
        self.root = None;
    }
}

/// Counts changes, and wakes those who wait for one.
#[derive(Default)]
pub(super) struct Signal {
    count: AtomicU64,
    event: Event,
}

impl Signal {
    fn tell(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.event.notify(usize::MAX);
    }
}

/// Tells that the list of assets has changed.
///
/// # Example
/// ```
/// use std::future::Future as _;
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// use dgx_pixels_core::library::{AssetName, Library, Quota};
/// use dgx_pixels_core::picture_file::sprite_png;
/// # let folder = tempfile::tempdir()?;
///
/// let library = Library::open(folder.path(), Quota::default())?;
/// let mut changes = library.changes();
/// let mut context = Context::from_waker(Waker::noop());
/// assert_eq!(pin!(changes.next()).poll(&mut context), Poll::Pending);
///
/// let reserved = library.reserve(&AssetName::from_prompt("a key"))?;
/// std::fs::write(reserved.png(), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
/// library.add(reserved.id(), None, Default::default())?;
/// assert_eq!(pin!(changes.next()).poll(&mut context), Poll::Ready(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Changes {
    signal: Arc<Signal>,
    seen: u64,
}

impl Changes {
    pub(super) fn new(signal: Arc<Signal>) -> Changes {
        let seen = signal.count.load(Ordering::SeqCst);
        Changes { signal, seen }
    }

    /// Waits, as a future of any runtime, until assets were added, removed or recorded anew since
    /// this was asked last, or since [`changes`](super::Library::changes). Many changes may be told
    /// of at once.
    pub async fn next(&mut self) {
        loop {
            listener!(self.signal.event => changed);
            let count = self.signal.count.load(Ordering::SeqCst);
            if count != self.seen {
                self.seen = count;
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_no_other() {
        let created = SystemTime::UNIX_EPOCH + Duration::new(1_800_000_000, 7);
        let cursor = Cursor { created, id: "key-2".parse().unwrap() };
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for text in ["", "7", "Z.", "2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z.../key", "0Z.key"] {
            let error = text.parse::<Cursor>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`cursor` is `{text}`; expected ")), "{error}");
        }
    }

    #[test]
    fn a_root_is_looked_at_again_until_its_tick_is_over() {
        let mut index = Index::default();
        let (now, time) = (Instant::now(), SystemTime::UNIX_EPOCH);
        assert!(index.must_scan(time, now));
        assert!(index.must_scan(time, now + TICK / 2), "there may have been another change in the tick");
        assert!(index.must_scan(time, now + TICK));
        assert!(!index.must_scan(time, now + TICK));
        assert!(index.must_scan(time - Duration::from_secs(3600), now + TICK), "a clock that was set back");
    }
}
