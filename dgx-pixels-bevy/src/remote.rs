//! Methods of Bevy's remote protocol: what is shown, reload now, a screenshot.

use std::collections::HashMap;
use std::env;
use std::io::Cursor;
use std::mem;
use std::net::{Ipv4Addr, TcpListener};

use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::remote::http::RemoteHttpPlugin;
use bevy::remote::{BrpError, BrpResult, RemoteMethodSystemId, RemoteMethods, RemotePlugin, error_codes};
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured};
use bevy::tasks::{AsyncComputeTaskPool, Task, block_on, poll_once};
use bevy::window::PrimaryWindow;
use dgx_pixels_core::asset::GAME_PORT;
use serde_json::{Value, json};

use crate::sprites::Sprites;

/// As `bevy_brp_extras` names it.
const PORT_VARIABLE: &str = "BRP_EXTRAS_PORT";

/// Adds Bevy's protocol, unless another plugin has, and our methods.
pub(crate) fn build(app: &mut App) {
    if !app.is_plugin_added::<RemotePlugin>() {
        app.add_plugins(RemotePlugin::default());
    }
    if !app.is_plugin_added::<RemoteHttpPlugin>() {
        let port = env::var(PORT_VARIABLE).ok().and_then(|port| port.parse().ok()).unwrap_or(GAME_PORT);
        // Bevy's own server says nothing if another has the port.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => _ = app.add_plugins(RemoteHttpPlugin::default().with_port(port)),
            Err(error) => warn!(
                "deploys cannot reload this game at once: port {port} of 127.0.0.1 is taken ({error}), as by another game; \
                set {PORT_VARIABLE} to a free one"
            ),
        }
    }
    app.init_resource::<Tried>().init_resource::<Shots>().add_systems(Last, forget_unasked);
    let world = app.world_mut();
    let status = RemoteMethodSystemId::Instant(world.register_system(status));
    let reload = RemoteMethodSystemId::Instant(world.register_system(reload));
    let reload_watch = RemoteMethodSystemId::Watching(world.register_system(reload_watch));
    let screenshot = RemoteMethodSystemId::Watching(world.register_system(screenshot));
    let mut methods = world.resource_mut::<RemoteMethods>();
    methods.insert("sprites/status", status);
    methods.insert("sprites/reload", reload);
    methods.insert("sprites/reload+watch", reload_watch);
    methods.insert("sprites/screenshot+watch", screenshot);
}

fn status(In(_): In<Option<Value>>, sprites: Res<Sprites>) -> BrpResult {
    Ok(json!(sprites.status()))
}

fn reload(In(_): In<Option<Value>>, mut sprites: ResMut<Sprites>, server: Res<AssetServer>) -> BrpResult {
    sprites.reload(&server);
    Ok(json!(sprites.status()))
}

/// The manifest that a load was last begun for.
#[derive(Resource, Default)]
struct Tried(Option<String>);

/// Asked each frame: answers when the manifest with this BLAKE3 is shown, when a newer one is, or when it cannot be.
fn reload_watch(
    In(params): In<Option<Value>>,
    mut sprites: ResMut<Sprites>,
    mut tried: ResMut<Tried>,
    server: Res<AssetServer>,
) -> BrpResult<Option<Value>> {
    let wanted = params.as_ref().and_then(|params| params["manifest"].as_str());
    let Some(wanted) = wanted else {
        return Err(fault(
            error_codes::INVALID_PARAMS,
            "`manifest` is absent; expected the BLAKE3 of the manifest to wait for",
        ));
    };
    if !sprites.is_settled() {
        return Ok(None);
    }
    let (is_shown, has_faults) = (sprites.blake3() == Some(wanted), sprites.has_faults());
    let was_tried = tried.0.as_deref() == Some(wanted);
    let is_newer = || {
        let shown = sprites.blake3();
        !is_shown && shown.is_some() && shown == sprites.blake3_on_disk().as_deref()
    };
    if (is_shown && !has_faults) || was_tried || is_newer() {
        tried.0 = None;
        return Ok(Some(json!(sprites.status())));
    }
    tried.0 = Some(wanted.to_owned());
    sprites.reload(&server);
    Ok(None)
}

