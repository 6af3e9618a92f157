//! Text that others made, written so that a terminal only shows it.
//!
//! File names, prompts, the texts of a PNG, a model's name and a game's answer may hold escape
//! sequences. A terminal would obey them: they can hide a line, change the window's title or fill
//! the clipboard. The programs pass everything that they write for people through this module.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Returns `text` with every character escaped that a terminal could obey or that reorders text.
///
/// Escaped are the control characters of C0 (but newline and tab), DEL, C1, the line and paragraph
/// separators, and the marks of bidirectional text. They become `\u{1b}`, as in Rust.
///
/// # Example
/// ```
/// use dgx_pixels_core::printable::printable;
/// assert_eq!(printable("a key\u{1b}[2J"), r"a key\u{1b}[2J");
/// assert_eq!(printable("鍵\t🗝️\n"), "鍵\t🗝️\n");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |letter| is_hostile(letter) && !matches!(letter, '\n' | '\t'), in_braces)
}

/// Escapes as [`printable`] does, and newlines too: the result is one line.
///
/// # Example
/// ```
/// use dgx_pixels_core::printable::one_line;
/// assert_eq!(one_line("two\nlines"), r"two\nlines");
/// ```
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |letter| is_hostile(letter) && letter != '\t',
        |letter, out| match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            letter => in_braces(letter, out),
        },
    )
}

/// Escapes bytes that should be UTF-8 as [`printable`] escapes text: any other byte becomes an
/// escape such as `\xff`.
///
/// # Example
/// ```
/// use dgx_pixels_core::printable::printable_bytes;
/// assert_eq!(printable_bytes(b"key\xff\x1b"), r"key\xff\u{1b}");
/// ```
pub fn printable_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing into a `String` cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Returns a JSON text with the same characters escaped as JSON escapes them, for example `\u009b`.
///
/// `serde_json` leaves DEL and everything from U+0080 on as it is. The value stays the same.
///
/// # Example
/// ```
/// use dgx_pixels_core::printable::printable_json;
/// assert_eq!(printable_json("{\"name\":\"key\u{9b}\"}"), r#"{"name":"key\u009b"}"#);
/// assert_eq!(printable_json(r#"{"name":"key"}"#), r#"{"name":"key"}"#);
/// ```
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escape(
        json,
        |letter| is_hostile(letter) && !matches!(letter, '\n' | '\t' | '\r'),
        |letter, out| {
            let mut units = [0; 2];
            for unit in letter.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        },
    )
}

/// A writer for people, such as that of a log: what passes it is [printable](printable_bytes).
///
/// Each call of `write` is taken as whole text, as `tracing` writes a line.
///
/// # Example
/// ```
/// use std::io::Write as _;
/// use dgx_pixels_core::printable::PrintableWriter;
///
/// let mut log = PrintableWriter(Vec::new());
/// log.write_all(b"a key\x1b[2J\n")?;
/// assert_eq!(log.0, b"a key\\u{1b}[2J\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PrintableWriter<W>(pub W);

impl<W: Write> Write for PrintableWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable_bytes(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn is_hostile(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn in_braces(letter: char, out: &mut String) {
    let _ = write!(out, "\\u{{{:x}}}", u32::from(letter));
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_escaped(letter) {
            write(letter, &mut out);
        } else {
            out.push(letter);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_other_text_stays() {
        let hostile = "\u{0}\u{7}\u{8}\r\u{1b}]0;title\u{7f}\u{9b}31m\u{202e}\u{2066}\u{2028}";
        let shown = printable(hostile);
        assert_eq!(shown, r"\u{0}\u{7}\u{8}\u{d}\u{1b}]0;title\u{7f}\u{9b}31m\u{202e}\u{2066}\u{2028}");
        for text in ["", "a key", "ein Schlüssel", "鍵 🗝️ 👩‍🎨", "two\nlines\tand a tab", r"C:\art"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        assert_eq!(one_line("two\r\nlines"), r"two\r\nlines");
        assert_eq!(printable_bytes(b"key\xff\xe2\x80.png\x1b"), r"key\xff\xe2\x80.png\u{1b}");
    }

    #[test]
    fn a_log_line_is_written_whole() {
        let mut out = vec![];
        PrintableWriter(&mut out).write_all("warn: `\u{9b}2J`\n".as_bytes()).unwrap();
        assert_eq!(out, b"warn: `\\u{9b}2J`\n");
    }

    proptest! {
        #[test]
        fn nothing_hostile_is_left(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            let hostile = |shown: &str| {
                shown.chars().any(|letter| is_hostile(letter) && !matches!(letter, '\n' | '\t'))
            };
            prop_assert!(!hostile(&printable(&text)));
            prop_assert!(!hostile(&printable_bytes(&bytes)));
            let one = one_line(&text);
            prop_assert!(!hostile(&one) && !one.contains('\n'));
        }

        #[test]
        fn json_keeps_its_value_and_is_harmless(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let shown = printable_json(&json);
            prop_assert!(!shown.chars().any(is_hostile));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
