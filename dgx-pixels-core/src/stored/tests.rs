use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::backend::{Backend as _, Sketch};
use crate::pixel::{GridChoice, MaxColors, PixelOptions, Wrap};
use crate::prompt::PromptSyntax;
use crate::request::{
    ControlChoice, Crop, GenerateRequest, ImageSize, Mask, Preset, ResolvedRequest, SourceImage,
};
use crate::scheduler::{SchedulerName, TimestepSpacing};

fn sizes() -> impl Strategy<Value = ImageSize> {
    (1..200u32, 1..200u32).prop_map(|(width, height)| ImageSize { width: 8 * width, height: 8 * height })
}

fn requests() -> impl Strategy<Value = GenerateRequest> {
    use proptest::option::of;
    let words = (".{0,9}", of(".{0,9}"), any::<u64>());
    let steps = (of(1..1000usize), of(0.0..100.0f64), 0.0..1.0f64, of(2..10usize));
    let sizes = (of(sizes()), of(sizes()), of(sizes()), any::<u16>(), of(0.0..0.5f64));
    let scheduler = of(proptest::sample::select(&SchedulerName::ALL[..]));
    let schedule = (of(0..3usize), of(0..14usize), of(0..3usize), of(0.0..1.0f64), 0..5usize);
    let images = of((1..20u32, 1..20u32, 0..3usize, of(0.01..1.0f64)));
    (words, steps, sizes, scheduler, schedule, images).prop_map(|all| {
        let (words, steps, sizes, scheduler, schedule, images) = all;
        let image = |(width, height)| SourceImage::new(image::RgbaImage::from_pixel(width, height, WHITE));
        let mask = images.and_then(|(width, height, mask, _)| match mask {
            0 => None,
            1 => Some(format!("0,0,{width}x1").parse().unwrap()),
            _ => Some(Mask::Image(image((width, height)))),
        });
        GenerateRequest {
            init_image: images.map(|(width, height, ..)| image((width, height))),
            mask,
            strength: images.and_then(|images| images.3),
            prompt: words.0,
            negative_prompt: words.1,
            clip_skip: steps.0.map(|steps| 1 + (steps % 2) as u8),
            lora: steps.3.map(|steps| format!("a:{steps}:0.5").parse().unwrap()).into_iter().collect(),
            vae: (schedule.4 == 1).then(|| "sdxl-vae".into()),
            control: images
                .filter(|images| images.2 == 1)
                .map(|(width, height, ..)| {
                    let word = "canny:sword.png:0.5:0.1:0.9:edges";
                    ControlChoice::of_word(word, |_| Ok(image((width, height)))).unwrap()
                })
                .into_iter()
                .collect(),
            seed: words.2,
            steps: steps.0,
            guidance_scale: steps.1,
            guidance_rescale: steps.2,
            guidance_interval: sizes.4.map(|from| [from, 1.0 - from]),
            deep_cache: steps.3,
            scheduler,
            prompt_syntax: schedule.0.map(|n| PromptSyntax::ALL[n]),
            preset: schedule.1.map(|n| Preset::ALL[n]),
            timestep_spacing: schedule.2.map(|n| TimestepSpacing::ALL[n]),
            timesteps: (schedule.4 == 1).then(|| vec![999, 499]),
            sigmas: (schedule.4 == 2).then(|| vec![14.6, 0.5, 0.0]),
            eta: schedule.3,
            width: sizes.0.map(|size| size.width),
            height: sizes.0.map(|size| size.height),
            original_size: sizes.1,
            crop: Crop { left: sizes.3.into(), top: 3 },
            target_size: sizes.2,
            wrap: (schedule.4 > 2).then_some(Wrap { x: schedule.4 == 3, y: true }),
        }
    })
}

const WHITE: image::Rgba<u8> = image::Rgba([255; 4]);

fn pixels() -> impl Strategy<Value = PixelOptions> {
    let grid = prop_oneof![
        Just(GridChoice::Auto),
        sizes().prop_map(GridChoice::Cells),
        (1.0..99.0f64).prop_map(GridChoice::Step),
    ];
    let words = (0..4usize, 0..4usize, 0..3usize, 0..3usize);
    (grid, words, any::<[bool; 6]>(), 1..256u16).prop_map(|(grid, words, flags, count)| PixelOptions {
        grid,
        strip: flags[0].then_some(4),
        expected_step: flags[1].then_some(8.0),
        detail: ["low", "medium", "high"][words.2].parse().unwrap(),
        size: flags[2].then_some(ImageSize { width: 16, height: 24 }),
        anchor: ["center", "bottom"][usize::from(flags[3])].parse().unwrap(),
        max_colors: [MaxColors::Auto, MaxColors::Elbow, MaxColors::All, MaxColors::AtMost(count)][words.0],
        palette: flags[4].then(|| crate::pixel::Palette::load("pico-8").unwrap()),
        dither: crate::pixel::Dither::ALL[words.1],
        transparent: ["auto", "off", "#ff00ff"][words.3].parse().unwrap(),
        bleed: flags[0],
        cleanup: flags[1],
        outline: ["keep", "add", "remove"][words.2].parse().unwrap(),
        tile_x: flags[5],
        tile_y: flags[3],
        unsure: ["best", "keep", "fail"][words.3].parse().unwrap(),
    })
}

