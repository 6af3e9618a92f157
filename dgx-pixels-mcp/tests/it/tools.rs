//! What tools answer, to right and to wrong calls.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::desk::{Desk, request};

fn picture(bytes: &[u8]) -> image::RgbaImage {
    image::load_from_memory(bytes).unwrap().into_rgba8()
}

#[test]
fn tools_are_few_sorted_and_described() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let tools = client.ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().clone();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.len() <= 12 && names.is_sorted(), "{names:?}");
    for tool in &tools {
        assert!(tool["description"].as_str().is_some_and(|text| text.len() > 20), "{tool}");
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean() && tool["title"].is_string(), "{hint} of {tool}");
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
        for (name, field) in tool["inputSchema"]["properties"].as_object().into_iter().flatten() {
            assert!(field["description"].is_string(), "{name} of {}", tool["name"]);
            assert!(
                field.get("format").is_none() && field.get("$ref").is_none(),
                "{name} of {}",
                tool["name"]
            );
        }
    }
}

#[test]
fn a_slime_is_drawn_shown_and_there() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let wanted = json!({ "prompt": "a green slime", "width": 32, "height": 24, "max_colors": 8, "seed": 5 });
    let result = client.call("generate_sprite", wanted.clone());
    assert!(result.get("structuredContent").is_none(), "clients drop the picture where it is set");
    let facts: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!((&facts["asset_id"], &facts["seed"]), (&json!("a-green-slime"), &json!(5)));
    let sprite = picture(&fs::read(facts["path"].as_str().unwrap()).unwrap());
    assert_eq!(sprite.dimensions(), (32, 24));
    assert!(sprite.pixels().all(|pixel| matches!(pixel[3], 0 | 255)));
    let colors: std::collections::HashSet<_> = sprite.pixels().filter(|pixel| pixel[3] > 0).collect();
    assert!(colors.len() <= 8 && facts["colors"] == colors.len());
    let shown = BASE64_STANDARD.decode(result["content"][1]["data"].as_str().unwrap()).unwrap();
    assert_eq!(picture(&shown).dimensions(), (512, 384));

    // The same again is another asset with the same picture; nothing is overwritten.
    let again = client.facts("generate_sprite", wanted);
    assert_eq!(again["asset_id"], "a-green-slime-2");
    assert_eq!(picture(&fs::read(again["path"].as_str().unwrap()).unwrap()), sprite);
    let listed = client.facts("list_assets", json!({}));
    assert_eq!(listed["assets"].as_array().unwrap().len(), 2);
    assert_eq!(client.facts("validate_assets", json!({})), json!({ "checked": 2, "faults": [] }));

    let uri = facts["uri"].as_str().unwrap();
    let read = client.ask("resources/read", json!({ "uri": uri }));
    let blob = BASE64_STANDARD.decode(read["result"]["contents"][0]["blob"].as_str().unwrap()).unwrap();
    assert_eq!(picture(&blob), sprite);
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn every_parameter_is_honoured() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let wanted = json!({
        "prompt": "a tile", "negative_prompt": "people", "model": "sketch", "style": "8bit", "width": 16, "height": 16, "steps": 3,
        "guidance_scale": 2.5, "scheduler": "ddim", "seed": 9, "count": 3, "palette": "pico-8", "max_colors": 3,
        "transparent": false, "tile_x": true, "tile_y": true, "name": "mossy_floor",
    });
    let facts = client.facts("generate_sprite", wanted);
    let assets = facts["assets"].as_array().unwrap();
    let ids: Vec<_> = assets.iter().map(|asset| asset["asset_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["mossy_floor", "mossy_floor-2", "mossy_floor-3"]);
    let asset = client.facts("get_asset", json!({ "asset_id": "mossy_floor-3" }));
    let request = &asset["made"]["request"];
    for (field, value) in [
        ("prompt", json!("a tile")),
        ("negative_prompt", json!("people")),
        ("steps", json!(3)),
        ("guidance_scale", json!(2.5)),
        ("scheduler", json!("ddim")),
        ("seed", json!(11)),
    ] {
        assert_eq!(request[field], value, "{field}");
    }
    assert_eq!(asset["made"]["pixel"]["wrap"], json!({ "x": true, "y": true }));
    assert_eq!((&asset["made"]["pixel"]["transparent"], &asset["style"]), (&json!("off"), &json!("8bit")));
    assert_eq!((&asset["on_palette"], asset["seam"].is_number()), (&json!(true), true));
    assert!(asset["colors"].as_u64().is_some_and(|colors| colors <= 3));
}

#[test]
fn many_prompts_come_as_one_sheet() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let result =
        client.call("generate_batch", json!({ "prompts": ["a key", "a potion", "a key"], "width": 16 }));
    let facts: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(facts["assets"].as_array().unwrap().len(), 3);
    assert_eq!(result["content"].as_array().unwrap().len(), 2, "one picture, not three");
    for (prompts, message) in [
        (json!([]), "`prompts` has 0; expected a list of 1 to 64 texts"),
        (json!("a key"), "`prompts` is \"a key\"; expected a list of 1 to 64 texts"),
        (json!(["a key", 7]), "`prompts[1]` is 7; expected a text"),
        (Value::Null, "`prompts` is missing; expected a list of 1 to 64 texts"),
    ] {
        let fault = client.fault("generate_batch", json!({ "prompts": prompts }));
        assert_eq!(fault, format!("{message}. Mend it and call `generate_batch` again."));
    }
}

