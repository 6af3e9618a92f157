//! The JSON of an asset's record, `NAME.asset.json`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::asset::Asset;
use super::name::AssetId;
use crate::error::{Reason, one_line};
use crate::picture_file::Made;
use crate::pixel::{Certificate, Verdict};
use crate::stored;

/// The newest version that this program reads, and the one that it writes.
const FORMAT_VERSION: u32 = 2;

// Version 2 knows the verdict `unsure`. Other records stay readable for older programs.

/// An asset as it is stored. Fields are added with a default, and never renamed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    format_version: u32,
    id: AssetId,
    #[serde(with = "rfc3339")]
    created: SystemTime,
    file: String,
    blake3: String,
    bytes: u64,
    #[serde(with = "rfc3339")]
    modified: SystemTime,
    width: u32,
    height: u32,
    colors: usize,
    made: Option<stored::Provenance>,
    verdict: Option<Verdict>,
    certificate: Option<Certificate>,
    #[serde(default)]
    notes: BTreeMap<String, String>,
}

/// The reason why a record cannot be used.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) reason: Reason,
    pub(super) by_newer_version: bool,
}

impl Record {
    /// Reads an asset.
    pub(super) fn parse(json: &[u8]) -> Result<Asset, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version = serde_json::from_slice::<Version>(json).map(|version| version.format_version);
        if let Ok(version) = version
            && version > FORMAT_VERSION
        {
            let reason = format!(
                "has format version {version}; expected at most {FORMAT_VERSION}: a newer program wrote it"
            );
            return Err(Unreadable { reason: reason.into(), by_newer_version: true });
        }
        let broken = |reason: Reason| Unreadable { reason, by_newer_version: false };
        let record: Record = serde_json::from_slice(json)
            .map_err(|error| broken(("is no record of an asset", error).into()))?;
        let cannot_be = "says how it was made, which cannot be";
        let made = record.made.map(Made::try_from).transpose();
        let made = made.map_err(|error| broken((cannot_be, error).into()))?;
        if let Some(made) = &made {
            made.validate().map_err(|error| broken((cannot_be, error).into()))?;
        }
        Ok(Asset {
            id: record.id,
            created: record.created,
            file: record.file,
            blake3: record.blake3,
            bytes: record.bytes,
            modified: record.modified,
            width: record.width,
            height: record.height,
            colors: record.colors,
            made,
            verdict: record.verdict,
            certificate: record.certificate,
            notes: record.notes,
        })
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data turns into JSON; this is a bug") + "\n"
    }
}

impl Asset {
    /// Returns the JSON of the asset's record.
    pub fn to_json(&self) -> String {
        Record::from(self.clone()).json()
    }

    /// Reads the JSON of an asset's record.
    ///
    /// # Errors
    /// A clause that says what is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Asset, String> {
        Record::parse(json).map_err(|unreadable| one_line(&unreadable.reason))
    }
}

impl From<Asset> for Record {
    fn from(asset: Asset) -> Record {
        Record {
            format_version: if asset.verdict == Some(Verdict::Unsure) { FORMAT_VERSION } else { 1 },
            id: asset.id,
            created: asset.created,
            file: asset.file,
            blake3: asset.blake3,
            bytes: asset.bytes,
            modified: asset.modified,
            width: asset.width,
            height: asset.height,
            colors: asset.colors,
            made: asset.made.map(stored::Provenance::from),
            verdict: asset.verdict,
            certificate: asset.certificate,
            notes: asset.notes,
        }
    }
}

/// Times as people read them. Those before 1970 are no times of ours.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)
    }
}
