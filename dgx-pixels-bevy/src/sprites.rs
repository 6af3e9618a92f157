//! The sprites that can be shown, and how a new manifest takes over.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use bevy::asset::{AssetLoadFailedEvent, LoadState};
use bevy::prelude::*;
use dgx_pixels_manifest::{GameStatus, MANIFEST_PATH, ManifestImage, ManifestSprite, SpriteFault};

use crate::fallback::fallback;
use crate::live::LiveSprite;
use crate::manifest::SpriteManifest;

/// The sprites of the game.
///
/// It is a resource of Bevy, which [`SpritesPlugin`](crate::SpritesPlugin) adds. Entities need only
/// a [`GameSprite`](crate::GameSprite); this is for systems that list sprites or wait until all are
/// there, for example behind a loading screen.
#[derive(Resource, Debug)]
pub struct Sprites {
    pub(crate) assets: Option<PathBuf>,
    pub(crate) fallback: Handle<Image>,
    handle: Handle<SpriteManifest>,
    live: BTreeMap<String, Arc<LiveSprite>>,
    /// Rises when `live` changes.
    pub(crate) version: u64,
    /// The newest load that was looked at.
    seen: u64,
    /// `true` if the newest load has to take over, or its images have to be looked at again.
    waits: bool,
    /// `true` if the newest load has not taken over yet.
    is_new: bool,
    loading: bool,
    /// Pictures that had failed and are read anew.
    retried: HashSet<AssetId<Image>>,
    blake3: Option<String>,
    error: Option<String>,
    faults: Vec<SpriteFault>,
    load_ms: Option<f64>,
}

impl FromWorld for Sprites {
    fn from_world(world: &mut World) -> Sprites {
        Sprites {
            fallback: world.resource_mut::<Assets<Image>>().add(fallback()),
            handle: Handle::default(),
            assets: None,
            live: BTreeMap::new(),
            version: 0,
            seen: 0,
            waits: false,
            is_new: false,
            loading: true,
            retried: HashSet::new(),
            blake3: None,
            error: None,
            faults: vec![],
            load_ms: None,
        }
    }
}

impl Sprites {
    /// A sprite, as entities show it.
    /// `None` for a name that the manifest does not have.
    pub fn get(&self, name: &str) -> Option<&Arc<LiveSprite>> {
        self.live.get(name)
    }

    /// All of them, by their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<LiveSprite>)> {
        self.live.iter().map(|(name, sprite)| (name.as_str(), sprite))
    }

    /// `true` if no manifest is on its way: all that can be shown is shown. It is also `true` if
    /// the last manifest could not be loaded; [`status`](Self::status) has its error.
    pub fn is_settled(&self) -> bool {
        !self.loading && !self.waits
    }

    /// Returns the status: what is shown, and what is wrong.
    /// The remote method `sprites/status` returns the same as JSON.
    pub fn status(&self) -> GameStatus {
        GameStatus {
            assets: self.assets.clone(),
            manifest: self.blake3.clone(),
            loading: !self.is_settled(),
            error: self.error.clone(),
            sprites: self.live.len(),
            faults: self.faults.clone(),
            load_ms: self.load_ms,
        }
    }

    /// Reads the manifest anew, and pictures of it that could not be read, unless it is being read.
    pub fn reload(&mut self, server: &AssetServer) {
        if !self.loading {
            self.loading = true;
            server.reload(MANIFEST_PATH);
        }
    }

    /// BLAKE3 of the manifest's file as it is now; `None` without one.
    #[cfg(any(feature = "hot_reload", feature = "remote"))]
    pub(crate) fn blake3_on_disk(&self) -> Option<String> {
        let text = std::fs::read(self.assets.as_ref()?.join(MANIFEST_PATH)).ok()?;
        Some(blake3::hash(&text).to_hex().to_string())
    }

    #[cfg(feature = "remote")]
    pub(crate) fn blake3(&self) -> Option<&str> {
        self.blake3.as_deref()
    }

    #[cfg(feature = "remote")]
    pub(crate) fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }
}

/// Begins at the start of the game, after the plugins are built, because one of them knows the
/// folder of the assets.
pub(crate) fn begin(mut sprites: ResMut<Sprites>, server: Res<AssetServer>) {
    sprites.handle = server.load(MANIFEST_PATH);
}

/// A picture that was edited in its place, or put back: whether it can be shown is looked at again.
pub(crate) fn look_again(
    mut sprites: ResMut<Sprites>,
    mut changes: MessageReader<AssetEvent<Image>>,
    mut failures: MessageReader<AssetLoadFailedEvent<Image>>,
    manifests: Res<Assets<SpriteManifest>>,
) {
    let Some(newest) = manifests.get(&sprites.handle) else { return };
    let changed = changes.read().filter_map(|event| match event {
        AssetEvent::Added { id } | AssetEvent::Modified { id } => Some(*id),
        _ => None,
    });
    for id in changed.chain(failures.read().map(|failure| failure.id)) {
        sprites.retried.remove(&id);
        sprites.waits |= newest.images.iter().any(|image| image.id() == id);
    }
}

