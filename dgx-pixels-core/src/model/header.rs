//! The header of a safetensors file, read without trust: every number in it is checked before it is
//! used, and what is kept takes at most twice the header's own bytes.
//!
//! Format: <https://github.com/huggingface/safetensors>, "Format". A file is eight bytes with the
//! length of the header, the header in JSON, and the bytes of all tensors without holes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use safetensors::Dtype;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most bytes of a header. SDXL's largest has about 300 KB; metadata with a thumbnail has a few
/// MB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// The most tensors of one file. A LoRA for everything in SDXL has about 3,000.
const MAX_TENSORS: usize = 20_000;
/// The most dimensions of one tensor.
const MAX_DIMENSIONS: usize = 8;
/// The most notes in the metadata.
const MAX_NOTES: usize = 1024;
/// The entry of a header that holds notes and no tensor.
const METADATA: &str = "__metadata__";

/// A tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// The name in the file.
    pub name: Box<str>,
    /// The precision.
    pub dtype: Dtype,
    /// The sides.
    pub shape: Box<[usize]>,
    /// The place of its bytes, counted from the beginning of the file.
    pub bytes: Range<usize>,
}

/// A header that fits its file.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// All tensors, by name.
    pub tensors: Vec<StoredTensor>,
    /// The notes that the file's author left, by name. They are anybody's text.
    pub notes: BTreeMap<Box<str>, Box<str>>,
}

/// The reason why a header is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("its header has {found} bytes; expected at most {MAX_HEADER_BYTES}")]
    TooLong { found: u64 },
    #[error("it has {found} bytes; expected 8 and a header")]
    Empty { found: usize },
    #[error("its header ends at byte {end}, after the end of the file")]
    Cut { end: u64 },
    #[error("its header is no JSON of tensors")]
    Json(#[from] serde_json::Error),
    #[error("it has {found} tensors; expected at most {MAX_TENSORS}")]
    TooMany { found: usize },
    #[error("it has two tensors `{name}`; expected one")]
    Twice { name: String },
    #[error("`{name}` has {found} dimensions; expected at most {MAX_DIMENSIONS}")]
    Dimensions { name: String, found: usize },
    #[error("`{name}` is {shape:?} in {dtype:?} and has {bytes} bytes; expected as many as its numbers take")]
    Size { name: String, shape: Box<[usize]>, dtype: Dtype, bytes: usize },
    #[error("`{name}` begins at {begins} of the tensors' bytes; expected {expected}")]
    Place { name: String, begins: usize, expected: usize },
    #[error("the tensors end at byte {expected} and the file at {found}")]
    End { found: usize, expected: usize },
}

impl Header {
    /// Reads the header of a whole file.
    ///
    /// # Errors
    /// Names the tensor at fault, and what would be right.
    pub(super) fn read(file: &[u8]) -> Result<Header, HeaderError> {
        let Some(length) = file.first_chunk().map(|length| u64::from_le_bytes(*length)) else {
            return Err(HeaderError::Empty { found: file.len() });
        };
        if length > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLong { found: length });
        }
        let end = length + 8;
        let json = usize::try_from(end).ok().and_then(|end| file.get(8..end));
        let (Some(json), Ok(data)) = (json, usize::try_from(end)) else {
            return Err(HeaderError::Cut { end });
        };

        // Counted first, so that the list is made once and at its length.
        let count = read(json, Count)?;
        if count > MAX_TENSORS {
            return Err(HeaderError::TooMany { found: count });
        }
        let mut header = read(json, Entries { count, data })?;
        header.tensors.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        if let Some(pair) = header.tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(HeaderError::Twice { name: shown(&pair[0].name) });
        }
        header.check(data, file.len())?;
        Ok(header)
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        let place = self.tensors.binary_search_by(|tensor| (*tensor.name).cmp(name)).ok()?;
        Some(&self.tensors[place])
    }

    /// Checks that the tensors lie one after the other from `data` to the end of the file, each
    /// with as many bytes as its numbers take.
    fn check(&self, data: usize, length: usize) -> Result<(), HeaderError> {
        for tensor in &self.tensors {
            let name = || shown(&tensor.name);
            if tensor.shape.len() > MAX_DIMENSIONS {
                return Err(HeaderError::Dimensions { name: name(), found: tensor.shape.len() });
            }
            let numbers = tensor.shape.iter().try_fold(1_usize, |all, side| all.checked_mul(*side));
            let bits = numbers.and_then(|numbers| numbers.checked_mul(tensor.dtype.bitsize()));
            let bytes = tensor.bytes.end.checked_sub(tensor.bytes.start);
            if bits
                .zip(bytes.and_then(|bytes| bytes.checked_mul(8)))
                .is_none_or(|(bits, bytes)| bits != bytes)
            {
                let (shape, dtype) = (tensor.shape.clone(), tensor.dtype);
                return Err(HeaderError::Size { name: name(), shape, dtype, bytes: bytes.unwrap_or(0) });
            }
        }
        let mut order: Vec<u32> = (0..self.tensors.len() as u32).collect();
        order.sort_unstable_by_key(|i| {
            let bytes = &self.tensors[*i as usize].bytes;
            (bytes.start, bytes.end)
        });
        let mut expected = data;
        for tensor in order.into_iter().map(|i| &self.tensors[i as usize]) {
            if tensor.bytes.start != expected {
                let begins = tensor.bytes.start - data;
                return Err(HeaderError::Place {
                    name: shown(&tensor.name),
                    begins,
                    expected: expected - data,
                });
            }
            expected = tensor.bytes.end;
        }
        if expected != length {
            return Err(HeaderError::End { found: length, expected });
        }
        Ok(())
    }
}

