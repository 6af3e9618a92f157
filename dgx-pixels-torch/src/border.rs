//! The two directions across the border: texts that come in, and answers that go out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use dgx_pixels_core::abi::{self, Fault, Sink, Text};
use dgx_pixels_core::{Cause, Error};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs `work` and reports how it ended.
pub(crate) fn answered(answer: Sink, work: impl FnOnce() -> Result<(), Error>) -> i32 {
    ended(answer, work, |()| None)
}

/// Runs `work` and answers with the message that it returns.
pub(crate) fn answered_with<T: Serialize>(answer: Sink, work: impl FnOnce() -> Result<T, Error>) -> i32 {
    ended(answer, work, |message| Some(json(&message)))
}

/// Runs `work` and answers with the words that it returns.
pub(crate) fn answered_in_words(answer: Sink, work: impl FnOnce() -> Result<String, Error>) -> i32 {
    ended(answer, work, Some)
}

/// Runs what must not fail; a panic ends here.
pub(crate) fn quietly(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

fn ended<T>(
    answer: Sink,
    work: impl FnOnce() -> Result<T, Error>,
    words: impl FnOnce(T) -> Option<String>,
) -> i32 {
    let (status, words) = match catch_unwind(AssertUnwindSafe(|| work().map(words))) {
        Ok(Ok(words)) => (abi::OK, words),
        Ok(Err(error)) => (abi::FAILED, Some(json(&Fault::from(&error)))),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            (abi::PANICKED, Some(words.unwrap_or("libtorch's side panicked").to_owned()))
        }
    };
    if let Some(words) = words {
        // SAFETY: the caller's sink lives until we return, and takes a copy.
        unsafe { (answer.write)(answer.context, Text { data: words.as_ptr(), len: words.len() }) }
    }
    status
}

fn json(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("a message of the border is JSON; this is a bug")
}

/// The caller's text.
///
/// # Safety
/// `text` lives as long as what is returned is used.
pub(crate) unsafe fn words<'a>(text: Text) -> Result<&'a str, Error> {
    if text.len == 0 {
        return Ok("");
    }
    // SAFETY: by the contract of this function.
    let bytes = unsafe { std::slice::from_raw_parts(text.data, text.len) };
    std::str::from_utf8(bytes)
        .map_err(|error| Error::internal("reading a text of the caller", Cause::from(error)))
}

/// The caller's message.
///
/// # Safety
/// Those of [`words`].
pub(crate) unsafe fn message<T: DeserializeOwned>(text: Text) -> Result<T, Error> {
    // SAFETY: by the contract of this function.
    serde_json::from_str(unsafe { words(text) }?)
        .map_err(|error| Error::internal("reading a message of the caller", error))
}

/// The caller's word for a value of a field.
///
/// # Safety
/// Those of [`words`].
pub(crate) unsafe fn parsed<T>(text: Text) -> Result<T, Error>
where
    T: FromStr,
    Error: From<T::Err>,
{
    // SAFETY: by the contract of this function.
    Ok(unsafe { words(text) }?.parse()?)
}
