//! The secret that lets a client in.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq as _;

use super::TransportError;

/// Fewer could be tried one after the other.
const MIN_CHARS: usize = 16;

/// A bearer token. It is compared in constant time, and not printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// `text`, with spaces and line ends around it left out.
    ///
    /// # Errors
    /// [`TransportError::WeakToken`] for fewer than 16 characters, or others than those of a
    /// header.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_mcp::transport::Token;
    /// assert!(Token::new("0123456789abcdef\n").is_ok());
    /// assert!(Token::new("secret").is_err());
    /// ```
    pub fn new(text: &str) -> Result<Token, TransportError> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars < MIN_CHARS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TransportError::WeakToken { chars });
        }
        Ok(Token(text.to_owned()))
    }

    /// The token in a file.
    ///
    /// # Errors
    /// [`TransportError::TokenFile`]; as [`Token::new`].
    pub fn read(path: &Path) -> Result<Token, TransportError> {
        let text = std::fs::read_to_string(path);
        Token::new(&text.map_err(|source| TransportError::TokenFile { path: path.to_owned(), source })?)
    }

    /// The value of an `Authorization` header that holds it. Keep it secret.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// `true` if the value of an `Authorization` header contains the token.
    pub(super) fn is_in(&self, header: &[u8]) -> bool {
        let given = header.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        given.is_some_and(|(_, given)| given.trim_ascii().ct_eq(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
