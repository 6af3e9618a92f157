//! The tiles: which there are, and who may walk where.

use bevy::prelude::*;
use dgx_pixels_bevy::GameSprite;

/// Side of a tile in pixels of its sprite.
pub(crate) const TILE: usize = 32;
pub(crate) const WIDTH: usize = 16;
pub(crate) const HEIGHT: usize = 10;

/// `#` stone, `~` water, `.` grass; on grass: `@` the hero, `s` a slime, `g` the ghost, `o` a coin,
/// `p` the potion.
const MAP: [&str; HEIGHT] = [
    "################",
    "#@.....#....o..#",
    "#..o...#.......#",
    "#......#..~~~..#",
    "#..s......~~~..#",
    "#.....o...~~.s.#",
    "####........o..#",
    "#..o...##......#",
    "#.p....##..g..o#",
    "################",
];

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(Startup, spawn_tiles);
}

fn at(x: usize, y: usize) -> u8 {
    MAP[y].as_bytes()[x]
}

/// Where a tile's middle lies; `y` counts from the top, as the map is written.
pub(crate) fn middle(x: usize, y: usize) -> Vec2 {
    let up = HEIGHT - 1 - y;
    Vec2::new(x as f32 + 0.5, up as f32 + 0.5) * TILE as f32
}

/// Middles of all tiles with this sign.
pub(crate) fn places(sign: u8) -> impl Iterator<Item = Vec2> {
    let all = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    all.filter(move |(x, y)| at(*x, *y) == sign).map(|(x, y)| middle(x, y))
}

/// Whether a body around this point stands on ground alone.
pub(crate) fn is_free(position: Vec2) -> bool {
    const HALF: f32 = 10.0;
    let corners =
        [Vec2::new(-HALF, -HALF), Vec2::new(HALF, -HALF), Vec2::new(-HALF, HALF), Vec2::new(HALF, HALF)];
    corners.iter().all(|corner| {
        let tile = ((position + *corner) / TILE as f32).floor().as_ivec2();
        let inside = tile.cmpge(IVec2::ZERO).all() && tile.x < WIDTH as i32 && tile.y < HEIGHT as i32;
        inside && !matches!(at(tile.x as usize, HEIGHT - 1 - tile.y as usize), b'#' | b'~')
    })
}

fn spawn_tiles(mut commands: Commands) {
    for (x, y) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))) {
        let sprite = match at(x, y) {
            b'#' => "tile_stone",
            b'~' => "tile_water",
            _ => "tile_grass",
        };
        commands.spawn((GameSprite::new(sprite), Transform::from_translation(middle(x, y).extend(0.0))));
    }
}
