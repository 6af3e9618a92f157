//! Looks whether the manifest's file is another. Bevy's watcher waits 300 ms, sees no folder that
//! was renamed into its place, and nothing on some network drives; the names of pictures carry
//! their content, so this one file tells of all.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use bevy::prelude::*;
use dgx_pixels_manifest::MANIFEST_PATH;

use crate::sprites::Sprites;

const INTERVAL: Duration = Duration::from_millis(50);

/// The state of the file when it was last looked at.
#[derive(Resource, Default)]
pub(crate) struct Polled {
    at: Option<Instant>,
    stamp: Option<(SystemTime, u64)>,
}

/// Before the first load, so that a file that comes while it runs is seen.
pub(crate) fn begin(mut polled: ResMut<Polled>, sprites: Res<Sprites>) {
    polled.stamp = stamp(&sprites);
}

pub(crate) fn poll(mut polled: ResMut<Polled>, mut sprites: ResMut<Sprites>, server: Res<AssetServer>) {
    // A change during a load is looked at after it.
    if polled.at.is_some_and(|at| at.elapsed() < INTERVAL) || !sprites.is_settled() {
        return;
    }
    let stamp = stamp(&sprites);
    if stamp.is_some() && stamp != polled.stamp {
        sprites.reload(&server);
    }
    *polled = Polled { at: Some(Instant::now()), stamp };
}

fn stamp(sprites: &Sprites) -> Option<(SystemTime, u64)> {
    let data = fs::metadata(sprites.assets.as_ref()?.join(MANIFEST_PATH)).ok()?;
    Some((data.modified().ok()?, data.len()))
}