/// A picture on its way to whoever asked for it.
struct Shot {
    stage: Stage,
    /// Whether it was asked for since [`forget_unasked`] last looked.
    is_asked: bool,
}

enum Stage {
    /// By this entity. Bevy removes it without a picture if another takes one of the same target in the same frame.
    Capturing(Entity),
    Encoding(Task<Result<Value, String>>),
}

/// By the `id` that the caller gave.
#[derive(Resource, Default)]
struct Shots(HashMap<String, Shot>);

/// Bevy asks on for some frames after an answer, until the caller's leave is noticed, and what that begins nobody takes.
fn forget_unasked(mut shots: ResMut<Shots>) {
    shots.0.retain(|_, shot| mem::take(&mut shot.is_asked));
}

/// Asked each frame: answers with what the first camera draws, as a PNG in Base64.
fn screenshot(
    In(params): In<Option<Value>>,
    mut shots: ResMut<Shots>,
    mut commands: Commands,
    cameras: Query<(&Camera, &RenderTarget)>,
    windows: Query<(), With<PrimaryWindow>>,
) -> BrpResult<Option<Value>> {
    let Some(id) = params.as_ref().and_then(|params| params["id"].as_str()) else {
        return Err(fault(
            error_codes::INVALID_PARAMS,
            "`id` is absent; expected a text that no other call has",
        ));
    };
    if let Some(shot) = shots.0.get_mut(id) {
        shot.is_asked = true;
        match &mut shot.stage {
            Stage::Capturing(entity) if commands.get_entity(*entity).is_ok() => return Ok(None),
            Stage::Capturing(_) => {}
            Stage::Encoding(task) => {
                let Some(encoded) = block_on(poll_once(task)) else { return Ok(None) };
                shots.0.remove(id);
                return encoded.map(Some).map_err(|error| fault(error_codes::INTERNAL_ERROR, &error));
            }
        }
    }
    let target = cameras
        .iter()
        .filter(|(camera, _)| camera.is_active)
        .min_by_key(|(camera, _)| camera.order)
        .map(|(_, target)| target.clone())
        .filter(|target| !matches!(target, RenderTarget::Window(_)) || !windows.is_empty());
    let Some(target) = target else {
        return Err(fault(error_codes::INTERNAL_ERROR, "no camera draws to a picture or a window"));
    };
    let id = id.to_owned();
    let mut screenshot = commands.spawn(Screenshot(target));
    let stage = Stage::Capturing(screenshot.id());
    shots.0.insert(id.clone(), Shot { stage, is_asked: true });
    screenshot.observe(move |captured: On<ScreenshotCaptured>, mut shots: ResMut<Shots>| {
        let Some(Shot { stage, .. }) = shots.0.get_mut(&id) else { return };
        if matches!(stage, Stage::Capturing(entity) if *entity == captured.entity) {
            let image = captured.image.clone();
            *stage = Stage::Encoding(AsyncComputeTaskPool::get().spawn(async move { encoded(image) }));
        }
    });
    Ok(None)
}

fn encoded(image: Image) -> Result<Value, String> {
    let picture = image.try_into_dynamic().map_err(|error| error.to_string())?.to_rgba8();
    let mut png = Cursor::new(vec![]);
    picture.write_to(&mut png, image::ImageFormat::Png).map_err(|error| error.to_string())?;
    let (width, height) = picture.dimensions();
    use base64::Engine as _;
    let png = base64::engine::general_purpose::STANDARD.encode(png.into_inner());
    Ok(json!({ "width": width, "height": height, "png": png }))
}

fn fault(code: i16, message: &str) -> BrpError {
    BrpError { code, message: message.to_owned(), data: None }
}
