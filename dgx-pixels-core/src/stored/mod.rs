//! The JSON that the journal, PNG files and asset records hold.
//!
//! Callers never see these types: the public ones may be renamed and grow without making a stored
//! job or image unreadable. A field is added here with a default and a newer
//! [`version`](Provenance); none is ever renamed or given another meaning.

mod provenance;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use self::provenance::Provenance;
pub(crate) use self::request::{Pixel, Request, Submission};
