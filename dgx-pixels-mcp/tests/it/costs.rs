//! Short calls that would cost much: refused before anything is decoded, or bounded in what they
//! answer.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::{Rgba, RgbaImage};
use serde_json::{Value, json};

use crate::desk::{Desk, request};

/// The most bytes of an answer.
const MAX_BYTES: usize = 700 << 10;

/// An image that no PNG makes smaller.
fn noise(width: u32, height: u32) -> RgbaImage {
    let mut state = 7_u32;
    RgbaImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [r, g, b, _] = state.rotate_left(11).to_be_bytes();
        Rgba([r, g, b, 255])
    })
}

fn save(path: &Path, image: &RgbaImage) {
    image.save(path).unwrap();
}

fn shown(result: &Value) -> RgbaImage {
    let png = BASE64_STANDARD.decode(result["content"][1]["data"].as_str().unwrap()).unwrap();
    image::load_from_memory(&png).unwrap().into_rgba8()
}

#[test]
fn an_image_with_too_many_pixels_is_refused_by_its_header() {
    let desk = Desk::new();
    // 32 megapixels of one colour.
    save(&desk.path("flat.png"), &RgbaImage::from_pixel(8192, 4096, Rgba([9, 9, 9, 255])));
    assert!(fs::metadata(desk.path("flat.png")).unwrap().len() < 2 << 20);
    // A header that claims even more, and nothing behind it.
    let mut claims = fs::read(desk.path("flat.png")).unwrap();
    claims[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0x80, 0]);
    claims.truncate(4096);
    fs::write(desk.path("claims.png"), claims).unwrap();
    let mut client = desk.stdio(&[]);
    let fault = client.fault("pixelize_image", json!({ "path": desk.path("flat.png") }));
    assert!(fault.contains("it is 8192x4096; expected at most 16777216 pixels"), "{fault}");
    client.fault("pixelize_image", json!({ "path": desk.path("claims.png") }));
    // The same where frames are named.
    fs::write(desk.path("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    let frames = json!({ "assets": [desk.path("flat.png")], "category": "item", "names": ["flat"] });
    let fault = client.fault("deploy_to_bevy", frames);
    assert!(fault.contains("it is 8192x4096"), "{fault}");
    assert!(!desk.path("assets/sprites").exists());
}

#[test]
fn a_native_image_of_more_cells_than_a_sprite_may_have_is_refused() {
    let desk = Desk::new();
    // Each pixel is a cell of its own, of 16 colours.
    let cells = RgbaImage::from_fn(2400, 2000, |x, y| {
        let hash =
            (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663)).wrapping_mul(2_654_435_761) >> 28;
        Rgba([(hash * 16) as u8, 90, 40, 255])
    });
    save(&desk.path("cells.png"), &cells);
    let mut client = desk.stdio(&[]);
    let wanted = json!({ "path": desk.path("cells.png"), "width": 2048, "height": 2049 });
    let fault = client.fault("pixelize_image", wanted);
    assert!(fault.contains("`width` and `height` are 2048 and 2049"), "{fault}");
    let result = client.call("pixelize_image", json!({ "path": desk.path("cells.png") }));
    let text = result["content"][0]["text"].as_str().unwrap();
    // It may be reduced; as it is it would be too large.
    assert!(result["isError"] != true || text.contains("expected at most 4194304"), "{text}");
}

