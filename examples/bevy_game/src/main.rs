//! A small game: collect the coins, drink the potion, keep away from the slimes and the ghost.
//! Every sprite is of the manifest, was made by DGX-Pixels, and changes while the game runs when
//! another is deployed.

mod enemies;
mod items;
mod map;
mod player;
mod view;

use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::prelude::*;
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;
use clap::Parser;
use dgx_pixels_bevy::SpritesPlugin;

/// Collect the coins with the arrow keys or WASD. Two enemies wander, and a ghost follows you.
#[derive(Parser)]
struct Args {
    /// Draw into a picture instead of a window, for tests; `sprites/screenshot+watch` gives it.
    #[arg(long)]
    headless: bool,
    /// Port of 127.0.0.1 for deploys and agents; the variable BRP_EXTRAS_PORT goes before it.
    #[cfg(feature = "dev")]
    #[arg(long, value_name = "PORT", default_value_t = 15702)]
    port: u16,
}

fn main() -> AppExit {
    let args = Args::parse();
    let mut app = App::new();
    let plugins = DefaultPlugins.set(ImagePlugin::default_nearest());
    if args.headless {
        let windows =
            WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
        app.add_plugins(plugins.set(windows).disable::<WinitPlugin>())
            .add_plugins(ScheduleRunnerPlugin::run_loop(Duration::from_secs_f64(1.0 / 60.0)));
    } else {
        let window = Window {
            title: "DGX-Pixels".into(),
            resolution: (view::SIZE * view::SCALE).into(),
            resizable: false,
            ..default()
        };
        app.add_plugins(plugins.set(WindowPlugin { primary_window: Some(window), ..default() }));
    }
    #[cfg(feature = "dev")]
    app.add_plugins(bevy_brp_extras::BrpExtrasPlugin::with_port(args.port));
    app.add_plugins(SpritesPlugin)
        .add_plugins((
            view::plugin(args.headless),
            map::plugin,
            player::plugin,
            enemies::plugin,
            items::plugin,
        ))
        .run()
}