#[test]
fn a_wrong_argument_is_named_with_what_would_be_right() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let whole = |field: &str, value: &str, range: &str| {
        format!("`{field}` is {value}; expected a whole number from {range}")
    };
    for (arguments, message) in [
        (json!({}), "`prompt` is missing; expected a text".to_owned()),
        (json!({ "prompt": null }), "`prompt` is missing; expected a text".into()),
        (json!({ "prompt": ["a"] }), "`prompt` is [\"a\"]; expected a text".into()),
        (json!({ "steps": "many" }), whole("steps", "\"many\"", "1 to 1000")),
        (json!({ "steps": 0 }), "`steps` is 0; expected 1 to 1000".into()),
        (json!({ "steps": 1001 }), "`steps` is 1001; expected 1 to 1000".into()),
        (json!({ "steps": 2.5 }), whole("steps", "2.5", "1 to 1000")),
        (json!({ "width": 7 }), "`width` is 7; expected 8 to 256".into()),
        (json!({ "height": 257 }), "`height` is 257; expected 8 to 256".into()),
        (json!({ "width": -1 }), whole("width", "-1", "8 to 256")),
        (json!({ "guidance_scale": 101 }), "`guidance_scale` is 101; expected 0 to 100".into()),
        (
            json!({ "guidance_scale": "x" }),
            "`guidance_scale` is \"x\"; expected a number from 0 to 100".into(),
        ),
        (json!({ "count": 17 }), "`count` is 17; expected 1 to 16".into()),
        (
            json!({ "max_colors": 0 }),
            "`max_colors` is `0`; expected `auto`, `elbow`, `all` or 1 to 256".into(),
        ),
        (json!({ "seed": -1 }), "`seed` is -1; expected a whole number, 0 or more".into()),
        (
            json!({ "transparent": "yes" }),
            "`transparent` is `yes`; expected `auto`, `off` or a color such as `#ff00ff`".into(),
        ),
        (json!({ "name": "../key" }), "`name` is `../key`; expected 1 to 64 of".into()),
        (json!({ "model": "nope" }), "`model` is `nope`; there are `sketch`".into()),
        (json!({ "style": "nope" }), "`style` is \"nope\"; expected one of `pixel_art`".into()),
        (json!({ "scheduler": "nope" }), "`scheduler` is `nope`; expected one of `euler`".into()),
        (json!({ "palette": "/etc/passwd" }), "`palette` is `/etc/passwd`; expected colors such as".into()),
        (json!({ "sise": 7 }), "`sise` is 7, and there is no such field; the nearest are ".into()),
        (json!({ "Width": 7 }), "`Width` is 7, and there is no such field; the nearest are `width`".into()),
        (json!({ "steps": "7.5" }), whole("steps", "\"7.5\"", "1 to 1000")),
        (json!({ "model": "x".repeat(1 << 20) }), "`model` is `xxxx".into()),
        (json!({ "name": "x".repeat(1 << 20) }), "`name` is `xxxx".into()),
        (
            json!({ "prompt": "x".repeat(1 << 20) }),
            "`prompt` has 1048576 characters; expected at most 2000".into(),
        ),
    ] {
        let mut call = json!({ "prompt": "a key" });
        if arguments == json!({}) {
            call = json!({});
        }
        for (field, value) in arguments.as_object().unwrap() {
            call[field] = value.clone();
        }
        let fault = client.fault("generate_sprite", call);
        assert!(fault.starts_with(&message), "{fault}");
        assert!(
            fault.ends_with(" Mend it and call `generate_sprite` again.") && fault.len() < 600,
            "{fault}"
        );
    }
    assert_eq!(fs::read_dir(desk.path("assets")).unwrap().count(), 0, "nothing is left of what was refused");
}

