//! `list_assets`, `get_asset` and `validate_assets`.

use dgx_pixels_core::library::{Asset, AssetId, Cursor, Query};
use dgx_pixels_core::{ErrorKind, ValueError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Answer, Call, Group, Kind, Wrong, blocking, reads, wrong};
use crate::answer::{Fault, cut, facts, has_room, structured, with_picture};
use crate::pictures::of_library;
use crate::pixel_work::{Length, Stop};
use crate::preview::preview;
use crate::studio::Studio;

const LIST: &str = "list_assets";
const GET: &str = "get_asset";
const VALIDATE: &str = "validate_assets";
const MAX_LIMIT: usize = 200;
/// The most characters of a prompt in a list. An asset that another program made may have more.
const MAX_PROMPT_BYTES: usize = 4000;
/// The most faults that are told one by one.
const MAX_FAULTS: usize = 100;
/// The most bytes of what is told of one fault.
const MAX_FAULT_BYTES: usize = 1000;

pub(super) fn tools() -> Vec<Kind> {
    vec![
        Kind::new(Group::Library, LIST, "List assets", reads(), list_assets).with_output::<Listed>(),
        Kind::new(Group::Library, GET, "Look at an asset", reads(), get_asset),
        Kind::new(Group::Library, VALIDATE, "Check assets", reads(), validate_assets)
            .with_output::<Checked>(),
    ]
}

/// Lists the sprites that were made, newest first. Each file that is named is there.
#[derive(Debug, Deserialize, JsonSchema)]
struct ListAssets {
    /// A text in the prompt or the style.
    query: Option<String>,
    /// Name of a model, to list only its assets.
    model: Option<String>,
    /// Number of assets, at most. Default 50.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<usize>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Listed {
    /// Newest first.
    assets: Vec<Line>,
    /// Value for `cursor` to get the next page, if there is one.
    next_cursor: Option<String>,
}

/// One asset.
#[derive(Serialize, JsonSchema)]
struct Line {
    asset_id: String,
    /// The file, absolute.
    path: String,
    /// Width in pixels.
    width: u32,
    /// Height in pixels.
    height: u32,
    /// Number of different colors.
    colors: usize,
    /// Prompt that was given to the model.
    prompt: Option<String>,
    seed: Option<u64>,
    model: Option<String>,
}

impl Line {
    fn new(studio: &Studio, asset: Asset) -> Line {
        let path = studio.library().path(&asset.id).display().to_string();
        let Asset { id, width, height, colors, made, .. } = asset;
        Line {
            asset_id: id.to_string(),
            path,
            width,
            height,
            colors,
            seed: made.as_ref().map(|made| made.request.seed),
            model: made.as_ref().map(|made| made.model.clone()),
            prompt: made.map(|made| cut(made.request.prompt, MAX_PROMPT_BYTES)),
        }
    }
}

/// Shows one asset: its file, how it was made, and a preview.
#[derive(Debug, Deserialize, JsonSchema)]
struct GetAsset {
    /// Id of the asset, from `generate_sprite` or `list_assets`.
    asset_id: String,
}

/// Reads assets and compares them with what was recorded: that the file is there and unchanged, has
/// the size that was told, and alpha that is 0 or 255.
#[derive(Debug, Deserialize, JsonSchema)]
struct ValidateAssets {
    /// Id of the only asset to check. Default: all assets.
    asset_id: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Checked {
    /// Number of assets that were checked.
    checked: usize,
    /// Faults that were found, at most the first 100; empty if there are none.
    faults: Vec<AssetFault>,
    /// The number of faults beyond those.
    more_faults: Option<usize>,
}

#[derive(Serialize, JsonSchema)]
struct AssetFault {
    asset_id: String,
    /// Description of the fault, and of the way to fix it.
    fault: String,
}

async fn list_assets(call: Call, arguments: ListAssets) -> Answer {
    let after = arguments.cursor.as_deref().map(str::parse::<Cursor>).transpose();
    let after = after.map_err(|error| wrong(LIST, error))?;
    let limit = arguments.limit.unwrap_or(50);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let fault = format!("is {limit}; expected 1 to {MAX_LIMIT}");
        return Err(wrong(LIST, Wrong::of("limit", fault)));
    }
    let mut query =
        Query { text: arguments.query, model: arguments.model, after, limit, ..Default::default() };
    blocking(&call.studio, &call.stop, Length::Short, move |studio, _| {
        loop {
            let page = studio.library().list(&query)?;
            let assets = page.assets.into_iter().map(|asset| Line::new(studio, asset)).collect();
            let listed = Listed { assets, next_cursor: page.next.map(|cursor| cursor.to_string()) };
            // A page of long prompts has fewer lines.
            if query.limit == 1 || has_room(&listed) {
                return structured(&listed);
            }
            query.limit = query.limit.div_ceil(2);
        }
    })
    .await
}

async fn get_asset(call: Call, arguments: GetAsset) -> Answer {
    let id = id(GET, &arguments.asset_id)?;
    blocking(&call.studio, &call.stop, Length::Short, move |studio, stop| {
        let library = studio.library();
        let asset = library.get(&id)?;
        let (sprite, _memory) = of_library(studio, stop, &id)?;
        let mut all = facts(library, &asset);
        all.insert("made".into(), serde_json::to_value(&asset.made).unwrap_or(Value::Null));
        all.insert("certificate".into(), json!(asset.certificate));
        Ok(with_picture(all, |side| preview(&sprite, side)))
    })
    .await
}

async fn validate_assets(call: Call, arguments: ValidateAssets) -> Answer {
    let only = arguments.asset_id.as_deref().map(|text| id(VALIDATE, text)).transpose()?;
    blocking(&call.studio, &call.stop, Length::Long, move |studio, stop| {
        let ids = match only {
            Some(id) => vec![id],
            None => studio.library().ids()?,
        };
        let (mut faults, mut more) = (vec![], 0);
        for id in &ids {
            stop.check()?;
            match check(studio, stop, id) {
                Ok(()) => {}
                Err(fault) if faults.len() < MAX_FAULTS => {
                    let fault = cut(fault.text, MAX_FAULT_BYTES);
                    faults.push(AssetFault { asset_id: id.to_string(), fault });
                }
                Err(_) => more += 1,
            }
        }
        structured(&Checked { checked: ids.len(), faults, more_faults: (more > 0).then_some(more) })
    })
    .await
}

fn check(studio: &Studio, stop: &Stop, id: &AssetId) -> Result<(), Fault> {
    // The bytes that are read are those recorded.
    let asset = studio.library().get(id)?;
    let (sprite, _memory) = of_library(studio, stop, id)?;
    if sprite.dimensions() != (asset.width, asset.height) {
        let (width, height) = sprite.dimensions();
        let text = format!("it is {width}x{height}; recorded is {}x{}", asset.width, asset.height);
        return Err(Fault::new(ErrorKind::NotFound, text));
    }
    if asset.certificate.is_some() && sprite.pixels().any(|pixel| !matches!(pixel[3], 0 | 255)) {
        let text = "it has pixels that are half transparent; `pixelize_image` mends it";
        return Err(Fault::new(ErrorKind::NotFound, text));
    }
    Ok(())
}

fn id(tool: &str, text: &str) -> Result<AssetId, Fault> {
    text.parse().map_err(|error: ValueError| wrong(tool, error.of("asset_id")))
}
