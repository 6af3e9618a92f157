use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json::*;

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
struct Args {
    prompt: String,
    #[schemars(range(min = 1, max = 1000))]
    steps: Option<u32>,
    strength: Option<f64>,
    seed: Option<u64>,
    #[serde(default)]
    tile_x: bool,
    sizes: Option<Vec<u32>>,
}

fn read(arguments: Value) -> Result<Args, String> {
    let Value::Object(arguments) = arguments else { panic!() };
    parse::<Args>(&schema::<Args>(), Some(arguments)).map_err(|error| error.to_string())
}

fn fault(arguments: Value) -> String {
    read(arguments).unwrap_err()
}

#[test]
fn a_fault_names_the_field_its_value_and_what_would_be_right() {
    for (arguments, message) in [
        (json!({}), "`prompt` is missing; expected a text"),
        (json!({ "prompt": null }), "`prompt` is missing; expected a text"),
        (json!({ "prompt": 7 }), "`prompt` is 7; expected a text"),
        (
            json!({ "prompt": "key", "steps": "many" }),
            "`steps` is \"many\"; expected a whole number from 1 to 1000",
        ),
        (json!({ "prompt": "key", "steps": -1 }), "`steps` is -1; expected a whole number from 1 to 1000"),
        (json!({ "prompt": "key", "tile_x": "yes" }), "`tile_x` is \"yes\"; expected `true` or `false`"),
        (
            json!({ "prompt": "key", "sizes": [1, "x"] }),
            "`sizes[1]`: invalid type: string \"x\", expected u32",
        ),
    ] {
        assert_eq!(fault(arguments), message);
    }
    let long = fault(json!({ "prompt": ["x".repeat(1 << 20)] }));
    assert!(long.len() < 200, "{long}");
}

#[test]
fn an_unknown_argument_is_named_with_its_value_and_the_nearest_known_ones() {
    for (name, message) in [
        ("sise", "`sise` is 7, and there is no such field; the nearest are `sizes`"),
        ("step", "`step` is 7, and there is no such field; the nearest are `steps`"),
        ("Prompt", "`Prompt` is 7, and there is no such field; the nearest are `prompt`"),
        ("zzz", "`zzz` is 7, and there is no such field; expected one of `prompt`, `seed`, "),
        ("", "`` is 7, and there is no such field; expected one of `prompt`, `seed`, "),
    ] {
        let fault = fault(json!({ "prompt": "key", name: 7 }));
        assert!(fault.starts_with(message), "{fault}");
    }
    let fault = fault(json!({ "prompt": "key", "x".repeat(1 << 20): "y".repeat(1 << 20) }));
    assert!(fault.len() < 500, "{fault}");
}

#[test]
fn what_is_exactly_a_number_is_taken_for_it() {
    let with = |field: &str, value: Value| read(json!({ "prompt": "key", field: value }));
    for value in [json!(32), json!(32.0), json!("32"), json!("32.0"), json!("3.2e1")] {
        assert_eq!(with("steps", value.clone()).unwrap().steps, Some(32), "{value}");
        assert_eq!(with("sizes", json!([value])).unwrap().sizes, Some(vec![32]), "{value}");
        assert_eq!(with("strength", value.clone()).unwrap().strength, Some(32.0), "{value}");
    }
    assert_eq!(with("seed", json!("18446744073709551615")).unwrap().seed, Some(u64::MAX));
    assert_eq!(with("strength", json!("2.5")).unwrap().strength, Some(2.5));
    assert_eq!(with("steps", json!("-0")).unwrap().steps, Some(0));
    for value in ["", " 32", "32 ", "32px", "0x20", "thirty", "2.5", "-1", "NaN", "1e400", "[32]", "null"] {
        let fault = with("steps", json!(value)).unwrap_err();
        let expected = format!("`steps` is {}; expected a whole number from 1 to 1000", json!(value));
        assert_eq!(fault, expected);
    }
    // 2^64 as a float is no seed, though it would fit a wider number.
    assert!(with("seed", json!(18_446_744_073_709_551_616.0)).is_err());
    assert!(with("steps", json!(true)).is_err());
    assert_eq!(read(json!({ "prompt": "32" })).unwrap().prompt, "32", "a text stays one");
}

#[test]
fn what_is_null_was_left_out() {
    assert!(read(json!({ "prompt": "key", "steps": null, "tile_x": null })).is_ok());
}

#[test]
fn a_closed_schema_names_even_no_properties() {
    #[derive(Debug, Deserialize, JsonSchema)]
    struct Nothing {}
    let mut schema = (*schema::<Nothing>()).clone();
    close(&mut schema);
    assert_eq!(
        Value::Object(schema.clone()),
        json!({ "type": "object", "properties": {}, "additionalProperties": false })
    );
    let arguments = json!({ "all": true }).as_object().cloned();
    let fault = parse::<Nothing>(&schema, arguments).unwrap_err().to_string();
    assert_eq!(fault, "`all` is true, and there is no such field; there are no fields");
}

#[test]
fn a_field_that_a_preset_leaves_without_effect_is_refused() {
    let refused = |request: Value| {
        let fields = super::SpriteFields::take(&mut request.as_object().unwrap().clone()).unwrap();
        fields.check(|name| request.get(name).is_some()).map_err(|error| error.to_string())
    };
    assert_eq!(
        refused(json!({ "prompt": "a key", "preset": "turbo", "negative_prompt": "fog" })).unwrap_err(),
        "`guidance_scale` is 0 by the preset `turbo`, which turns guidance off, and `negative_prompt` is for guidance; \
         expected more than 1, or no `negative_prompt`"
    );
    assert_eq!(
        refused(json!({ "prompt": "a key", "preset": "lcm", "timestep_spacing": "trailing" })).unwrap_err(),
        "`timestep_spacing` is `trailing` and `scheduler` is `lcm`, which has timesteps of its own; expected another \
         scheduler, or no `timestep_spacing`"
    );
    for request in [
        json!({ "prompt": "a key", "preset": "turbo", "negative_prompt": "fog", "guidance_scale": 2 }),
        json!({ "prompt": "a key", "preset": "lcm", "negative_prompt": "fog" }),
        json!({ "prompt": "a key", "preset": "turbo", "timestep_spacing": "leading" }),
    ] {
        assert_eq!(refused(request), Ok(()));
    }
}

#[test]
fn a_list_of_steps_is_one_value_of_a_flag() {
    use super::flags::list;
    assert_eq!(list::<u32>("999,749, 499"), Ok(vec![999, 749, 499]));
    assert_eq!(list::<f64>("14.6,0"), Ok(vec![14.6, 0.0]));
    for wrong in ["", "999,", "a", "-1"] {
        let expected = "expected numbers with commas between them, for example `999,499`";
        assert_eq!(list::<u32>(wrong), Err(expected), "{wrong:?}");
    }
}