/// A name of somebody else's file, for an error: escaped, and cut where it is long.
pub fn shown(name: &str) -> String {
    let escaped: String = name.chars().take(200).flat_map(char::escape_debug).collect();
    if name.chars().nth(200).is_some() { format!("{escaped}…") } else { escaped }
}

fn read<'a, T: DeserializeSeed<'a>>(json: &'a [u8], seed: T) -> Result<T::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = seed.deserialize(&mut deserializer)?;
    // Files are padded with spaces.
    deserializer.end()?;
    Ok(value)
}

/// A text that is borrowed from the JSON where it has no escapes.
struct Text;

impl<'a> DeserializeSeed<'a> for Text {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Text {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// The number of entries that are tensors.
struct Count;

impl<'a> DeserializeSeed<'a> for Count {
    type Value = usize;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Count {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while let Some(name) = map.next_key_seed(Text)? {
            map.next_value::<IgnoredAny>()?;
            count += usize::from(name != METADATA);
        }
        Ok(count)
    }
}

/// All entries, `count` of them tensors; their bytes begin at `data`.
struct Entries {
    count: usize,
    data: usize,
}

impl<'a> DeserializeSeed<'a> for Entries {
    type Value = Header;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Header, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Entries {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { tensors: Vec::with_capacity(self.count), notes: BTreeMap::new() };
        while let Some(name) = map.next_key_seed(Text)? {
            if name == METADATA {
                header.notes.append(&mut map.next_value_seed(Notes)?);
                continue;
            }
            let Place { dtype, shape, offsets } = map.next_value_seed(Place::default())?;
            let missing = |field| A::Error::custom(format!("`{}` has no `{field}`", shown(&name)));
            let (start, end) = offsets.ok_or_else(|| missing("data_offsets"))?;
            let too_far = || A::Error::custom(format!("`{}` ends past what a file can have", shown(&name)));
            let start = start.checked_add(self.data).ok_or_else(too_far)?;
            let end = end.checked_add(self.data).ok_or_else(too_far)?;
            header.tensors.push(StoredTensor {
                dtype: dtype.ok_or_else(|| missing("dtype"))?,
                shape: shape.ok_or_else(|| missing("shape"))?,
                bytes: start..end,
                name: name.into(),
            });
        }
        Ok(header)
    }
}

/// Notes by name.
struct Notes;

impl<'a> DeserializeSeed<'a> for Notes {
    type Value = BTreeMap<Box<str>, Box<str>>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Notes {
    type Value = BTreeMap<Box<str>, Box<str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut notes = BTreeMap::new();
        while let Some(name) = map.next_key_seed(Text)? {
            notes.insert(name.into(), map.next_value_seed(Text)?.into());
            if notes.len() > MAX_NOTES {
                return Err(A::Error::custom(format!("`{METADATA}` has more than {MAX_NOTES} notes")));
            }
        }
        Ok(notes)
    }
}

/// The value of one entry.
#[derive(Default)]
struct Place {
    dtype: Option<Dtype>,
    shape: Option<Box<[usize]>>,
    offsets: Option<(usize, usize)>,
}

impl<'a> DeserializeSeed<'a> for Place {
    type Value = Place;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Place {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`dtype`, `shape` and `data_offsets`")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Place, A::Error> {
        while let Some(name) = map.next_key_seed(Text)? {
            match &*name {
                "dtype" => self.dtype = Some(map.next_value()?),
                "shape" => self.shape = Some(map.next_value_seed(Sides)?),
                "data_offsets" => self.offsets = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// The sides of a tensor.
struct Sides;

impl<'a> DeserializeSeed<'a> for Sides {
    type Value = Box<[usize]>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Sides {
    type Value = Box<[usize]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of sides")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        // One more than is allowed is kept, so that the error can name the tensor.
        let mut sides = [0; MAX_DIMENSIONS + 1];
        let mut count = 0;
        while let Some(side) = list.next_element()? {
            if let Some(place) = sides.get_mut(count) {
                *place = side;
            }
            count += 1;
        }
        Ok(sides[..count.min(sides.len())].into())
    }
}

/// Says which other format a file is in, by its first bytes, and what to do about it.
pub(super) fn other_format(bytes: &[u8]) -> Option<&'static str> {
    const PICKLE: &str = "it is a pickle (`.ckpt`, `.pt`, `.bin`), which can run any code when it is opened; expected \
                          safetensors: get the model's `.safetensors` file, or convert it with a tool that you trust";
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"PK\x03\x04")
        || (starts(b"\x80")
            && bytes.get(1).is_some_and(|protocol| (2..=5).contains(protocol))
            && bytes.get(7).is_some_and(|byte| *byte != 0))
    {
        return Some(PICKLE);
    }
    if starts(b"GGUF") {
        return Some("it is in the format GGUF; expected safetensors");
    }
    if starts(b"version https://git-lfs") {
        return Some(
            "it is a pointer of Git LFS, and the weights were not fetched; `git lfs pull` fetches them",
        );
    }
    let text = bytes.trim_ascii_start();
    if text
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"<html") || start.eq_ignore_ascii_case(b"<!doc"))
    {
        return Some(
            "it is a web page, as when a site asks for a login; expected a file in the format safetensors",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
    }

    fn fault(header: &str, data: usize) -> String {
        Header::read(&file(header, data)).unwrap_err().to_string()
    }

    #[test]
    fn tensors_and_notes_are_found_by_name() {
        let text = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,3],"data_offsets":[4,16]},
            "a\u0062":{"shape":[],"dtype":"F32","data_offsets":[0,4]}}   "#;
        let header = Header::read(&file(text, 16)).unwrap();
        let start = text.len() + 8;
        assert_eq!(header.tensor("b").unwrap().bytes, start + 4..start + 16);
        assert_eq!(
            (&*header.tensor("b").unwrap().shape, header.tensor("ab").unwrap().dtype),
            (&[2, 3][..], Dtype::F32)
        );
        assert!(header.tensor("a").is_none());
        assert_eq!(&*header.notes["format"], "pt");
    }

