//! Types that are words at every door.

/// Implements the JSON schema of a type whose values are words: a text that is one of these.
macro_rules! schema_of_words {
    ($type:ty, $words:expr) => {
        #[cfg(feature = "fields")]
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": $words })
            }
        }
    };
}
pub(crate) use schema_of_words;
