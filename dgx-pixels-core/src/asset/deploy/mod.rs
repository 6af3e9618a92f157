//! Deploys: sprites brought into a Bevy project while its game runs.
//!
//! A picture's name carries its content's hash, so a file that is there never changes, and the
//! manifest that names it is renamed into place last. Whoever reads a manifest therefore finds all
//! that it names, whenever a deploy is killed. The pictures of the manifest before stay, for games
//! that still load them and for [`Project::rollback`].

#[cfg(test)]
mod link_tests;
mod new_sprite;
mod project;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::btree_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgx_pixels_manifest::{Frame, Manifest, ManifestImage, ManifestSprite, Rect, SpriteName};
use image::{ImageFormat, RgbaImage};
use serde::Serialize;

pub use self::new_sprite::NewSprite;
pub(super) use self::new_sprite::read_beside;
pub use self::project::Project;
pub(super) use self::project::{MANIFEST, previous_manifest};
use self::project::{PREVIOUS, STAGING, UNREADABLE, image_parts, place, reading, writing};
use super::png::optimized;
use super::sheet::{DEFAULT_FRAME_MS, MAX_SIDE};
use crate::error::Error;
use crate::files::{Entry, EntryKind, Folder, MAX_PICTURE_BYTES, MAX_TEXT_BYTES};
use crate::value_error::ValueError;

/// A manifest lists the colours of pictures that have no more than these.
const MAX_PALETTE: usize = 256;

/// Hexadecimal digits of the hash that stand in a picture's name.
pub(super) const NAME_DIGITS: usize = 8;

/// A picture that no manifest names is kept this long: a game may be loading it.
const ORPHAN_AGE: Duration = Duration::from_secs(60);

/// The result of a deploy, or of a plan for one.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::{NewSprite, Project};
/// use dgx_pixels_manifest::SpriteName;
/// # let game = tempfile::tempdir()?;
/// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
/// # let png = dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(16, 8), None)?;
/// let project = Project::open(game.path())?;
/// let deployed = project.deploy(&[NewSprite::new(SpriteName::new("item", "key")?, png)])?;
/// let manifest = std::fs::read(&deployed.manifest)?;
/// assert_eq!(deployed.blake3, blake3::hash(&manifest).to_hex().as_str());
/// assert_eq!((deployed.sprites[0].width, deployed.sprites[0].height), (16, 8));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deployed {
    /// The manifest's file.
    pub manifest: PathBuf,
    /// BLAKE3 of the manifest's file: what a game says that shows it.
    pub blake3: String,
    /// The sprites, in the order given.
    pub sprites: Vec<DeployedSprite>,
    /// `true` if the manifest differs from the one before.
    pub changed: bool,
}

/// One sprite of a deploy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeployedSprite {
    /// The name that the game uses for the sprite.
    pub name: SpriteName,
    /// The absolute path of the image's file.
    pub path: PathBuf,
    /// The width of the image in pixels.
    pub width: u32,
    /// The height of the image in pixels.
    pub height: u32,
    /// Number of frames.
    pub frames: usize,
    /// The change to the name.
    pub change: Change,
}

/// The effect of a deploy on a name.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::{Change, NewSprite, Project};
/// use dgx_pixels_manifest::SpriteName;
/// # let game = tempfile::tempdir()?;
/// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
/// # let png = dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(16, 16), None)?;
/// let project = Project::open(game.path())?;
/// let slime = NewSprite::new(SpriteName::new("enemy", "slime")?, png);
/// assert!(project.deploy(&[slime.clone()])?.sprites[0].change == Change::Added);
/// let again = project.deploy(&[slime])?;
/// assert!(again.sprites[0].change == Change::Unchanged && !again.changed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The game had no such sprite.
    Added,
    /// The game had another, which a rollback puts back.
    Replaced,
    /// The game has the very same.
    Unchanged,
}

