//! Slimes go back and forth; the ghost follows the hero, through walls.

use bevy::prelude::*;
use dgx_pixels_bevy::GameSprite;

use crate::items::Coin;
use crate::map;
use crate::player::{self, Hero};

const SLIME_SPEED: f32 = 40.0;
const GHOST_SPEED: f32 = 26.0;

/// Closer than this is caught.
const REACH: f32 = 20.0;

/// Where an enemy begins.
#[derive(Component)]
struct Home(Vec2);

#[derive(Component, Reflect)]
#[reflect(Component)]
enum Enemy {
    Slime { right: bool },
    Ghost,
}

pub(crate) fn plugin(app: &mut App) {
    app.register_type::<Enemy>().add_systems(Startup, spawn).add_systems(Update, (roam, catch).chain());
}

fn spawn(mut commands: Commands) {
    for place in map::places(b's') {
        let slime = Enemy::Slime { right: true };
        commands.spawn((Name::new("slime"), slime, GameSprite::new("enemy_slime"), at(place)));
    }
    for place in map::places(b'g') {
        commands.spawn((Name::new("ghost"), Enemy::Ghost, GameSprite::new("enemy_ghost"), at(place)));
    }
}

fn at(place: Vec2) -> (Home, Transform) {
    (Home(place), Transform::from_translation(place.extend(4.0)))
}

fn roam(
    time: Res<Time>,
    heroes: Query<&Transform, (With<Hero>, Without<Enemy>)>,
    mut enemies: Query<(&mut Enemy, &mut Transform, &mut Sprite)>,
) {
    let Ok(hero) = heroes.single() else { return };
    for (mut enemy, mut place, mut sprite) in &mut enemies {
        let position = place.translation.truncate();
        let next = match &mut *enemy {
            Enemy::Slime { right } => {
                let step = Vec2::X * if *right { 1.0 } else { -1.0 } * SLIME_SPEED * time.delta_secs();
                let is_free = map::is_free(position + step);
                if !is_free {
                    *right = !*right;
                }
                if is_free { position + step } else { position }
            }
            Enemy::Ghost => {
                let way = hero.translation.truncate() - position;
                position + way.normalize_or_zero() * GHOST_SPEED * time.delta_secs()
            }
        };
        if next.x != position.x && sprite.flip_x != (next.x < position.x) {
            sprite.flip_x = next.x < position.x;
        }
        place.translation = next.extend(place.translation.z);
    }
}

/// Whoever is caught begins again, and so do all others.
fn catch(
    mut heroes: Query<&mut Transform, (With<Hero>, Without<Enemy>)>,
    mut enemies: Query<(&Home, &mut Transform), With<Enemy>>,
    mut coins: Query<&mut Coin>,
) {
    let Ok(mut hero) = heroes.single_mut() else { return };
    let place = hero.translation.truncate();
    if enemies.iter().any(|(_, enemy)| enemy.translation.truncate().distance(place) < REACH) {
        hero.translation = player::start().extend(hero.translation.z);
        for (home, mut enemy) in &mut enemies {
            enemy.translation = home.0.extend(enemy.translation.z);
        }
        for mut coin in &mut coins {
            coin.taken = false;
        }
    }
}
