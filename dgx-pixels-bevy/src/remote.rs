//! Methods of Bevy's remote protocol: what is shown, reload now, a screenshot.

use std::collections::HashMap;
use std::env;
use std::io::Cursor;
use std::mem;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use bevy::camera::{NormalizedRenderTarget, RenderTarget};
use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use bevy::remote::http::RemoteHttpPlugin;
use bevy::remote::{
    BrpError, BrpResult, RemoteLast, RemoteMethodSystemId, RemoteMethods, RemotePlugin, RemoteSystems,
    error_codes,
};
use bevy::render::view::screenshot::{Capturing, Screenshot, ScreenshotCaptured};
use bevy::tasks::{AsyncComputeTaskPool, Task, block_on, poll_once};
use bevy::window::PrimaryWindow;
use dgx_pixels_manifest::GAME_PORT;
use serde_json::{Value, json};

use crate::sprites::Sprites;

/// The environment variable of the port, by the name that `bevy_brp_extras` gives it.
const PORT_VARIABLE: &str = "BRP_EXTRAS_PORT";

/// The shortest time between two screenshots for a caller who keeps asking.
const NEXT_SHOT: Duration = Duration::from_secs(1);

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
    app.init_resource::<Tried>().init_resource::<Shots>();
    app.add_systems(RemoteLast, forget_unasked.before(RemoteSystems::ProcessRequests));
    app.add_systems(RemoteLast, capture.after(RemoteSystems::Cleanup));
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

/// Asked each frame: answers when the manifest with this BLAKE3 is shown, when a newer one is, or
/// when it cannot be.
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
    /// `true` if it was asked for since [`forget_unasked`] last looked.
    is_asked: bool,
}

enum Stage {
    Wanted,
    /// The entity that takes the screenshot.
    Capturing(Entity),
    Encoding(Task<Result<Value, String>>),
    /// Bevy asks on for some frames, until the caller's leave is noticed.
    Sent(Instant),
}

/// The screenshots, by the `id` that the caller gave.
#[derive(Resource, Default)]
struct Shots(HashMap<String, Shot>);

/// The surface that the first camera draws to.
#[derive(SystemParam)]
struct Target<'w, 's> {
    cameras: Query<'w, 's, (&'static Camera, &'static RenderTarget)>,
    window: Query<'w, 's, Entity, With<PrimaryWindow>>,
}

impl Target<'_, '_> {
    fn get(&self) -> Option<&RenderTarget> {
        let cameras = self.cameras.iter().filter(|(camera, _)| camera.is_active);
        let (_, target) = cameras.min_by_key(|(camera, _)| camera.order)?;
        self.normalized(target).map(|_| target)
    }

    fn normalized(&self, target: &RenderTarget) -> Option<NormalizedRenderTarget> {
        target.normalize(self.window.single().ok())
    }
}

/// Asked each frame: answers with what the first camera draws, as a PNG in Base64.
fn screenshot(
    In(params): In<Option<Value>>,
    mut shots: ResMut<Shots>,
    target: Target,
) -> BrpResult<Option<Value>> {
    let Some(id) = params.as_ref().and_then(|params| params["id"].as_str()) else {
        return Err(fault(
            error_codes::INVALID_PARAMS,
            "`id` is absent; expected a text that no other call has",
        ));
    };
    let wanted = || Shot { stage: Stage::Wanted, is_asked: true };
    let shot = shots.0.entry(id.to_owned()).or_insert_with(wanted);
    shot.is_asked = true;
    match &mut shot.stage {
        Stage::Wanted if target.get().is_none() => {
            shots.0.remove(id);
            Err(fault(error_codes::INTERNAL_ERROR, "no camera draws to a picture or a window"))
        }
        Stage::Encoding(task) => {
            let Some(encoded) = block_on(poll_once(task)) else { return Ok(None) };
            shot.stage = Stage::Sent(Instant::now());
            encoded.map(Some).map_err(|error| fault(error_codes::INTERNAL_ERROR, &error))
        }
        Stage::Sent(when) if when.elapsed() >= NEXT_SHOT => {
            shot.stage = Stage::Wanted;
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn forget_unasked(mut shots: ResMut<Shots>) {
    shots.0.retain(|_, shot| mem::take(&mut shot.is_asked));
}

/// Takes a picture that is wanted. Of two of the same target in one frame Bevy drops one without a
/// word, so it is taken in a frame in which nobody else takes one: other plugins do too.
fn capture(
    mut shots: ResMut<Shots>,
    mut commands: Commands,
    target: Target,
    others: Query<&Screenshot, Without<Capturing>>,
) {
    for shot in shots.0.values_mut() {
        if matches!(shot.stage, Stage::Capturing(entity) if commands.get_entity(entity).is_err()) {
            shot.stage = Stage::Wanted;
        }
    }
    let Some((id, shot)) = shots.0.iter_mut().find(|(_, shot)| matches!(shot.stage, Stage::Wanted)) else {
        return;
    };
    let Some(drawn) = target.get() else { return };
    let normalized = target.normalized(drawn);
    if others.iter().any(|other| target.normalized(other) == normalized) {
        return;
    }
    let id = id.clone();
    let mut screenshot = commands.spawn(Screenshot(drawn.clone()));
    shot.stage = Stage::Capturing(screenshot.id());
    screenshot.observe(move |captured: On<ScreenshotCaptured>, mut shots: ResMut<Shots>| {
        let Some(Shot { stage, .. }) = shots.0.get_mut(&id) else { return };
        if matches!(stage, Stage::Capturing(entity) if *entity == captured.entity) {
            let image = captured.image.clone();
            *stage = Stage::Encoding(AsyncComputeTaskPool::get().spawn(async move { encoded(image) }));
        }
    });
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