#[test]
fn all_frames_of_a_call_are_counted_before_one_is_decoded() {
    let desk = Desk::new();
    fs::write(desk.path("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    let frame = desk.path("frame.png");
    save(&frame, &RgbaImage::from_pixel(2000, 2000, Rgba([9, 9, 9, 255])));
    let mut client = desk.stdio(&[]);
    let call = |count: usize| {
        let animations = json!([format!("walk=0-{}", count - 1)]);
        json!({ "assets": vec![&frame; count], "category": "enemy", "names": ["slime"], "animations": animations })
    };
    let fault = client.fault("deploy_to_bevy", call(300));
    assert!(fault.contains("expected at most 16 megapixels in 64 MiB together"), "{fault}");
    let fault = client.fault("deploy_to_bevy", call(513));
    assert!(fault.starts_with("`assets` has 513; expected at most 512"), "{fault}");
    let small = desk.path("frame.png");
    save(&small, &RgbaImage::from_pixel(16, 16, Rgba([9, 9, 9, 255])));
    assert_eq!(client.facts("deploy_to_bevy", call(300))["sprites"][0]["frames"], 300);
    // Few frames, and as many animations of all of them as fit into a request.
    let mut many = call(300);
    many["animations"] = json!(vec!["walk=0-299"; 257]);
    let fault = client.fault("deploy_to_bevy", many);
    assert!(fault.starts_with("`animations` has 257; expected at most 256"), "{fault}");
    let mut many = call(300);
    many["animations"] = (0..250).map(|n| format!("walk{n}=0-299:pingpong")).collect();
    let fault = client.fault("deploy_to_bevy", many);
    assert!(fault.contains("frames in all tags"), "{fault}");
}

#[test]
fn a_large_sprite_is_answered_with_a_small_preview() {
    let desk = Desk::new();
    save(&desk.path("noise.png"), &noise(1024, 1024));
    let mut client = desk.stdio(&[]);
    let wanted = json!({ "path": desk.path("noise.png"), "width": 1024, "height": 1024, "max_colors": 256, "transparent": false });
    for (tool, arguments) in [("pixelize_image", wanted), ("get_asset", json!({ "asset_id": "noise" }))] {
        let result = client.call(tool, arguments);
        assert!(result.to_string().len() <= MAX_BYTES, "{tool}: {}", result.to_string().len());
        let facts: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!((&facts["width"], &facts["height"]), (&json!(1024), &json!(1024)));
        assert!(shown(&result).width() <= 512);
        let path = facts["path"].as_str().unwrap();
        assert_eq!(image::image_dimensions(path).unwrap(), (1024, 1024), "the file is whole");
    }
    let read = client.ask("resources/read", json!({ "uri": "sprite://noise/preview.png" }));
    assert!(read["result"].to_string().len() <= MAX_BYTES);
    let read = client.ask("resources/read", json!({ "uri": "sprite://noise/sprite.png" }));
    match read["error"]["message"].as_str() {
        Some(refused) => assert!(refused.contains("the file is `"), "{refused}"),
        None => assert!(read["result"].to_string().len() <= MAX_BYTES),
    }
}

#[test]
fn lists_of_long_prompts_come_in_shorter_pages() {
    let desk = Desk::new();
    let mut client = desk.stdio(&["--wait", "600"]);
    let prompts: Vec<_> = (0..40).map(|n| format!("{n} {}", "\u{1f511}\"".repeat(990))).collect();
    let mut count = 0;
    for prompts in prompts.chunks(20) {
        let result =
            client.call("generate_batch", json!({ "prompts": prompts, "width": 8, "count": 4, "steps": 1 }));
        assert!(result.to_string().len() <= MAX_BYTES);
        let facts: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        count += facts["assets"].as_array().unwrap().len();
        assert_eq!(facts["preview"], "shows the first 64 of 80");
        assert!(shown(&result).width() <= 512);
    }
    assert_eq!(count, 160);
    let (mut listed, mut cursor, mut pages) = (0, Value::Null, 0);
    loop {
        let result = client.call("list_assets", json!({ "limit": 200, "cursor": cursor }));
        assert!(result.to_string().len() <= MAX_BYTES, "{}", result.to_string().len());
        let page = &result["structuredContent"];
        listed += page["assets"].as_array().unwrap().len();
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = json!(next),
            None => break,
        }
    }
    assert!(listed == 160 && pages > 1, "{listed} on {pages} pages");
    let resources = client.ask("resources/list", json!({}));
    assert!(resources.to_string().len() <= MAX_BYTES);
}

#[test]
fn what_is_echoed_is_cut() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let long = "x".repeat(1 << 20);
    for (method, params) in [
        ("tools/call", json!({ "name": long, "arguments": {} })),
        ("tools/call", json!({ "name": "get_asset", "arguments": { "asset_id": long } })),
        ("tools/call", json!({ "name": "get_job", "arguments": { "job_id": long } })),
        ("tools/call", json!({ "name": "list_assets", "arguments": { "cursor": long } })),
        ("tools/call", json!({ "name": "pixelize_image", "arguments": { "path": long } })),
        (
            "tools/call",
            json!({ "name": "deploy_to_bevy", "arguments": { "assets": [long], "project": long } }),
        ),
        (
            "tools/call",
            json!({ "name": "generate_sprite", "arguments": { "prompt": "a key", "style": long } }),
        ),
        (
            "tools/call",
            json!({ "name": "generate_sprite", "arguments": { "prompt": "a key", "palette": format!("#{long}") } }),
        ),
        (
            "tools/call",
            json!({ "name": "generate_sprite", "arguments": { "prompt": "a key", "negative_prompt": long } }),
        ),
        ("tools/list", json!({ "cursor": long })),
        ("resources/list", json!({ "cursor": long })),
        ("resources/read", json!({ "uri": long })),
        ("prompts/get", json!({ "name": long })),
        ("prompts/get", json!({ "name": "make_character", "arguments": { "character": long } })),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": long }, "argument": { "name": long, "value": long } }),
        ),
    ] {
        let answer = client.ask(method, params).to_string();
        assert!(answer.len() < 10_000, "{method}: {} bytes, {}", answer.len(), &answer[..300]);
    }
}

#[test]
fn pixel_work_of_a_call_that_was_given_up_leaves_nothing() {
    let desk = Desk::new();
    save(&desk.path("noise.png"), &noise(2048, 2048));
    let mut client = desk.stdio(&[]);
    let arguments = json!({ "path": desk.path("noise.png"), "width": 2048, "height": 2048 });
    for id in 100..104 {
        client.send(
            &request(id, "tools/call", json!({ "name": "pixelize_image", "arguments": arguments }))
                .to_string(),
        );
    }
    for id in 100..104 {
        let params = json!({ "requestId": id });
        client.send(
            &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }).to_string(),
        );
    }
    // The places of those calls are free again: it waits for them.
    let small = desk.path("small.png");
    save(&small, &RgbaImage::from_fn(64, 64, |x, y| Rgba([(x / 8 * 30) as u8, (y / 8 * 30) as u8, 9, 255])));
    client.facts("pixelize_image", json!({ "path": small }));
    assert_eq!(client.facts("list_assets", json!({}))["assets"].as_array().unwrap().len(), 1);
}
