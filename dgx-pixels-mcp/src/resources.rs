//! `sprite://` resources: every asset's picture, preview and record; and the styles.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dgx_pixels_core::library::{AssetId, Cursor, Query};
use dgx_pixels_core::{ErrorKind, ValueError};
use rmcp::ErrorData;
use rmcp::model::{
    CacheScope, ListResourcesResult, ReadResourceResult, Resource, ResourceContents, ResourceTemplate,
};

use crate::answer::{Fault, MAX_BYTES, escaped_length};
use crate::pictures::of_library;
use crate::pixel_work::{Length, Stop};
use crate::preview::{SIDES, preview};
use crate::studio::Studio;
use crate::styles::STYLES_JSON;
use dgx_pixels_core::fields::json;

const STYLES: &str = "dgx-pixels://styles";
const PNG: &str = "image/png";
const JSON: &str = "application/json";
const PAGE: usize = 100;
/// The most bytes of a resource, so that its answer is no longer than that of a tool: a third more
/// in Base64, and an eighth for what a text needs to stand in JSON.
const MAX_RESOURCE_BYTES: usize = MAX_BYTES / 4 * 3 - (8 << 10);

/// The resources that a client may read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readable {
    pub(crate) assets: bool,
    pub(crate) styles: bool,
}

impl Readable {
    pub(crate) fn any(self) -> bool {
        self.assets || self.styles
    }
}

/// All styles, and a page of assets.
pub(crate) async fn list(
    studio: &Studio,
    stop: &Stop,
    readable: Readable,
    cursor: Option<String>,
) -> Result<ListResourcesResult, ErrorData> {
    let after: Option<Cursor> = match &cursor {
        Some(cursor) => Some(
            cursor.parse().map_err(|error: ValueError| ErrorData::invalid_params(error.to_string(), None))?,
        ),
        None => None,
    };
    let page = blocking(studio, stop, move |studio| match readable.assets {
        true => Ok(studio.library().list(&Query { after, limit: PAGE, ..Default::default() })?),
        false => Ok(Default::default()),
    })
    .await?;
    let styles = Resource::new(STYLES, "styles").with_title("Style presets").with_mime_type(JSON);
    let assets = page.assets.into_iter().map(|asset| {
        let title = asset.made.map(|made| json::cut(&made.request.prompt));
        let resource = Resource::new(format!("sprite://{}/sprite.png", asset.id), asset.id.to_string());
        resource
            .with_title(title.unwrap_or_else(|| asset.id.to_string()))
            .with_description(format!("{}x{}, {} colors", asset.width, asset.height, asset.colors))
            .with_mime_type(PNG)
            .with_size(asset.bytes)
    });
    let first = (cursor.is_none() && readable.styles).then_some(styles);
    let mut all = ListResourcesResult::with_all_items(first.into_iter().chain(assets).collect());
    all.next_cursor = page.next.map(|cursor| cursor.to_string());
    Ok(all.with_ttl_ms(0).with_cache_scope(CacheScope::Private))
}

pub(crate) fn templates(readable: Readable) -> Vec<ResourceTemplate> {
    if !readable.assets {
        return vec![];
    }
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

pub(crate) async fn read(
    studio: &Studio,
    stop: &Stop,
    readable: Readable,
    uri: String,
) -> Result<ReadResourceResult, ErrorData> {
    if uri == STYLES && readable.styles {
        let contents = ResourceContents::text(STYLES_JSON, uri).with_mime_type(JSON);
        return Ok(told(contents));
    }
    let unknown = || {
        let shown = json::cut(&uri);
        let message =
            format!("there is no resource `{shown}`; expected `{STYLES}` or `sprite://ASSET_ID/sprite.png`");
        ErrorData::resource_not_found(message, None)
    };
    let path = uri.strip_prefix("sprite://").filter(|_| readable.assets);
    let (id, file) = path.and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
    let id: AssetId = id.parse().map_err(|_| unknown())?;
    let contents = match file {
        "sprite.png" => {
            let png = blocking(studio, stop, move |studio| sprite(studio, &id)).await?;
            ResourceContents::blob(BASE64_STANDARD.encode(png), uri).with_mime_type(PNG)
        }
        "preview.png" => {
            let stopped = stop.clone();
            let png = blocking(studio, stop, move |studio| shown(studio, &stopped, &id)).await?;
            ResourceContents::blob(BASE64_STANDARD.encode(png), uri).with_mime_type(PNG)
        }
        "asset.json" => {
            let text = blocking(studio, stop, move |studio| record(studio, &id)).await?;
            ResourceContents::text(text, uri).with_mime_type(JSON)
        }
        _ => return Err(unknown()),
    };
    Ok(told(contents))
}

/// The file of an asset.
fn sprite(studio: &Studio, id: &AssetId) -> Result<Vec<u8>, Fault> {
    let library = studio.library();
    let fault = |bytes: u64| too_long(bytes, &format!("the file is `{}`", library.path(id).display()));
    let bytes = library.get(id)?.bytes;
    if bytes > MAX_RESOURCE_BYTES as u64 {
        return Err(fault(bytes));
    }
    let png = library.read_png(id)?;
    if png.len() > MAX_RESOURCE_BYTES { Err(fault(png.len() as u64)) } else { Ok(png) }
}

/// The largest preview of an asset that fits into an answer.
fn shown(studio: &Studio, stop: &Stop, id: &AssetId) -> Result<Vec<u8>, Fault> {
    let (sprite, _memory) = of_library(studio, stop, id)?;
    let mut previews = SIDES.iter().map(|side| preview(&sprite, *side));
    let fits = previews.find(|png| png.len() <= MAX_RESOURCE_BYTES);
    fits.ok_or_else(|| Fault::new(ErrorKind::Internal, "no preview is small enough"))
}

/// The record of an asset.
fn record(studio: &Studio, id: &AssetId) -> Result<String, Fault> {
    let text = studio.library().get(id)?.to_json();
    // It is escaped once more inside the answer.
    match escaped_length(&text) <= MAX_RESOURCE_BYTES {
        true => Ok(text),
        false => Err(too_long(text.len() as u64, "read it beside the asset's file")),
    }
}

fn too_long(bytes: u64, instead: &str) -> Fault {
    let most = MAX_RESOURCE_BYTES >> 10;
    let text = format!("the resource has {bytes} bytes, and an answer has room for {most} KiB; {instead}");
    Fault::new(ErrorKind::InvalidRequest, text)
}

fn told(contents: ResourceContents) -> ReadResourceResult {
    ReadResourceResult::new(vec![contents]).with_ttl_ms(0).with_cache_scope(CacheScope::Private)
}

async fn blocking<T: Send + 'static>(
    studio: &Studio,
    stop: &Stop,
    work: impl FnOnce(&Studio) -> Result<T, Fault> + Send + 'static,
) -> Result<T, ErrorData> {
    let its = studio.clone();
    let done = studio.pixel_work().run(Length::Short, stop, move || work(&its)).await;
    done.map_err(|fault| match fault.kind {
        ErrorKind::NotFound => ErrorData::resource_not_found(fault.text, None),
        ErrorKind::InvalidRequest => ErrorData::invalid_params(fault.text, None),
        _ => ErrorData::internal_error(fault.text, None),
    })
}