fn through_json<T: serde::Serialize + serde::de::DeserializeOwned>(stored: &T) -> T {
    serde_json::from_str(&serde_json::to_string(stored).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_stored_submission_is_the_same_submission(request in requests(), pixel in proptest::option::of(pixels())) {
        let submission = crate::Submission {
            pixel,
            output: Some("a/key.png".into()),
            force: true,
            priority: crate::Priority::Low,
            client: "one".into(),
            deadline: Some(std::time::Duration::from_millis(1500)),
            idempotency_key: Some("k".into()),
            preview_every: 3,
            model: Some("sprite-xl".into()),
            ..request.into()
        };
        let stored = through_json(&Submission::from(submission.clone()));
        prop_assert_eq!(crate::Submission::from(stored), submission);
    }

    #[test]
    fn a_resolved_submission_resolves_to_itself(request in requests(), pixel in proptest::option::of(pixels())) {
        let submission = crate::Submission { pixel, ..request.into() };
        let defaults = Sketch.defaults();
        if let Ok(resolved) = submission.resolve(&defaults) {
            let again = GenerateRequest::from(resolved.request.clone());
            let again = crate::Submission { pixel: resolved.pixel.clone(), ..again.into() };
            prop_assert_eq!(again.resolve(&defaults).unwrap(), resolved.clone());
            prop_assert!(submission.request.init_image.is_none() || resolved.request.strength.is_some());
            let stored = through_json(&Request::of_image(resolved.request.clone()));
            prop_assert_eq!(ResolvedRequest::try_from(stored).unwrap(), resolved.request);
        }
    }
}

#[test]
fn equal_content_is_equal_json_in_every_version() {
    let size = ImageSize { width: 16, height: 16 };
    let submission = crate::Submission {
        pixel: Some(PixelOptions { size: Some(size), ..Default::default() }),
        ..crate::Submission::of("a key")
    };
    // Batches are resumed by a hash of these bytes.
    assert_eq!(
        submission.content(),
        concat!(
            r#"[{"prompt":"a key","negative_prompt":null,"seed":0,"steps":null,"guidance_scale":null,"#,
            r#""guidance_rescale":0.0,"scheduler":null,"size":null,"original_size":null,"#,
            r#""crop":{"left":0,"top":0},"target_size":null},"#,
            r#"{"grid":"auto","strip":null,"expected_step":null,"detail":"medium","#,
            r#""size":{"width":16,"height":16},"anchor":"center","max_colors":"auto","palette":null,"#,
            r#""dither":"none","transparent":"auto","bleed":false,"clean_up":false,"outline":"keep","#,
            r#""wrap":{"x":false,"y":false}}]"#
        )
    );
}

#[test]
fn a_record_of_a_newer_version_is_named() {
    let error = Provenance::parse(r#"{"format_version":9,"unheard_of":true}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its record of how it was made has format version 9; expected at most 5: a newer program wrote it"
    );
}

#[test]
fn a_record_says_the_oldest_version_that_can_hold_it() {
    let plain = GenerateRequest { prompt_syntax: Some(PromptSyntax::Plain), ..Default::default() };
    let plain = plain.resolve(&Sketch.defaults()).unwrap();
    let version = |request: ResolvedRequest| Request::of_image(request).version();
    assert_eq!(version(plain.clone()), 1);
    assert_eq!(version(ResolvedRequest { clip_skip: Some(1), ..plain.clone() }), 2);
    for newer in [
        ResolvedRequest { prompt_syntax: PromptSyntax::Comfyui, ..plain.clone() },
        ResolvedRequest { scheduler: SchedulerName::Tcd, ..plain.clone() },
        ResolvedRequest { timestep_spacing: Some(TimestepSpacing::Trailing), ..plain.clone() },
        ResolvedRequest { timesteps: Some(vec![1]), ..plain.clone() },
        ResolvedRequest { sigmas: Some(vec![1.0, 0.0]), ..plain.clone() },
        ResolvedRequest { eta: Some(0.5), ..plain.clone() },
    ] {
        assert_eq!(version(newer), 3);
    }
    assert_eq!(version(ResolvedRequest { vae: Some("sdxl-vae".into()), ..plain.clone() }), 5);
    let init_image = Some(SourceImage::new(image::RgbaImage::new(1, 1)));
    assert_eq!(version(ResolvedRequest { init_image, strength: Some(0.5), ..plain }), 5);
}

#[test]
fn a_record_of_an_older_program_has_a_plain_prompt() {
    let json = r#"{"prompt":"a (key:2)","seed":1,"steps":3,"guidance_scale":5.0,"scheduler":"euler","size":{"width":64,"height":64}}"#;
    let read = ResolvedRequest::try_from(serde_json::from_str::<Request>(json).unwrap()).unwrap();
    assert_eq!(read.prompt_syntax, PromptSyntax::Plain);
    // Drawn and stored again, it is the same record.
    let again = GenerateRequest::from(read.clone()).resolve(&Sketch.defaults()).unwrap();
    assert_eq!(again, read);
    assert_eq!(Request::of_image(again).version(), 1);
}

#[test]
fn a_record_without_a_value_that_every_image_has_is_refused() {
    let whole = json!({
        "prompt": "a key", "steps": 3, "guidance_scale": 5.0, "scheduler": "euler",
        "size": { "width": 64, "height": 64 },
    });
    let read =
        |json: &Value| ResolvedRequest::try_from(serde_json::from_value::<Request>(json.clone()).unwrap());
    assert_eq!(read(&whole).unwrap().original_size, ImageSize { width: 64, height: 64 });
    for field in ["steps", "guidance_scale", "scheduler", "size"] {
        let mut lacking = whole.clone();
        lacking.as_object_mut().unwrap().remove(field);
        let error = read(&lacking).unwrap_err().to_string();
        assert!(error.ends_with(&format!("`{field}` is missing; expected a value")), "{error}");
    }
}