/// A sprite as the manifest tells of it, and its picture.
struct Ready {
    name: SpriteName,
    sprite: ManifestSprite,
    image: ManifestImage,
    png: Vec<u8>,
}

/// A manifest to be, and the files that it needs.
struct Plan {
    manifest: Manifest,
    /// The files by their paths in the manifest.
    files: BTreeMap<String, Vec<u8>>,
    sprites: Vec<DeployedSprite>,
}

impl Project {
    /// Returns the result that [`deploy`](Project::deploy) would have now. Nothing is written.
    ///
    /// # Errors
    /// As of `deploy`, but for writing.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::{Change, NewSprite, Project};
    /// use dgx_pixels_manifest::SpriteName;
    /// # let game = tempfile::tempdir()?;
    /// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
    /// # let slime = dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(32, 32), None)?;
    /// let project = Project::open(game.path())?;
    /// let planned = project.plan(&[NewSprite::new(SpriteName::new("enemy", "slime")?, slime)])?;
    /// assert!(planned.sprites[0].change == Change::Added);
    /// assert!(!project.manifest_path().exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn plan(&self, sprites: &[NewSprite]) -> Result<Deployed, Error> {
        let ready = ready(sprites)?;
        self.look(ready.iter().map(|ready| ready.sprite.image.as_str()))?;
        let old = self.read_manifest()?;
        let plan = self.planned(old.as_ref().map(|(manifest, _)| manifest), ready)?;
        let text = text_of(&plan.manifest)?;
        let changed = old.is_none_or(|(_, old)| old != text);
        Ok(self.deployed(&text, plan.sprites, changed))
    }

    /// Brings sprites into the project, all or none. Others that deploy at the same time wait for
    /// each other.
    ///
    /// # Errors
    /// [`Error::Project`] for a manifest that cannot be read, and for a link in the way;
    /// [`Error::Value`] for a picture that no game can show, or a name given twice;
    /// [`Error::Output`] for a full disk and the like. The game's sprites are as they were after
    /// each.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::{NewSprite, Project};
    /// use dgx_pixels_manifest::SpriteName;
    /// # let game = tempfile::tempdir()?;
    /// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
    /// # let slime = dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(32, 32), None)?;
    /// let project = Project::open(game.path())?;
    /// let deployed = project.deploy(&[NewSprite::new(SpriteName::new("enemy", "slime")?, slime)])?;
    /// assert!(deployed.sprites[0].path.exists() && deployed.changed);
    /// assert_eq!(project.manifest()?.sprites["enemy_slime"].frames.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deploy(&self, sprites: &[NewSprite]) -> Result<Deployed, Error> {
        // What takes time is done before the lock.
        let ready = ready(sprites)?;
        self.look(ready.iter().map(|ready| ready.sprite.image.as_str()))?;
        let locked = self.lock()?;
        let old = self.read_manifest()?;
        let plan = self.planned(old.as_ref().map(|(manifest, _)| manifest), ready)?;
        let text = text_of(&plan.manifest)?;
        let changed = old.as_ref().is_none_or(|(_, old)| *old != text);
        let mut files = plan.files;
        if let Some(sprites) = self.open_sprites()? {
            let mut missing = BTreeMap::new();
            for (path, bytes) in files {
                let there = sprites.read_at(Path::new(&path), MAX_PICTURE_BYTES).map_err(reading)?;
                if there.as_ref() != Some(&bytes) {
                    missing.insert(path, bytes);
                }
            }
            files = missing;
        }
        let previous = old.as_ref().map(|(_, old)| old.as_slice());
        self.put(&locked.ours, &files, changed.then_some(&text), previous)?;
        Ok(self.deployed(&text, plan.sprites, changed))
    }

    /// Puts back the manifest before the last deploy; again, the one after it.
    ///
    /// # Errors
    /// [`Error::Project`] if there is none, or a picture of it is not there any more;
    /// [`Error::Output`] for a full disk and the like.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::{NewSprite, Project};
    /// use dgx_pixels_manifest::SpriteName;
    /// # let game = tempfile::tempdir()?;
    /// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
    /// # let png = |side| dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(side, side), None);
    /// # let (small, large) = (png(16)?, png(32)?);
    /// let project = Project::open(game.path())?;
    /// let slime = SpriteName::new("enemy", "slime")?;
    /// project.deploy(&[NewSprite::new(slime.clone(), small)])?;
    /// project.deploy(&[NewSprite::new(slime, large)])?;
    /// let back = project.rollback()?;
    /// assert_eq!(back.sprites[0].width, 16);
    /// assert_eq!(project.rollback()?.sprites[0].width, 32);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rollback(&self) -> Result<Deployed, Error> {
        let fault = |reason: String| project::fault(self.root(), reason);
        self.look([])?;
        let locked = self.lock()?;
        let Some((manifest, text)) = self.read_previous()? else {
            return Err(fault("there is no deploy to take back".into()));
        };
        let sprites = self.make_sprites()?;
        let current = sprites.read(MANIFEST, MAX_TEXT_BYTES).map_err(reading)?;
        if current.as_ref() == Some(&text) {
            return Err(fault("the sprites are those of the deploy before already".into()));
        }
        for (path, image) in &manifest.images {
            let bytes = sprites.read_at(Path::new(path), MAX_PICTURE_BYTES).map_err(reading)?;
            let is_there = bytes.is_some_and(|bytes| blake3::hash(&bytes).to_hex().as_str() == image.blake3);
            if !is_there {
                return Err(fault(format!(
                    "`{}` is not there any more, or not as it was; deploy it again",
                    sprites.path().join(path).display()
                )));
            }
        }
        let before = match self.read_manifest() {
            Ok(before) => before,
            Err(_) => {
                let unreadable = current.unwrap_or_default();
                locked.ours.write_whole(UNREADABLE, &unreadable).map_err(writing)?;
                None
            }
        };
        let previous = before.as_ref().map(|(_, text)| text.as_slice());
        self.put(&locked.ours, &BTreeMap::new(), Some(&text), previous)?;
        let before = before.map(|(manifest, _)| manifest.sprites).unwrap_or_default();
        let changed = manifest.sprites.iter().filter(|(name, sprite)| before.get(*name) != Some(sprite));
        let describe = |(name, sprite): (&SpriteName, &ManifestSprite)| {
            self.described(name, sprite, &manifest.images[&sprite.image], before.get(name))
        };
        let sprites = changed.map(describe).collect();
        Ok(self.deployed(&text, sprites, true))
    }

    /// Files, then the manifest; then what nobody needs any more goes. Under the lock of `ours`.
    fn put(
        &self,
        ours: &Folder,
        files: &BTreeMap<String, Vec<u8>>,
        manifest: Option<&Vec<u8>>,
        previous: Option<&[u8]>,
    ) -> Result<(), Error> {
        // The lock is ours: whatever is staged was left by a deploy that was killed.
        let _ = ours.remove_all(STAGING);
        let put = || -> Result<(), Error> {
            let staging = ours.make_folder(STAGING).map_err(writing)?;
            let staging = staging.make_folder(uuid::Uuid::now_v7().to_string()).map_err(writing)?;
            for (n, bytes) in files.values().enumerate() {
                staging.write_new(n.to_string(), bytes).map_err(writing)?;
            }
            if let Some(manifest) = manifest {
                staging.write_new(MANIFEST, manifest).map_err(writing)?;
            }
            if let (Some(_), Some(previous)) = (manifest, previous) {
                staging.write_new(PREVIOUS, previous).map_err(writing)?;
            }
            let sprites = self.make_sprites()?;
            let mut folders = BTreeMap::new();
            for (n, path) in files.keys().enumerate() {
                let (category, name) = image_parts(path);
                let folder = match folders.entry(category) {
                    Occupied(folder) => folder.into_mut(),
                    Vacant(place) => place.insert(sprites.make_folder(category).map_err(writing)?),
                };
                place(&staging, &n.to_string(), folder, name)?;
            }
            for folder in folders.values() {
                folder.sync().map_err(writing)?;
            }
            if manifest.is_some() {
                if previous.is_some() {
                    staging.rename(PREVIOUS, ours, PREVIOUS).map_err(writing)?;
                }
                place(&staging, MANIFEST, &sprites, MANIFEST)?;
                sprites.sync().map_err(writing)?;
            }
            Ok(())
        };
        let done = put();
        let _ = ours.remove_all(STAGING);
        done?;
        // What cannot be removed now is removed by a later deploy.
        if let Ok(kept) = self.kept_images() {
            let _ = self.clean(&kept);
        }
        Ok(())
    }

    /// Pictures that the manifest or the one before names.
    fn kept_images(&self) -> Result<BTreeSet<String>, Error> {
        let manifests = [self.read_manifest()?, self.read_previous()?];
        Ok(manifests.into_iter().flatten().flat_map(|(manifest, _)| manifest.images.into_keys()).collect())
    }

    /// Removes pictures of ours that are not `kept` and have lain there for a while, and what
    /// killed deploys were writing. A picture without a hash in its name is not ours.
    fn clean(&self, kept: &BTreeSet<String>) -> Result<(), Error> {
        let Some(sprites) = self.open_sprites()? else { return Ok(()) };
        let is_old = |entry: &Entry| entry.modified.elapsed().is_ok_and(|age| age > ORPHAN_AGE);
        for entry in sprites.entries().map_err(reading)? {
            if entry.is_temporary() && is_old(&entry) {
                sprites.remove_file(&entry.name).map_err(writing)?;
            }
            if entry.kind != EntryKind::Folder {
                continue;
            }
            let Some(folder) = sprites.folder(&entry.name).map_err(reading)? else { continue };
            for file in folder.entries().map_err(reading)? {
                let name = format!("{}/{}", entry.name.display(), file.name.display());
                let is_picture = file.kind == EntryKind::File && has_hash(&name) && !kept.contains(&name);
                if (is_picture || file.is_temporary()) && is_old(&file) {
                    folder.remove_file(&file.name).map_err(writing)?;
                }
            }
        }
        Ok(())
    }

    fn planned(&self, old: Option<&Manifest>, sprites: Vec<Ready>) -> Result<Plan, Error> {
        let before = old.map(|manifest| &manifest.sprites);
        let mut manifest = old.cloned().unwrap_or_default();
        let mut files = BTreeMap::new();
        let mut names = vec![];
        for Ready { name, sprite, image, png } in sprites {
            if names.contains(&name) {
                let expected =
                    "each name once in a deploy; give another `name`, or deploy one after the other";
                return Err(ValueError::new("name", name, expected).into());
            }
            files.insert(sprite.image.clone(), png);
            manifest.images.insert(sprite.image.clone(), image);
            manifest.sprites.insert(name.clone(), sprite);
            names.push(name);
        }
        let used: BTreeSet<_> = manifest.sprites.values().map(|sprite| sprite.image.clone()).collect();
        manifest.images.retain(|path, _| used.contains(path));
        if let Some(fault) = manifest.faults().first() {
            let expected = format!("what a manifest may say: it {}", fault.reason);
            return Err(ValueError::new("sprite", &fault.field, expected).into());
        }
        let describe = |name: &SpriteName| {
            let sprite = &manifest.sprites[name];
            self.described(
                name,
                sprite,
                &manifest.images[&sprite.image],
                before.and_then(|all| all.get(name)),
            )
        };
        let sprites = names.iter().map(describe).collect();
        Ok(Plan { files, sprites, manifest })
    }

    fn described(
        &self,
        name: &SpriteName,
        sprite: &ManifestSprite,
        image: &ManifestImage,
        old: Option<&ManifestSprite>,
    ) -> DeployedSprite {
        DeployedSprite {
            name: name.clone(),
            path: self.sprites().join(&sprite.image),
            width: image.width,
            height: image.height,
            frames: sprite.frames.len(),
            change: match old {
                None => Change::Added,
                Some(old) if old == sprite => Change::Unchanged,
                Some(_) => Change::Replaced,
            },
        }
    }

    fn deployed(&self, text: &[u8], sprites: Vec<DeployedSprite>, changed: bool) -> Deployed {
        let blake3 = blake3::hash(text).to_hex().to_string();
        Deployed { manifest: self.manifest_path(), blake3, sprites, changed }
    }
}