#[test]
fn what_is_no_call_is_told_by_the_protocol() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let unknown = client.ask("tools/call", json!({ "name": "draw", "arguments": {} }));
    assert_eq!(unknown["error"]["code"], -32602);
    assert!(unknown["error"]["message"].as_str().unwrap().contains("`generate_sprite`"), "{unknown}");
    assert_eq!(client.ask("tools/draw", json!({}))["error"]["code"], -32601);
    for uri in ["sprite://nope/sprite.png", "sprite://../x/sprite.png", "file:///etc/passwd"] {
        assert_eq!(client.ask("resources/read", json!({ "uri": uri }))["error"]["code"], -32602, "{uri}");
    }
    assert_eq!(client.ask("tools/list", json!({ "cursor": "7" }))["error"]["code"], -32602);
    client.send("{ this is no JSON");
    client.send("[]");
    assert!(client.ask("tools/list", json!({}))["result"]["tools"].is_array(), "it goes on");
}

#[test]
fn ids_of_jobs_and_assets_are_checked() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    for (tool, arguments, message) in [
        ("get_job", json!({ "job_id": "7" }), "`job_id` is `7`; expected an id, for example `0"),
        ("get_job", json!({ "job_id": "01a2093c-ac63-7568-bd21-cc926afd35b8" }), "`job_id` is `01a2093c"),
        ("get_job", json!({ "job_id": "7", "wait_seconds": 26 }), "`wait_seconds` is 26; expected 0 to 25"),
        ("cancel_job", json!({ "job_id": "" }), "`job_id` is ``; expected an id, for example `0"),
        ("get_asset", json!({ "asset_id": "nope" }), "there is no asset `nope`; expected an id"),
        ("get_asset", json!({ "asset_id": "../../etc" }), "`asset_id` is `../../etc`; expected 1 to 64 of"),
        ("list_assets", json!({ "limit": 0 }), "`limit` is 0; expected 1 to 200"),
        ("list_assets", json!({ "cursor": "nope" }), "`cursor` is `nope`; expected"),
    ] {
        let fault = client.fault(tool, arguments);
        assert!(fault.starts_with(message), "{fault}");
    }
}

