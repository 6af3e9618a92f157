//! Prompts that a user picks, and what completes their arguments.

use dgx_pixels_core::library::Query;
use dgx_pixels_core::pixel::Palette;
use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;

use crate::studio::Studio;
use crate::styles;
use dgx_pixels_core::fields::json::{cut, short};

/// The most characters of a prompt's argument.
const MAX_CHARS: usize = 2000;

/// A prompt's text; `{NAME}` stands for an argument.
struct Template {
    name: &'static str,
    description: &'static str,
    /// Name, description, and what it is where none is given; without that it is required.
    arguments: &'static [(&'static str, &'static str, Option<&'static str>)],
    text: &'static str,
}

const STYLE: (&str, &str, Option<&str>) = ("style", "A style preset.", Some("game_sprite"));

const ALL: [Template; 3] = [
    Template {
        name: "make_character",
        description: "A game's character, tried with several seeds.",
        arguments: &[
            ("character", "Who, as `a goblin with a torch`.", None),
            ("size", "Width and height in sprite pixels.", Some("32")),
            STYLE,
        ],
        text: "Make a sprite of {character} for my game. Call `generate_sprite` with this as the prompt, width and height {size}, style \
            `{style}` and count 4. Look at the four, say which is best and why, and give me its path. If none will do, change the \
            prompt to one thing and its colors and try again, twice at most.",
    },
    Template {
        name: "make_item_set",
        description: "Items that look as if they belong together.",
        arguments: &[
            ("items", "Which, as `a key, a potion and a sword`.", None),
            ("size", "Width and height in sprite pixels.", Some("32")),
            ("palette", "A palette that all share.", Some("db32")),
        ],
        text: "Make a set of game items: {items}. Call `generate_batch` once with a prompt for each, width and height {size} and palette \
            `{palette}`. Look at the contact sheet; draw again with another seed what cannot be told for what it is. End with a list of \
            the files.",
    },
    Template {
        name: "make_tileset",
        description: "Tiles that repeat without a seam.",
        arguments: &[
            ("theme", "Where, as `a mossy dungeon`.", None),
            ("size", "Width and height of a tile in sprite pixels.", Some("16")),
        ],
        text: "Make tiles for {theme}: floor, wall, and two variants of each. Call `generate_batch` with a prompt for each, width and \
            height {size} and style `tile`. Check `seam` of each: the nearer to 1, the less its edges show. Draw anew what shows a seam, \
            and end with a list of the files.",
    },
];

pub(crate) fn list() -> Vec<Prompt> {
    let prompt = |template: &Template| {
        let arguments = template.arguments.iter().map(|(name, description, default)| {
            PromptArgument::new(*name).with_description(*description).with_required(default.is_none())
        });
        Prompt::new(template.name, Some(template.description), Some(arguments.collect()))
    };
    ALL.iter().map(prompt).collect()
}

pub(crate) fn get(name: &str, given: JsonObject) -> Result<GetPromptResult, ErrorData> {
    let fault = |message: String| ErrorData::invalid_params(message, None);
    let template = ALL.iter().find(|template| template.name == name).ok_or_else(|| {
        let names = ALL.map(|template| format!("`{}`", template.name)).join(", ");
        fault(format!("there is no prompt `{}`; there are {names}", cut(name)))
    })?;
    let mut text = template.text.to_owned();
    for (name, description, default) in template.arguments {
        let value = match given.get(*name) {
            Some(Value::String(value)) if value.chars().count() > MAX_CHARS => {
                let chars = value.chars().count();
                return Err(fault(format!("`{name}` has {chars} characters; expected at most {MAX_CHARS}")));
            }
            Some(Value::String(value)) if !value.trim().is_empty() => value.as_str(),
            None | Some(Value::Null | Value::String(_)) => default
                .ok_or_else(|| fault(format!("`{name}` is missing; expected a text: {description}")))?,
            Some(other) => {
                return Err(fault(format!("`{name}` is {}; expected a text: {description}", short(other))));
            }
        };
        text = text.replace(&format!("{{{name}}}"), value);
    }
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(template.description))
}

/// The values that the argument `name` may have, beginning with `value`.
pub(crate) fn complete(studio: &Studio, name: &str, value: &str) -> Vec<String> {
    let all: Vec<String> = match name {
        "model" => studio.models().iter().map(|model| model.name.clone()).collect(),
        "style" => styles::all().iter().map(|style| style.name.clone()).collect(),
        "palette" => Palette::names().map(str::to_owned).collect(),
        "size" => ["16", "24", "32", "48", "64"].map(str::to_owned).into(),
        "asset_id" => {
            let query = Query { prefix: Some(value.to_owned()), limit: 100, ..Default::default() };
            let page = studio.library().list(&query).unwrap_or_default();
            page.assets.into_iter().map(|asset| asset.id.to_string()).collect()
        }
        _ => vec![],
    };
    let value = value.to_lowercase();
    all.into_iter().filter(|known| known.to_lowercase().starts_with(&value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_fills_all_its_places() {
        for template in &ALL {
            let given: JsonObject =
                template.arguments.iter().map(|(name, ..)| ((*name).into(), "7".into())).collect();
            let text = format!("{:?}", get(template.name, given).unwrap());
            assert!(
                !text.contains('{')
                    || !template.arguments.iter().any(|(name, ..)| text.contains(&format!("{{{name}}}")))
            );
            let required = template.arguments.iter().filter(|(.., default)| default.is_none()).count();
            assert_eq!(get(template.name, JsonObject::new()).is_err(), required > 0);
        }
    }

    #[test]
    fn defaults_are_palettes_and_styles_that_there_are() {
        for (name, _, default) in ALL.iter().flat_map(|template| template.arguments) {
            match (*name, default) {
                ("palette", Some(default)) => assert!(Palette::names().any(|name| name == *default)),
                ("style", Some(default)) => assert!(styles::find(default).is_some()),
                _ => {}
            }
        }
    }
}
