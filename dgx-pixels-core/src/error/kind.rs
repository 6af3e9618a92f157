//! The one list of the ways to fail: each with its word, its exit code and its meaning.

/// Makes [`ErrorKind`] from the list below. A kind without a word, an exit code or a meaning does
/// not compile.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $word:literal, $exit_code:literal, $meaning:literal;)*) => {
        /// The one word for an error. Every door uses it: exit code, metric label, MCP answer.
        ///
        /// # Example
        /// ```
        /// use dgx_pixels_core::ErrorKind;
        ///
        /// assert_eq!(ErrorKind::QueueFull.as_str(), "queue_full");
        /// // Scripts rely on the exit codes, so each kind has one of its own.
        /// let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        /// codes.sort_unstable();
        /// codes.dedup();
        /// assert_eq!(codes.len(), ErrorKind::ALL.len());
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])* #[serde(rename = $word)] $kind,)*
        }

        impl ErrorKind {
            /// All kinds.
            pub const ALL: &[ErrorKind] = &[$(ErrorKind::$kind),*];

            /// The word, for example `invalid_request`.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorKind::$kind => $word,)* }
            }

            /// The exit code of a program that ends with an error of this kind.
            pub const fn exit_code(self) -> u8 {
                match self { $(ErrorKind::$kind => $exit_code,)* }
            }

            /// The meaning in a few words, for example for `--help`.
            pub const fn meaning(self) -> &'static str {
                match self { $(ErrorKind::$kind => $meaning,)* }
            }
        }
    };
}

kinds! {
    /// Our fault, or the installation's.
    Internal: "internal", 1, "a fault of the program or its installation";
    /// The request is at fault.
    InvalidRequest: "invalid_request", 2, "a flag, a field or its value is wrong";
    /// The model's files are at fault.
    InvalidModel: "invalid_model", 3,
        "there is no model, there are several to choose from, or its files are not what they should be";
    /// The device asked for is not there.
    DeviceUnavailable: "device_unavailable", 4, "the device asked for is not there";
    /// The device's memory did not suffice.
    OutOfMemory: "out_of_memory", 5, "the device has too little memory";
    /// The arithmetic left the number range.
    NotFinite: "not_finite", 6, "the arithmetic left the number range; no image is written";
    /// A result cannot be written.
    Output: "output", 7, "a file cannot be written";
    /// Too many jobs wait.
    QueueFull: "queue_full", 10, "the queue is full; try again later";
    /// The job took longer than it may.
    DeadlineExceeded: "deadline_exceeded", 11, "the job took longer than it may";
    /// The engine is not running.
    ShutDown: "shut_down", 12, "the engine stopped before the job was done";
    /// An asset or a file is not there, or not as it was.
    NotFound: "not_found", 13, "an asset or a file is not there, or not as it was";
    /// The path leads where this program may not go.
    ForbiddenPath: "forbidden_path", 14, "a path leads out of the folders that may be used";
    /// The library holds as many assets as it may.
    LibraryFull: "library_full", 15, "the library holds as much as it may";
    /// The process died each time that the job ran.
    ProcessDied: "process_died", 17, "the process died each time that the job ran";
    /// The sprite has no visible pixel.
    EmptySprite: "empty_sprite", 18, "no draw gave a sprite with a visible pixel";
    /// Too many jobs of one client wait.
    QuotaExceeded: "quota_exceeded", 19, "one client has as many jobs waiting as it may; try again later";
    /// No game answers.
    GameUnavailable: "game_unavailable", 20, "no game answers";
    /// The library libtorch, or the object that computes with it, is missing, damaged or of another
    /// version.
    LibtorchUnavailable: "libtorch_unavailable", 21, "libtorch is missing, damaged or of another version";
    /// The grid of an image is not sure, and the caller wants no guess.
    Unsure: "unsure", 22, "the grid of an image is not sure, and `--unsure fail` was given; `--grid` decides it";
    /// The caller stopped the job.
    Cancelled: "cancelled", 130, "the job was cancelled, for example by Ctrl-C";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_kind_has_a_word_and_an_exit_code_of_its_own() {
        let words: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let codes: HashSet<_> = ErrorKind::ALL.iter().map(|kind| kind.exit_code()).collect();
        assert_eq!((words.len(), codes.len()), (ErrorKind::ALL.len(), ErrorKind::ALL.len()));
        // Success, and the kinds that only the program has: `input`, `changed`, `faults`, `fetch`.
        assert!([0, 8, 9, 16, 23].iter().all(|code| !codes.contains(code)));
    }

    #[test]
    fn scripts_and_dashboards_rely_on_these_words_and_codes() {
        let expected = [
            ("internal", 1),
            ("invalid_request", 2),
            ("invalid_model", 3),
            ("device_unavailable", 4),
            ("out_of_memory", 5),
            ("not_finite", 6),
            ("output", 7),
            ("queue_full", 10),
            ("deadline_exceeded", 11),
            ("shut_down", 12),
            ("not_found", 13),
            ("forbidden_path", 14),
            ("library_full", 15),
            ("process_died", 17),
            ("empty_sprite", 18),
            ("quota_exceeded", 19),
            ("game_unavailable", 20),
            ("libtorch_unavailable", 21),
            ("unsure", 22),
            ("cancelled", 130),
        ];
        let found: Vec<_> = ErrorKind::ALL.iter().map(|kind| (kind.as_str(), kind.exit_code())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_kind_is_its_word_in_json() {
        for kind in ErrorKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(serde_json::from_value::<ErrorKind>(kind.as_str().into()).unwrap(), *kind);
        }
    }
}