#[test]
fn a_fault_tells_programs_its_kind_and_the_argument() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    for (tool, arguments, kind, field) in [
        ("get_job", json!({ "job_id": "7" }), "invalid_request", json!("job_id")),
        (
            "get_job",
            json!({ "job_id": "01a2093c-ac63-7568-bd21-cc926afd35b8" }),
            "not_found",
            json!("job_id"),
        ),
        ("get_asset", json!({ "asset_id": "../x" }), "invalid_request", json!("asset_id")),
        ("get_asset", json!({ "asset_id": "nope" }), "not_found", Value::Null),
        ("list_assets", json!({ "limit": 0 }), "invalid_request", json!("limit")),
        ("generate_batch", json!({ "prompts": ["a", 7] }), "invalid_request", json!("prompts[1]")),
        ("pixelize_image", json!({ "path": "/etc/passwd" }), "forbidden_path", Value::Null),
        ("generate_sprite", json!({ "prompt": "a", "model": "nope" }), "invalid_model", json!("model")),
        ("generate_sprite", json!({ "prompt": "a", "project": "/etc" }), "forbidden_path", Value::Null),
        ("deploy_to_bevy", json!({ "assets": ["a"], "project": "/etc" }), "forbidden_path", Value::Null),
    ] {
        let meta = &client.call(tool, arguments)["_meta"];
        assert_eq!(meta["dgx-pixels/kind"], kind, "{tool}: {meta}");
        assert_eq!(meta["dgx-pixels/field"], field, "{tool}: {meta}");
    }
}

#[test]
fn pictures_are_read_only_where_it_is_allowed() {
    let desk = Desk::new();
    let art = desk.path("art.png");
    let sprite =
        image::RgbaImage::from_fn(8, 8, |x, y| image::Rgba([(x * 30) as u8, (y * 30) as u8, 90, 255]));
    image::imageops::resize(&sprite, 64, 64, image::imageops::FilterType::Nearest).save(&art).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::copy(&art, outside.path().join("art.png")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("art.png"), desk.path("link.png")).unwrap();
    fs::write(desk.path("text.png"), "no picture").unwrap();

    let mut client = desk.stdio(&[]);
    let facts = client.facts("pixelize_image", json!({ "path": art, "transparent": false }));
    assert_eq!((&facts["width"], &facts["asset_id"]), (&json!(8), &json!("art")));
    assert_eq!((&facts["confidence"], &facts["unsure_background"]), (&json!(1.0), &Value::Null));
    assert!(Path::new(facts["path"].as_str().unwrap()).is_file());
    for (path, message) in [
        (outside.path().join("art.png"), "may not be used: it lies outside"),
        (desk.path("link.png"), "may not be used: it lies outside"),
        (desk.path("../../../../etc/passwd"), "may not be used: it lies outside"),
        (desk.path("none.png"), "cannot be used"),
        (desk.path("text.png"), "`path` is `"),
        ("/dev/zero".into(), "may not be used"),
    ] {
        let fault = client.fault("pixelize_image", json!({ "path": path }));
        assert!(fault.contains(message), "{fault}");
    }
    let fault = client.fault("pixelize_image", json!({ "path": art, "width": 8 }));
    assert!(fault.starts_with("`width` and `height` go together"), "{fault}");
}

#[test]
fn a_control_names_a_net_and_an_image_that_may_be_read() {
    let desk = Desk::new();
    let (art, outside) = (desk.path("art.png"), tempfile::tempdir().unwrap());
    let hidden = outside.path().join("art.png");
    for path in [&art, &hidden] {
        image::RgbaImage::from_pixel(16, 16, image::Rgba([9, 9, 9, 255])).save(path).unwrap();
    }
    let mut client = desk.stdio(&[]);
    let choices = client.facts("list_models", json!({}));
    assert!(choices["controls"].is_array(), "{choices}");
    let control = |image: &Path| json!([{ "model": "canny", "image": image, "preprocess": "edges" }]);
    for (control, kind, message) in [
        (control(&hidden), "forbidden_path", "may not be used: it lies outside"),
        (control(&desk.path("none.png")), "not_found", "`control` has an image that is `"),
        (json!([{ "model": "canny" }]), "invalid_request", "missing field `image`"),
        (
            json!([{ "model": "canny", "image": art, "scale": 11 }]),
            "invalid_request",
            "the scale 11; expected 0 to 10",
        ),
        // The sketch has no nets.
        (control(&art), "invalid_request", "`control` is `canny`; expected none"),
    ] {
        let result = client.call("generate_sprite", json!({ "prompt": "a key", "control": control }));
        assert_eq!(result["_meta"]["dgx-pixels/kind"], kind, "{result}");
        assert_eq!(result["_meta"]["dgx-pixels/field"], "control", "{result}");
        assert!(result["content"][0]["text"].as_str().unwrap().contains(message), "{result}");
    }
}