/// The manifest's file, if a later deploy can read it.
fn text_of(manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let text = manifest.to_json().into_bytes();
    match text.len() as u64 > MAX_TEXT_BYTES {
        true => {
            let value = format!("one that makes the manifest {} bytes long", text.len());
            let expected = format!("at most {MAX_TEXT_BYTES}; give it fewer or shorter animations");
            Err(ValueError::new("sprite", value, expected).into())
        }
        false => Ok(text),
    }
}

/// The entries of the sprites in the manifest, with their images compressed.
fn ready(sprites: &[NewSprite]) -> Result<Vec<Ready>, Error> {
    let ready = |new: &NewSprite| {
        let picture = decoded(new)?;
        let png = optimized(&new.png)?;
        let (width, height) = picture.dimensions();
        let hash = blake3::hash(&png).to_hex().to_string();
        let path = format!("{}/{}.{}.png", new.name.category(), new.name, &hash[..NAME_DIGITS]);
        let whole = Frame { rect: Rect::of(width, height), duration_ms: DEFAULT_FRAME_MS };
        let sprite = ManifestSprite {
            category: new.name.category().to_owned(),
            image: path,
            frames: if new.frames.is_empty() { vec![whole] } else { new.frames.clone() },
            animations: new.animations.clone(),
            anchor: new.anchor,
            tags: new.tags.clone(),
            tile: new.tile,
            made: new.made.clone(),
        };
        let image = ManifestImage { blake3: hash, width, height, palette: palette(&picture) };
        Ok(Ready { name: new.name.clone(), sprite, image, png })
    };
    sprites.iter().map(ready).collect()
}