    #[test]
    fn each_lie_is_named() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        for (header, data, expected) in [
            (
                one("F32", "[2]", "[0,4]"),
                4,
                "`a` is [2] in F32 and has 4 bytes; expected as many as its numbers take",
            ),
            (
                one("F32", "[2]", "[8,0]"),
                8,
                "`a` is [2] in F32 and has 0 bytes; expected as many as its numbers take",
            ),
            (one("F32", "[2]", "[4,12]"), 12, "`a` begins at 4 of the tensors' bytes; expected 0"),
            (one("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "`a` has 9 dimensions; expected at most 8"),
        ] {
            assert_eq!(fault(&header, data), expected);
        }
        let cut = fault(&one("F32", "[2]", "[0,8]"), 7);
        assert!(cut.starts_with("the tensors end at byte ") && cut.contains(" and the file at "), "{cut}");
        for (shape, offsets) in [("[4611686018427387904,4]", "[0,8]"), ("[2]", "[0,18446744073709551615]")] {
            assert!(Header::read(&file(&one("F32", shape, offsets), 8)).is_err());
        }
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        assert_eq!(fault(twice, 2), "it has two tensors `a`; expected one");
        let named = Header::read(&(100_000_000_u64.to_le_bytes())).unwrap_err().to_string();
        assert_eq!(named, "its header has 100000000 bytes; expected at most 16777216");
    }

    #[test]
    fn what_is_kept_takes_at_most_twice_the_headers_bytes() {
        let entry = |i: usize| {
            format!(r#""{i}":{{"dtype":"U8","shape":[1,1,1,1,1,1,1,1],"data_offsets":[{i},{}]}}"#, i + 1)
        };
        let text = format!("{{{}}}", (0..MAX_TENSORS).map(entry).collect::<Vec<_>>().join(","));
        let header = Header::read(&file(&text, MAX_TENSORS)).unwrap();
        let kept = header.tensors.iter().map(|tensor| tensor.name.len() + size_of_val(&*tensor.shape));
        let kept =
            kept.sum::<usize>() + header.tensors.capacity() * (size_of::<StoredTensor>() + size_of::<u32>());
        assert!(kept <= 2 * text.len(), "{kept} bytes for a header of {}", text.len());
        let many = format!("{{{}}}", (0..=MAX_TENSORS).map(entry).collect::<Vec<_>>().join(","));
        assert_eq!(fault(&many, MAX_TENSORS + 1), "it has 20001 tensors; expected at most 20000");
    }

    #[test]
    fn pickles_and_pages_are_known_by_their_first_bytes() {
        for bytes in [&b"PK\x03\x04\0\0\0\0\0\0"[..], b"\x80\x02}q\x00(X\x0a\x00"] {
            assert!(other_format(bytes).is_some_and(|text| text.starts_with("it is a pickle")));
        }
        assert!(other_format(b"<!DOCTYPE html>").is_some_and(|text| text.starts_with("it is a web page")));
        assert!(other_format(b"version https://git-lfs.github.com/spec/v1").is_some());
        // A header of 640 bytes begins as a pickle does.
        assert_eq!(other_format(b"\x80\x02\0\0\0\0\0\0{\"a\":"), None);
    }
}
