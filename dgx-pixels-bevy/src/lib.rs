//! Sprites of DGX-Pixels in a Bevy game, changed while it runs.
//!
//! `dgx-pixels deploy` puts pictures and a manifest into `assets/sprites`. [`SpritesPlugin`] reads
//! the manifest, and whatever has a [`GameSprite`] shows the sprite of that name: cut out of its
//! picture, animated, with sharp pixels. A deploy into the running game shows at once, and never
//! new pixels with old rectangles: a manifest takes over when all of its pictures are there.
//!
//! ```no_run
//! use bevy::prelude::*;
//! use dgx_pixels_bevy::{GameSprite, SpritesPlugin};
//!
//! # fn main() {
//! App::new()
//!     .add_plugins((MinimalPlugins, AssetPlugin::default(), bevy::image::ImagePlugin::default_nearest(), SpritesPlugin))
//!     .add_systems(Startup, |mut commands: Commands| {
//!         commands.spawn(GameSprite::new("enemy_slime"));
//!     })
//!     .run();
//! # }
//! ```
//!
//! # Features
//! Neither is for a game's release; put them into a feature of your own, as `dev`.
//! - `hot_reload`: looks 20 times a second whether there is another manifest, and turns on Bevy's
//!   file watcher, which sees pictures that were edited in their place.
//! - `remote`: Bevy's remote protocol on 127.0.0.1, port 15702 or `BRP_EXTRAS_PORT`, with the
//!   methods `sprites/status`, `sprites/reload`, `sprites/reload+watch` and
//!   `sprites/screenshot+watch`. Any program on this machine may call them, and all of Bevy's own.

mod animation;
mod fallback;
mod game_sprite;
mod live;
mod manifest;
#[cfg(feature = "hot_reload")]
mod poll;
#[cfg(feature = "remote")]
mod remote;
mod sprites;

use bevy::asset::AssetTrackingSystems;
use bevy::asset::io::file::FileAssetReader;
use bevy::camera::visibility::VisibilitySystems;
use bevy::prelude::*;

pub use crate::animation::AnimationFinished;
pub use crate::game_sprite::GameSprite;
pub use crate::live::{Clip, LiveSprite};
pub use crate::manifest::{ManifestLoadError, ManifestLoader, SpriteManifest};
pub use crate::sprites::Sprites;

/// Loads `sprites/manifest.json` and shows what it names. It takes Bevy's `AssetPlugin` and
/// `ImagePlugin`, which are among the `DefaultPlugins`, added before.
///
/// The folder of the assets is that of Bevy's `AssetPlugin`. With the feature `hot_reload` a deploy
/// into the running game shows at once. With `remote` other programs of this machine can ask what
/// is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpritesPlugin;

/// The sets of systems that change sprites.
///
/// Order a system of your own after [`Show`](Self::Show) if it reads the frame that is drawn, and
/// after [`Swap`](Self::Swap) if it looks a sprite up by its name.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpritesSystems {
    /// The set in `PreUpdate`: a manifest whose images are all there takes over.
    Swap,
    /// The set in `PostUpdate`: entities show their sprites, and animations go on.
    Show,
}

impl Plugin for SpritesPlugin {
    fn build(&self, app: &mut App) {
        app.init_asset::<SpriteManifest>()
            .init_asset::<TextureAtlasLayout>()
            .init_asset_loader::<ManifestLoader>()
            .register_type::<GameSprite>()
            .add_message::<AnimationFinished>()
            .init_resource::<Sprites>()
            .init_resource::<animation::Soonest>()
            .add_systems(PreStartup, sprites::begin)
            .add_systems(
                PreUpdate,
                (sprites::look_again, sprites::swap)
                    .chain()
                    .in_set(SpritesSystems::Swap)
                    .after(AssetTrackingSystems),
            )
            .add_systems(
                PostUpdate,
                (game_sprite::show_changed, game_sprite::show_swapped, animation::advance)
                    .chain()
                    .in_set(SpritesSystems::Show)
                    .before(VisibilitySystems::CalculateBounds),
            );
        #[cfg(feature = "hot_reload")]
        app.init_resource::<poll::Polled>()
            .add_systems(PreStartup, poll::begin.before(sprites::begin))
            .add_systems(First, poll::poll);
        #[cfg(feature = "remote")]
        remote::build(app);
    }

    fn finish(&self, app: &mut App) {
        // Whoever deploys compares it with the project: a game started by its path looks in another
        // folder than one that cargo starts.
        let folders = app.get_added_plugins::<AssetPlugin>();
        let assets = folders.first().map(|plugin| FileAssetReader::get_base_path().join(&plugin.file_path));
        app.world_mut().resource_mut::<Sprites>().assets = assets;
    }
}
