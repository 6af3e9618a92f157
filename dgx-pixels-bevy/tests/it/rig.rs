//! A game, its project, and sprites for it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bevy::app::Plugins;
use bevy::image::{CompressedImageFormats, ImageLoader, ImagePlugin};
use bevy::prelude::*;
use bevy::remote::RemotePlugin;
use bevy::remote::http::RemoteHttpPlugin;
use dgx_pixels_bevy::{GameSprite, Sprites, SpritesPlugin};
use dgx_pixels_core::asset::{NewSprite, Project};
use dgx_pixels_manifest::{Frame, GameStatus, Rect};
use image::{Rgba, RgbaImage};
use tempfile::TempDir;

pub(crate) struct Game {
    pub(crate) folder: TempDir,
    pub(crate) project: Project,
    pub(crate) app: App,
    pub(crate) port: u16,
}

pub(crate) fn project() -> (TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
    // Bevy watches no folder that is made later.
    fs::create_dir(folder.path().join("assets")).unwrap();
    let project = Project::open(folder.path()).unwrap();
    (folder, project)
}

/// A game with these plugins and ours, as Bevy's runners have it before the first frame.
pub(crate) fn app<M>(project: &Project, plugins: impl Plugins<M>) -> App {
    let mut app = App::new();
    let assets = AssetPlugin { file_path: project.assets().display().to_string(), ..default() };
    app.add_plugins((MinimalPlugins, assets, ImagePlugin::default_nearest())).add_plugins(plugins);
    app.add_plugins(SpritesPlugin);
    // What Bevy's renderer does.
    app.register_asset_loader(ImageLoader::new(CompressedImageFormats::NONE));
    app.finish();
    app.cleanup();
    app
}

impl Game {
    pub(crate) fn new() -> Game {
        let (folder, project) = project();
        // Whoever asks for port 0 is given one that is free.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let remote = (RemotePlugin::default(), RemoteHttpPlugin::default().with_port(port));
        let mut app = app(&project, remote);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            app.update();
            thread::sleep(Duration::from_millis(2));
        }
        Game { folder, project, app, port }
    }

    /// Frames of the game until something is true of it, 20 s at most.
    #[track_caller]
    pub(crate) fn until(&mut self, is_true: impl Fn(&World) -> bool) {
        let begun = Instant::now();
        self.app.update();
        while !is_true(self.app.world()) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", self.status());
            thread::sleep(Duration::from_millis(2));
            self.app.update();
        }
    }

    /// Frames of the game while somebody else, who asks it things, works.
    #[track_caller]
    pub(crate) fn during<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let worker = thread::spawn(work);
        let begun = Instant::now();
        while !worker.is_finished() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", self.status());
            self.app.update();
            thread::sleep(Duration::from_millis(2));
        }
        worker.join().unwrap()
    }

    /// Deploys, and waits until the game shows it.
    #[track_caller]
    pub(crate) fn deploy(&mut self, sprites: &[NewSprite]) -> PathBuf {
        let deployed = self.project.deploy(sprites).unwrap();
        let blake3 = Some(deployed.blake3);
        self.until(|world| status(world).manifest == blake3);
        deployed.sprites[0].path.clone()
    }

    pub(crate) fn spawn(&mut self, name: &'static str) -> Entity {
        self.app.world_mut().spawn(GameSprite::new(name)).id()
    }

    pub(crate) fn status(&self) -> GameStatus {
        status(self.app.world())
    }

    pub(crate) fn shown(&self, entity: Entity) -> &Sprite {
        self.app.world().get::<Sprite>(entity).unwrap()
    }

    /// Width of what an entity shows, and its first byte.
    pub(crate) fn picture(&self, entity: Entity) -> (u32, u8) {
        picture(self.app.world(), entity)
    }
}

pub(crate) fn status(world: &World) -> GameStatus {
    world.resource::<Sprites>().status()
}

pub(crate) fn picture(world: &World, entity: Entity) -> (u32, u8) {
    let sprite = world.get::<Sprite>(entity).unwrap();
    let image = world.resource::<Assets<Image>>().get(&sprite.image).unwrap();
    (image.width(), image.data.as_ref().unwrap()[0])
}

pub(crate) fn sprite(name: &str, width: u32, color: u8) -> NewSprite {
    let picture = RgbaImage::from_pixel(width, 16, Rgba([color, 2, 3, 255]));
    let png = dgx_pixels_core::picture_file::sprite_png(&picture, None).unwrap();
    NewSprite::new(name.parse().unwrap(), png)
}

/// `width / 16` frames.
pub(crate) fn animated(name: &str, width: u32, color: u8) -> NewSprite {
    let frame = |x: u32| Frame { rect: Rect { min: [x, 0], max: [x + 16, 16] }, duration_ms: 1 };
    NewSprite { frames: (0..width / 16).map(|n| frame(n * 16)).collect(), ..sprite(name, width, color) }
}
