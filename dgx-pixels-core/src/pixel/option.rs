//! Options as the words that people and programs write them.

/// Three or six hexadecimal digits after `#`, in either case.
pub(super) fn parse_rgb(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#')?;
    // from_str_radix takes a sign.
    if !matches!(digits.len(), 3 | 6) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u32::from_str_radix(digits, 16).ok()?;
    if digits.len() == 3 {
        return Some([8, 4, 0].map(|shift| 17 * (value >> shift & 15) as u8));
    }
    let [_, r, g, b] = value.to_be_bytes();
    Some([r, g, b])
}

/// What [`parse_rgb`] reads, in capitals.
pub(super) fn show_rgb([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Serde by `FromStr` and `Display`, for `#[serde(try_from = "String", into = "String")]`.
macro_rules! serde_by_word {
    ($option:ty) => {
        impl TryFrom<String> for $option {
            type Error = $crate::ValueError;

            fn try_from(word: String) -> Result<Self, Self::Error> {
                word.parse()
            }
        }

        impl From<$option> for String {
            fn from(option: $option) -> String {
                option.to_string()
            }
        }
    };
}
pub(super) use serde_by_word;