fn decoded(sprite: &NewSprite) -> Result<RgbaImage, Error> {
    let fault = |value: String, expected: String| ValueError::new("sprite", value, expected);
    let named = |what: &str| format!("{} ({what})", sprite.name);
    let picture = image::load_from_memory_with_format(&sprite.png, ImageFormat::Png)
        .map_err(|error| fault(named(&error.to_string()), "a PNG file".into()))?
        .into_rgba8();
    let (width, height) = picture.dimensions();
    match width.max(height) {
        1..=MAX_SIDE => Ok(picture),
        _ => {
            Err(fault(named(&format!("{width}x{height}")), format!("at most {MAX_SIDE} pixels a side"))
                .into())
        }
    }
}

/// Colours of pixels that can be seen, the most frequent first; none if there are too many to be a
/// palette.
fn palette(picture: &RgbaImage) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for pixel in picture.pixels().filter(|pixel| pixel[3] > 0) {
        *counts.entry([pixel[0], pixel[1], pixel[2]]).or_insert(0u32) += 1;
    }
    if counts.len() > MAX_PALETTE {
        return vec![];
    }
    let mut colors: Vec<_> = counts.into_iter().collect();
    colors.sort_by_key(|(color, count)| (Reverse(*count), *color));
    colors.into_iter().map(|([r, g, b], _)| format!("#{r:02x}{g:02x}{b:02x}")).collect()
}

/// `true` if a path ends like those that deploys write: `.0a1b2c3d.png`.
fn has_hash(path: &str) -> bool {
    let Some((_, digits)) = path.strip_suffix(".png").and_then(|stem| stem.rsplit_once('.')) else {
        return false;
    };
    digits.len() == NAME_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}