#[test]
fn a_sprite_is_drawn_from_an_asset_or_from_a_file_that_may_be_read() {
    let desk = Desk::new();
    let art = desk.path("art.png");
    let sprite =
        image::RgbaImage::from_fn(16, 16, |x, y| image::Rgba([(x * 15) as u8, (y * 15) as u8, 90, 255]));
    sprite.save(&art).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::copy(&art, outside.path().join("art.png")).unwrap();

    let mut client = desk.stdio(&[]);
    let asked =
        |image: Value| json!({ "prompt": "a key", "seed": 4, "mask": "0,0,4x4", "init_image": image });
    let from_file = client.facts("generate_sprite", asked(json!(art)));
    assert_eq!((&from_file["width"], &from_file["height"]), (&json!(16), &json!(16)));
    let drawn = |facts: &Value| image::open(facts["path"].as_str().unwrap()).unwrap().into_rgba8();
    let first = drawn(&from_file);
    let keeps = |drawn: &image::RgbaImage| {
        let mut kept = sprite.enumerate_pixels().filter(|(x, y, _)| *x > 3 || *y > 3);
        kept.all(|(x, y, pixel)| drawn.get_pixel(x, y) == pixel)
    };
    assert!(keeps(&first) && first != sprite);
    // What was drawn is an asset, and can be drawn from in turn.
    let again = client.facts("generate_sprite", asked(from_file["asset_id"].clone()));
    assert!(keeps(&drawn(&again)));
    let many = json!({ "prompts": ["a key"], "seed": 4, "mask": "0,0,4x4", "init_image": art });
    assert_eq!(drawn(&client.facts("generate_batch", many)), first);

    for (image, kind, message) in [
        (json!(outside.path().join("art.png")), "forbidden_path", "may not be used: it lies outside"),
        (json!(desk.path("none.png")), "not_found", "`init_image` is `"),
        (json!("blake3:7"), "invalid_request", "`init_image` is `blake3:7`; expected the path"),
        (json!(7), "invalid_request", "`init_image` is 7; expected a text"),
    ] {
        let result = client.call("generate_sprite", asked(image));
        assert_eq!(result["_meta"]["dgx-pixels/kind"], kind, "{result}");
        assert_eq!(result["_meta"]["dgx-pixels/field"], "init_image");
        assert!(result["content"][0]["text"].as_str().unwrap().contains(message), "{result}");
    }
}

#[test]
fn a_full_library_says_how_to_make_room() {
    let desk = Desk::new();
    let mut client = desk.stdio(&["--quota", "100B"]);
    let first = client.facts("generate_sprite", json!({ "prompt": "a key" }));
    let fault = client.fault("generate_sprite", json!({ "prompt": "a key" }));
    assert!(fault.contains("is full") && fault.contains("dgx-pixels-mcp clean"), "{fault}");
    assert!(Path::new(first["path"].as_str().unwrap()).is_file());

    let library = desk.path("assets");
    let clean = desk
        .command(&["clean", "--library", library.to_str().unwrap(), "--keep-newest", "0"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&clean.stdout), "a-key\n");
    client.facts("generate_sprite", json!({ "prompt": "a key" }));
}

