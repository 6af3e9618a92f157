use std::error::Error as _;
use std::io;
use std::path::Path;

use super::*;

type Variant = fn(PathBuf, String, Option<Cause>) -> Error;

/// Each variant that has a cause, with one, and without words of ours where it needs none.
fn caused(reason: impl Fn() -> Reason) -> Vec<Error> {
    let path = || PathBuf::from("a");
    let variants: [Variant; 10] = [
        |path, reason, cause| Error::Model { path, reason, cause },
        |_, reason, cause| Error::Device { device: "cuda:7".into(), reason, cause },
        |path, reason, cause| Error::Output { path, reason, cause },
        |path, reason, cause| Error::Project { path, reason, cause },
        |_, reason, cause| Error::Game { port: 15702, reason, cause },
        |path, reason, cause| Error::BrokenAsset { id: "key".into(), path, reason, cause },
        |path, reason, cause| Error::Library { path, reason, cause },
        |path, reason, cause| Error::NoFile { path, reason, cause },
        |path, reason, cause| Error::Journal { path, reason, cause },
        |_, message, cause| Error::Internal { doing: "loading", message, cause },
    ];
    let make = |variant: Variant| {
        let Reason { words, cause } = reason();
        variant(path(), words, cause)
    };
    variants.into_iter().map(make).collect()
}

#[test]
fn each_variant_keeps_its_cause_with_its_type_and_out_of_its_text() {
    let denied = || Reason::from(("cannot be read", io::Error::from(io::ErrorKind::PermissionDenied)));
    for error in caused(denied) {
        // A copy, as waiting callers get it, shares the cause.
        let copy = error.clone();
        let cause = copy.source().unwrap_or_else(|| panic!("{copy:?} has no cause"));
        let cause: &io::Error = cause.downcast_ref().unwrap_or_else(|| panic!("{cause:?}"));
        assert_eq!(cause.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().ends_with("cannot be read"), "{error}");
        assert_eq!(one_line(&error), format!("{error}: permission denied"));
    }
}

#[test]
fn a_cause_alone_makes_the_same_sentence_as_words_of_ours() {
    let words = caused(|| "the disk is full".into());
    let causes = caused(|| io::Error::other("the disk is full").into());
    for (words, cause) in words.iter().zip(&causes) {
        assert!(words.source().is_none());
        // The only one whose words are a clause of their own.
        if !matches!(words, Error::BrokenAsset { .. }) {
            assert_eq!(one_line(cause), words.to_string());
        }
    }
}

#[test]
fn errors_of_parts_are_their_own_text_and_their_causes_stay_reachable() {
    let path = Path::new("a");
    let palette = crate::pixel::Palette::read(path).unwrap_err();
    let error = Error::from(PixelError::from(palette));
    assert_eq!(one_line(&error), "cannot read the palette in `a`: No such file or directory (os error 2)");
    let cause: &io::Error = error.source().unwrap().downcast_ref().unwrap();
    assert_eq!(cause.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_reason_is_an_error_whose_text_is_said_once() {
    let json = || serde_json::from_str::<u32>("{").unwrap_err();
    for reason in [Reason::from(json()), ("not a number", json()).into(), "not a number".into()] {
        let error = Error::model("a", Cause::from(reason.clone()));
        assert_eq!(one_line(&error), format!("cannot load the model in `a`: {}", one_line(&reason)));
    }
}

#[test]
fn a_cause_that_the_text_repeats_is_said_once() {
    let image = image::load_from_memory_with_format(b"text", image::ImageFormat::Png).unwrap_err();
    assert!(image.source().is_some_and(|cause| image.to_string().ends_with(&cause.to_string())));
    assert_eq!(one_line(&image), image.to_string());
}

#[test]
fn an_error_names_the_field_at_fault() {
    let request = crate::GenerateRequest { steps: Some(0), ..Default::default() };
    let fields = [
        (Error::from(request.validate().unwrap_err()), Some("steps")),
        (ValueError::new("limit", 0, "1 to 1000").into(), Some("limit")),
        (PixelError::from("x".parse::<crate::pixel::Anchor>().unwrap_err()).into(), Some("anchor")),
        (SchedulerError::Name { name: "x".into() }.into(), Some("scheduler")),
        (Error::KeyTaken { key: "a".into(), id: "b".into() }, Some("idempotency_key")),
        (Error::ModelChoice("there are two".into()), Some("model")),
        (Error::ShutDown, None),
    ];
    for (error, field) in &fields {
        assert_eq!(error.field(), *field, "{error}");
    }
}