/// Looks for a manifest that was loaded, and lets it take over when all of its pictures are loaded
/// or have failed.
pub(crate) fn swap(
    mut sprites: ResMut<Sprites>,
    mut failures: MessageReader<AssetLoadFailedEvent<SpriteManifest>>,
    manifests: Res<Assets<SpriteManifest>>,
    images: Res<Assets<Image>>,
    mut layouts: ResMut<Assets<TextureAtlasLayout>>,
    server: Res<AssetServer>,
) {
    for failure in failures.read() {
        // Bevy has logged it.
        sprites.loading = false;
        sprites.error = Some(failure.error.to_string());
    }
    let Some(newest) = manifests.get(&sprites.handle) else { return };
    if newest.load != sprites.seen {
        let sprites = &mut *sprites;
        sprites.seen = newest.load;
        sprites.loading = false;
        sprites.error = None;
        (sprites.waits, sprites.is_new) = (true, true);
        sprites.retried.clear();
        for image in newest.images.iter().filter(|image| server.load_state(*image).is_failed()) {
            // Its file may have been put right, or a `.meta` beside it removed, and the file
            // watcher tells of neither at once.
            if let Some(path) = image.path() {
                server.reload(path.clone());
                sprites.retried.insert(image.id());
            }
        }
        // Two loads at a time may end in either order, and leave the older one.
        #[cfg(any(feature = "hot_reload", feature = "remote"))]
        if sprites.blake3_on_disk().is_some_and(|disk| disk != newest.blake3) {
            sprites.reload(&server);
        }
    }
    let is_loading = |image: &Handle<Image>| server.load_state(image).is_loading();
    if !sprites.waits || !sprites.retried.is_empty() || newest.images.iter().any(is_loading) {
        return;
    }
    let old = mem::take(&mut sprites.live);
    let mut faults = vec![];
    let mut handles = BTreeMap::new();
    for ((path, entry), handle) in newest.manifest.images.iter().zip(&newest.images) {
        handles.insert(
            path,
            (handle, fault_of(handle, entry, &server, &images), UVec2::new(entry.width, entry.height)),
        );
    }
    let mut live = BTreeMap::new();
    for (name, entry) in &newest.manifest.sprites {
        let (handle, fault, size) = &handles[&entry.image];
        let before = old.get(name.as_str());
        if let Some(reason) = fault {
            faults.push(SpriteFault { sprite: name.to_string(), reason: reason.clone() });
            if let Some(before) = before {
                live.insert(name.to_string(), Arc::clone(before));
            }
            continue;
        }
        let same = |before: &&Arc<LiveSprite>| before.image == **handle && shows_same(&before.entry, entry);
        let sprite = match before.filter(same) {
            Some(before) => Arc::clone(before),
            None => Arc::new(LiveSprite::new(entry, Handle::clone(handle), *size, &mut layouts)),
        };
        live.insert(name.to_string(), sprite);
    }
    if faults != sprites.faults {
        for SpriteFault { sprite, reason } in &faults {
            warn!("sprite `{sprite}` {reason}");
        }
    }
    sprites.live = live;
    sprites.version += 1;
    sprites.waits = false;
    sprites.faults = faults;
    if mem::take(&mut sprites.is_new) && sprites.blake3.as_ref() != Some(&newest.blake3) {
        let load_ms = newest.begun.elapsed().as_secs_f64() * 1e3;
        sprites.load_ms = Some(load_ms);
        sprites.blake3 = Some(newest.blake3.clone());
        info!("{} sprites of {MANIFEST_PATH} after {load_ms:.1} ms", sprites.live.len());
    }
}

/// `true` if two entries look the same. The records of how they were made are not compared.
fn shows_same(a: &ManifestSprite, b: &ManifestSprite) -> bool {
    (&a.image, &a.frames, &a.animations, a.anchor) == (&b.image, &b.frames, &b.animations, b.anchor)
}

fn fault_of(
    handle: &Handle<Image>,
    entry: &ManifestImage,
    server: &AssetServer,
    images: &Assets<Image>,
) -> Option<String> {
    if let LoadState::Failed(error) = server.load_state(handle) {
        return Some(format!("cannot be shown: {error}"));
    }
    let size = images.get(handle).map(Image::size);
    let expected = UVec2::new(entry.width, entry.height);
    (size != Some(expected)).then(|| {
        let found = size.map_or("no picture".into(), |size| format!("a picture of {}x{}", size.x, size.y));
        format!(
            "cannot be shown: its file is {found}, and the manifest says {}x{}; deploy it again",
            expected.x, expected.y
        )
    })
}