/// The largest file that a running program may write from here on.
fn limit_file_size(program: u32, bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: it is given what it asks for.
    let done = unsafe { libc::prlimit(program as i32, libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
    assert_eq!(done, 0);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_reported_that_is_not_there() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    client.facts("generate_sprite", json!({ "prompt": "a key" }));
    for bytes in [0, 100, 2000] {
        limit_file_size(client.child.id(), bytes);
        let fault = client.fault("generate_sprite", json!({ "prompt": "a door", "width": 64 }));
        assert!(fault.contains("File too large") && fault.contains("Tell the user"), "{fault}");
        assert_eq!(client.facts("list_assets", json!({}))["assets"].as_array().map(Vec::len), Some(1));
        limit_file_size(client.child.id(), libc::RLIM_INFINITY);
        assert_eq!(client.facts("validate_assets", json!({})), json!({ "checked": 1, "faults": [] }));
        assert_eq!(fs::read_dir(desk.path("assets")).unwrap().count(), 1);
    }
    let door = client.facts("generate_sprite", json!({ "prompt": "a door", "width": 64 }));
    assert!(Path::new(door["path"].as_str().unwrap()).is_file());
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn what_another_server_draws_is_told() {
    let desk = Desk::new();
    let (mut one, mut other) = (desk.stdio(&[]), desk.stdio(&[]));
    let params = json!({ "notifications": { "resourcesListChanged": true } });
    one.send(&request(99, "subscriptions/listen", params).to_string());
    while one.receive()["method"] != "notifications/subscriptions/acknowledged" {}
    other.facts("generate_sprite", json!({ "prompt": "a key" }));
    while one.receive()["method"] != "notifications/resources/list_changed" {}
    assert_eq!(one.facts("list_assets", json!({}))["assets"][0]["asset_id"], "a-key");
}

#[test]
fn a_picture_that_was_deleted_is_not_reported() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let facts = client.facts("generate_sprite", json!({ "prompt": "a key" }));
    fs::remove_file(facts["path"].as_str().unwrap()).unwrap();
    assert_eq!(client.facts("list_assets", json!({}))["assets"], json!([]));
    let fault = client.fault("get_asset", json!({ "asset_id": "a-key" }));
    assert!(fault.contains("was deleted"), "{fault}");
    let checked = client.facts("validate_assets", json!({}));
    assert_eq!((&checked["checked"], checked["faults"].as_array().unwrap().len()), (&json!(1), 1));
}

#[test]
fn prompts_and_completion_name_what_there_is() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    client.facts("generate_sprite", json!({ "prompt": "a key" }));
    let mut complete = |name: &str, value: &str| {
        let reference = json!({ "type": "ref/prompt", "name": "make_character" });
        let params = json!({ "ref": reference, "argument": { "name": name, "value": value } });
        client.ask("completion/complete", params)["result"]["completion"]["values"].clone()
    };
    assert_eq!(complete("palette", "pico"), json!(["pico-8"]));
    assert_eq!(complete("style", "8"), json!(["8bit"]));
    assert_eq!(complete("asset_id", "a-"), json!(["a-key"]));
    assert_eq!(complete("model", ""), json!(["sketch"]));
    let missing = client.ask("prompts/get", json!({ "name": "make_character" }));
    assert!(missing["error"]["message"].as_str().unwrap().starts_with("`character` is missing"), "{missing}");
}

#[test]
fn configuration_is_printed_for_every_client() {
    let desk = Desk::new();
    for client in ["claude", "claude-desktop", "codex", "cursor", "gemini", "vscode", "zed"] {
        let printed =
            desk.command(&["print-config", client, "--", "stdio", "--model", "sketch"]).output().unwrap();
        let text = String::from_utf8(printed.stdout).unwrap();
        assert!(text.contains("dgx-pixels-mcp") && text.contains("\"sketch\""), "{text}");
        assert!(client == "codex" || serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    }
}
