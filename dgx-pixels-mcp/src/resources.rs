//! `sprite://` resources: every asset's picture, preview and record; and the styles.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dgx_pixels_core::Error;
use dgx_pixels_core::library::{AssetId, Cursor, Query};
use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
};

use crate::preview::preview;
use crate::studio::Studio;
use crate::styles::STYLES_JSON;

const STYLES: &str = "dgx-pixels://styles";
const PNG: &str = "image/png";
const JSON: &str = "application/json";
const PAGE: usize = 100;

/// All styles, and a page of assets.
pub(crate) async fn list(studio: &Studio, cursor: Option<String>) -> Result<ListResourcesResult, ErrorData> {
    let after: Option<Cursor> = match &cursor {
        Some(cursor) => {
            Some(cursor.parse().map_err(|error: Error| ErrorData::invalid_params(error.to_string(), None))?)
        }
        None => None,
    };
    let studio = studio.clone();
    let page =
        blocking(move || studio.library().list(&Query { after, limit: PAGE, ..Default::default() })).await?;
    let styles = Resource::new(STYLES, "styles").with_title("Style presets").with_mime_type(JSON);
    let assets = page.assets.into_iter().map(|asset| {
        let title = asset.made.map(|made| made.request.prompt);
        let resource = Resource::new(format!("sprite://{}/sprite.png", asset.id), asset.id.to_string());
        resource
            .with_title(title.unwrap_or_else(|| asset.id.to_string()))
            .with_description(format!("{}x{}, {} colours", asset.width, asset.height, asset.colors))
            .with_mime_type(PNG)
            .with_size(asset.bytes)
    });
    let first = cursor.is_none().then_some(styles);
    let mut all = ListResourcesResult::with_all_items(first.into_iter().chain(assets).collect());
    all.next_cursor = page.next.map(|cursor| cursor.to_string());
    Ok(all.with_ttl_ms(0).with_cache_scope(CacheScope::Private))
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    [
        ("sprite.png", "sprite", "The sprite itself, one pixel for each of its cells.", PNG),
        ("preview.png", "preview", "The sprite enlarged, to be looked at.", PNG),
        ("asset.json", "record", "How it was made, its hash and its certificate.", JSON),
    ]
    .into_iter()
    .map(|(file, name, description, mime)| {
        ResourceTemplate::new(format!("sprite://{{asset_id}}/{file}"), name)
            .with_description(description)
            .with_mime_type(mime)
    })
    .collect()
}

pub(crate) async fn read(studio: &Studio, uri: String) -> Result<ReadResourceResult, ErrorData> {
    if uri == STYLES {
        let contents = ResourceContents::text(STYLES_JSON, uri).with_mime_type(JSON);
        return Ok(told(contents));
    }
    let unknown = || {
        let message =
            format!("there is no resource `{uri}`; expected `{STYLES}` or `sprite://ASSET_ID/sprite.png`");
        ErrorData::resource_not_found(message, None)
    };
    let (id, file) =
        uri.strip_prefix("sprite://").and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
    let id: AssetId = id.parse().map_err(|_| unknown())?;
    let (library, wanted) = (studio.library().clone(), file.to_owned());
    let contents = match wanted.as_str() {
        "sprite.png" | "preview.png" => {
            let png = blocking(move || library.read_png(&id)).await?;
            let png = match wanted.as_str() {
                "sprite.png" => png,
                _ => match image::load_from_memory(&png) {
                    Ok(image) => preview(&image.into_rgba8()),
                    Err(error) => return Err(ErrorData::internal_error(error.to_string(), None)),
                },
            };
            ResourceContents::blob(BASE64_STANDARD.encode(png), uri).with_mime_type(PNG)
        }
        "asset.json" => {
            let asset = blocking(move || library.get(&id)).await?;
            let text = serde_json::to_string_pretty(&asset);
            let text = text.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            ResourceContents::text(text, uri).with_mime_type(JSON)
        }
        _ => return Err(unknown()),
    };
    Ok(told(contents))
}

fn told(contents: ResourceContents) -> ReadResourceResult {
    ReadResourceResult::new(vec![contents]).with_ttl_ms(0).with_cache_scope(CacheScope::Private)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, ErrorData> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    done.map_err(|error| match error {
        Error::NoAsset { .. } | Error::BrokenAsset { .. } => {
            ErrorData::resource_not_found(error.to_string(), None)
        }
        error => ErrorData::internal_error(error.to_string(), None),
    })
}
